//! Replies byte for byte, compared with redis 7.0.15, 8.2.3 and valkey 9.1.2 where a server gives the same answer.

mod client;
mod cluster;
mod connection;
mod fixture;
mod info;
mod records;
mod sentinel;

use super::{allowed_unauthenticated, parse_integer, write_not_yet};
use crate::command::{Class, TABLE, id};
use fixture::Fixture;

#[test]
fn integers_are_read_as_the_servers_read_them() {
    for (text, value) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("42", Some(42)),
        ("9223372036854775807", Some(i64::MAX)),
    ] {
        assert_eq!(parse_integer(text.as_bytes()), value, "{text}");
    }
    for text in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        " 1",
        "1 ",
        "0x1",
        "9223372036854775808",
        "1.0",
    ] {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn before_authentication_only_these_commands_are_allowed() {
    let allowed: Vec<&str> = TABLE
        .iter()
        .filter(|spec| allowed_unauthenticated(spec))
        .map(|spec| spec.name)
        .collect();
    assert_eq!(allowed, ["auth", "hello", "quit", "reset"]);
}

#[test]
fn a_command_that_is_not_there_yet_says_so() {
    let mut out = Vec::new();
    write_not_yet(id::WATCH.spec(), &mut out);
    assert_eq!(
        out,
        b"-ERR proxy: command 'watch' is not supported by this version of the proxy\r\n"
    );
}

/// Every command of the class has an answer of its own.
#[test]
fn every_local_command_is_answered() {
    for spec in TABLE
        .iter()
        .filter(|spec| spec.class == Class::Local && spec.subcommands == 0)
    {
        let mut words: Vec<&[u8]> = spec.name.split('|').map(str::as_bytes).collect();
        while words.len() < usize::from(spec.arity.unsigned_abs()) {
            words.push(b"1");
        }
        let reply = Fixture::new().run_words(&words);
        let refused = reply.contains("not supported by this version");
        assert!(!refused, "{}: {reply}", spec.name);
        assert!(reply.ends_with("\r\n"), "{}: {reply}", spec.name);
    }
}

#[test]
fn help_is_an_array_of_simple_strings_with_a_title() {
    let containers = TABLE
        .iter()
        .filter(|spec| spec.subcommands > 0 && spec.class != Class::Forbidden);
    for container in containers {
        let reply = Fixture::new().run(&format!("{} HELP", container.name));
        let lines: Vec<&str> = reply.strip_suffix("\r\n").unwrap().split("\r\n").collect();
        assert_eq!(
            lines[0],
            format!("*{}", lines.len() - 1),
            "{}",
            container.name
        );
        let title = format!(
            "+{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            container.name.to_uppercase()
        );
        assert_eq!(lines[1], title);
        assert!(
            lines[1..].iter().all(|line| line.starts_with('+')),
            "{}",
            container.name
        );
        assert_eq!(lines[lines.len() - 2..], ["+HELP", "+    Print this help."]);
    }
}
