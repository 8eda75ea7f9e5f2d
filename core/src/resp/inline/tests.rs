//! The lines and their meaning are what redis-server 7.0 takes them for.

use super::*;

fn split(line: &[u8]) -> Result<Vec<u8>, RequestError> {
    let mut out = Vec::new();
    let argc = inline_to_resp(line, &mut out)?;
    assert_eq!(argc == 0, out.is_empty());
    Ok(out)
}

fn resp(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    if !args.is_empty() {
        write::command(&mut out, args);
    }
    out
}

#[test]
fn y6_words_and_quotes_are_split_as_servers_do() {
    let cases: &[(&[u8], &[&[u8]])] = &[
        (b"", &[]),
        (b" \t\r\x0b\x0c ", &[]),
        (b"PING", &[b"PING"]),
        (b"  SET\tkey   value ", &[b"SET", b"key", b"value"]),
        (b"PING \"a\" ", &[b"PING", b"a"]),
        (b"PING a\"b c\"", &[b"PING", b"ab c"]),
        (b"PING a'b c'", &[b"PING", b"ab c"]),
        (b"PING \"\"", &[b"PING", b""]),
        (b"PING ''", &[b"PING", b""]),
        (b"PING \"\\x41\\xzz\\n\\q\"", &[b"PING", b"Axzz\nq"]),
        (b"PING \"\\x4\"", &[b"PING", b"x4"]),
        (
            b"PING \"\\xfF\\x00\\r\\t\\b\\a\\\\\\\"\"",
            &[b"PING", b"\xff\0\r\t\x08\x07\\\""],
        ),
        (b"PING 'a\\'b\\n'", &[b"PING", b"a'b\\n"]),
        (b"PING \\n\\x41", &[b"PING", b"\\n\\x41"]),
        (b"PING a\rb", &[b"PING", b"a", b"b"]),
        (b"PING a\x0bb", &[b"PING", b"a\x0bb"]),
        (b"PING \x0ba\x0c", &[b"PING", b"a\x0c"]),
        (b"PING \"a\"\x0b", &[b"PING", b"a"]),
        (
            b"PING \xff\x80\xa0x \x85",
            &[b"PING", b"\xff\x80\xa0x", b"\x85"],
        ),
        // A string that ends there, for the servers.
        (b"PING a\0b c", &[b"PING", b"a"]),
    ];
    for (line, args) in cases {
        assert_eq!(split(line), Ok(resp(args)), "{}", line.escape_ascii());
    }
}

#[test]
fn y6_unbalanced_quotes_are_refused() {
    for line in [
        &b"PING \"a"[..],
        b"PING 'a",
        b"PING \"a\"b",
        b"PING 'a'b",
        b"PING \"a\\\"",
        b"PING \"a\\",
        b"''''",
        b"\"",
        b"'",
        b"PING \"a\0\"",
    ] {
        let mut out = b"kept".to_vec();
        assert_eq!(
            inline_to_resp(line, &mut out),
            Err(RequestError::UnbalancedQuotes),
            "{}",
            line.escape_ascii()
        );
        assert_eq!(out, b"kept");
    }
    let mut out = Vec::new();
    RequestError::UnbalancedQuotes.write_reply(&mut out);
    assert_eq!(
        out,
        b"-ERR Protocol error: unbalanced quotes in request\r\n"
    );
}
