//! Every type of both versions, whole and in pieces, and the agreement of the scanner with the parser.

use super::super::{Value, parse_value};
use super::*;
use proptest::prelude::*;

/// The outcome of feeding `reply` in pieces that end at `cuts`, then as a whole.
fn fed(reply: &[u8], cuts: &[usize]) -> Result<Option<usize>, ReplyError> {
    let mut scanner = ReplyScanner::new();
    for &cut in cuts.iter().chain([&reply.len()]) {
        let outcome = scanner.scan(&reply[..cut]);
        match outcome {
            Ok(None) => assert!(scanner.expected_len().is_none_or(|len| len > cut)),
            Ok(Some(end)) => {
                assert!(end <= cut, "the end {end} is beyond the {cut} bytes given");
                assert_eq!(scanner.expected_len(), None);
                return outcome;
            }
            Err(_) => return outcome,
        }
    }
    Ok(None)
}

fn ends_at_last_byte(reply: &[u8]) {
    let shown = reply.escape_ascii();
    let every: Vec<usize> = (0..reply.len()).collect();
    assert_eq!(fed(reply, &[]), Ok(Some(reply.len())), "{shown}");
    assert_eq!(
        fed(reply, &every),
        Ok(Some(reply.len())),
        "{shown} byte by byte"
    );
    for cut in every {
        assert_eq!(fed(&reply[..cut], &[]), Ok(None), "{shown} up to {cut}");
        assert_eq!(
            fed(reply, &[cut]),
            Ok(Some(reply.len())),
            "{shown} cut at {cut}"
        );
    }
    let followed = [reply, b"+next\r\n"].concat();
    assert_eq!(
        fed(&followed, &[]),
        Ok(Some(reply.len())),
        "{shown} followed by another"
    );
    assert!(
        matches!(parse_value(reply), Ok(Some((_, end))) if end == reply.len()),
        "{shown} parsed"
    );
}

#[test]
fn scalars_of_both_versions() {
    for reply in [
        &b"+OK\r\n"[..],
        b"+OKAY\r\n",
        b"+\r\n",
        b"+a\rb\nc\r\r\n",
        b"-ERR no such key\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b":0\r\n",
        b":1000\r\n",
        b":-1\r\n",
        b":+7\r\n",
        b":-9223372036854775808\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$11\r\nhello world\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"#t\r\n",
        b"#f\r\n",
        b",1.23\r\n",
        b",-inf\r\n",
        b",nan\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"!21\r\nSYNTAX invalid syntax\r\n",
        b"=15\r\ntxt:Some string\r\n",
        b"=4\r\nmkd:\r\n",
    ] {
        ends_at_last_byte(reply);
    }
}

#[test]
fn aggregates_of_both_versions() {
    for reply in [
        &b"*0\r\n"[..],
        b"*3\r\n$1\r\na\r\n$-1\r\n:3\r\n",
        b"*2\r\n*2\r\n*0\r\n+a\r\n*1\r\n*1\r\n_\r\n",
        b"%2\r\n+first\r\n:1\r\n+second\r\n*2\r\n:1\r\n:2\r\n",
        b"%0\r\n",
        b"~3\r\n+a\r\n#t\r\n,1\r\n",
        b">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n",
        b"*2\r\n=7\r\ntxt:abc\r\n!3\r\nERR\r\n",
    ] {
        ends_at_last_byte(reply);
    }
}

#[test]
fn y5_an_attribute_belongs_to_the_reply_after_it() {
    for reply in [
        &b"|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n"[..],
        b"|0\r\n+OK\r\n",
        b"|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n|1\r\n+c\r\n:3\r\n*1\r\n+v\r\n",
        b"*3\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n",
    ] {
        ends_at_last_byte(reply);
    }
}

#[test]
fn y5_streamed_values_end_where_they_say() {
    for reply in [
        &b"$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;1\r\nd\r\n;0\r\n"[..],
        b"$?\r\n;0\r\n",
        b"*?\r\n:1\r\n:2\r\n:3\r\n.\r\n",
        b"*?\r\n.\r\n",
        b"~?\r\n+a\r\n.\r\n",
        b"%?\r\n+a\r\n:1\r\n+b\r\n*2\r\n:2\r\n:3\r\n.\r\n",
        b"*2\r\n*?\r\n*?\r\n.\r\n%?\r\n.\r\n$?\r\n;1\r\na\r\n;0\r\n*1\r\n+x\r\n.\r\n:9\r\n",
        b"*?\r\n|1\r\n+a\r\n:1\r\n:2\r\n.\r\n",
        b"|1\r\n+a\r\n*?\r\n.\r\n+OK\r\n",
    ] {
        ends_at_last_byte(reply);
    }
}

#[test]
fn bytes_that_are_no_reply_are_refused() {
    use ReplyError::{BrokenStream, InvalidLength, InvalidValue, MissingTerminator, UnknownType};
    for (reply, error) in [
        (&b"x"[..], UnknownType(b'x')),
        (b"\r\n", UnknownType(b'\r')),
        (b"*1\r\n@", UnknownType(b'@')),
        (b"$a", InvalidLength),
        (b"$-2", InvalidLength),
        (b"$\r\n", InvalidLength),
        (b"$01", InvalidLength),
        (b"$1234567890123", InvalidLength),
        (b"$1\rx", InvalidLength),
        (b"!-1\r\n", InvalidLength),
        (b"=?\r\n", InvalidLength),
        (b"*-2", InvalidLength),
        (b"%-1\r\n", InvalidLength),
        (b"~-1\r\n", InvalidLength),
        (b">?\r\n", InvalidLength),
        (b"|?\r\n", InvalidLength),
        (b"|-1\r\n", InvalidLength),
        (b"$3\r\nabcd\r", MissingTerminator),
        (b"$3\r\nabc\n\n", MissingTerminator),
        (b":1x\r\n", InvalidValue),
        (b":\r\n", InvalidValue),
        (b":+-1\r\n", InvalidValue),
        (b":9223372036854775808\r\n", InvalidValue),
        (b"_x\r\n", InvalidValue),
        (b"#T\r\n", InvalidValue),
        (b"#\r\n", InvalidValue),
        (b"=3\r\ntxt\r\n", InvalidValue),
        (b"=5\r\ntxt-a\r\n", InvalidValue),
        (b".\r\n", BrokenStream),
        (b";0\r\n", BrokenStream),
        (b"*1\r\n.\r\n", BrokenStream),
        (b"*?\r\n.\n", BrokenStream),
        (b"*?\r\n*1\r\n.\r\n", BrokenStream),
        (b"*?\r\n|0\r\n.\r\n", BrokenStream),
        (b"%?\r\n+a\r\n.\r\n", BrokenStream),
        (b"$?\r\n+a\r\n", BrokenStream),
        (b"$?\r\n;-1\r\n", InvalidLength),
    ] {
        let every: Vec<usize> = (0..reply.len()).collect();
        assert_eq!(fed(reply, &[]), Err(error), "{}", reply.escape_ascii());
        assert_eq!(
            fed(reply, &every),
            Err(error),
            "{} byte by byte",
            reply.escape_ascii()
        );
        assert_eq!(
            parse_value(reply),
            Err(error),
            "{} parsed",
            reply.escape_ascii()
        );
    }
}

#[test]
fn depth_costs_nothing_but_open_streams_are_bounded() {
    let deep = b"*1\r\n".repeat(1_000_000);
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(&deep), Ok(None));
    assert_eq!(scanner.streams.capacity(), 0);
    assert_eq!(
        scanner.scan(&[&deep[..], b":1\r\n"].concat()),
        Ok(Some(deep.len() + 4))
    );

    let open = |count: usize| fed(&b"*?\r\n".repeat(count), &[]);
    assert_eq!(open(MAX_OPEN_STREAMS), Ok(None));
    assert_eq!(open(MAX_OPEN_STREAMS + 1), Err(ReplyError::TooDeep));
    let closed = [
        b"*?\r\n".repeat(MAX_OPEN_STREAMS),
        b".\r\n".repeat(MAX_OPEN_STREAMS),
    ]
    .concat();
    assert_eq!(fed(&closed, &[]), Ok(Some(closed.len())));
}

#[test]
fn announced_elements_cannot_overflow() {
    assert_eq!(
        fed(&b"%999999999999\r\n".repeat(200), &[]),
        Err(ReplyError::InvalidLength)
    );
}

/// Each of these takes seconds at the least if every call looks at the whole buffer again.
#[test]
fn bytes_seen_are_not_looked_at_again() {
    let line = [b"+".as_slice(), &vec![b'\n'; 1 << 20], b"\r\n"].concat();
    let body = [b"$1048576\r\n".as_slice(), &vec![b'\r'; 1 << 20], b"\r\n"].concat();
    let many = [b"*200000\r\n".as_slice(), &b":1\r\n".repeat(200_000)].concat();
    for reply in [line, body, many] {
        let every: Vec<usize> = (0..reply.len()).collect();
        assert_eq!(fed(&reply, &every), Ok(Some(reply.len())));
    }
}

#[test]
fn expected_len_is_the_end_of_the_string_being_read() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"$1000\r\nab"), Ok(None));
    assert_eq!(scanner.expected_len(), Some(7 + 1000 + 2));
    scanner.reset();
    assert_eq!(scanner.scan(b"*1\r\n+a"), Ok(None));
    assert_eq!(scanner.expected_len(), None);
    scanner.reset();
    assert_eq!(scanner.scan(b"+OK\r\n"), Ok(Some(5)));
}

#[test]
fn a_line_left_half_read_does_not_disturb_the_next_reply() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b":123"), Ok(None));
    assert_eq!(scanner.scan(b":1234\r\n"), Ok(Some(7)));
    assert_eq!(scanner.scan(b"+x\r\n+y\r\n"), Ok(Some(4)));
}

/// A reply in canonical RESP3.
fn scalar() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let string = |kind: &'static str, bytes: Vec<u8>| {
        [
            kind.as_bytes(),
            bytes.len().to_string().as_bytes(),
            b"\r\n",
            &bytes,
            b"\r\n",
        ]
        .concat()
    };
    prop_oneof![
        bytes().prop_map(move |bytes| string("$", bytes)),
        bytes().prop_map(move |bytes| string("!", bytes)),
        bytes().prop_map(move |bytes| string("=", [b"txt:", &bytes[..]].concat())),
        "[-+][ -~]{0,20}\r\n".prop_map(String::into_bytes),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        "[,(]-?[1-9][0-9]{0,30}\r\n".prop_map(String::into_bytes),
        "(_|#t|#f)\r\n".prop_map(String::into_bytes),
    ]
}

/// A reply; with `extras` also the forms a [`Value`] does not keep apart.
fn reply(extras: bool) -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::sample::select(vec![
        &b"$-1\r\n"[..],
        b"*-1\r\n",
        b"$?\r\n;2\r\nab\r\n;0\r\n",
        b"|1\r\n+a\r\n:1\r\n:2\r\n",
    ]);
    let leaf = prop_oneof![4 => scalar(), u32::from(extras) => odd.prop_map(<[u8]>::to_vec)];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        (
            0..if extras { 8 } else { 4 },
            prop::collection::vec((inner.clone(), inner.clone()), 0..4),
            inner,
        )
            .prop_map(|(kind, pairs, last)| {
                let count = pairs.len();
                let flat = pairs
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect::<Vec<_>>()
                    .concat();
                let counted = |kind: &str, count: usize| format!("{kind}{count}\r\n").into_bytes();
                match kind {
                    0 => [counted("*", count * 2), flat].concat(),
                    1 => [counted("~", count * 2), flat].concat(),
                    2 => [counted("%", count), flat].concat(),
                    3 => [counted(">", count * 2 + 1), flat, last].concat(),
                    4 => [counted("|", count), flat, last].concat(),
                    5 => [b"*?\r\n".to_vec(), flat, last, b".\r\n".to_vec()].concat(),
                    6 => [b"%?\r\n".to_vec(), flat, b".\r\n".to_vec()].concat(),
                    _ => [b"~?\r\n".to_vec(), flat, b".\r\n".to_vec()].concat(),
                }
            })
    })
}

/// The canonical RESP3 form of `value`.
fn encode(value: &Value<'_>, out: &mut Vec<u8>) {
    let string = |out: &mut Vec<u8>, head: String, bytes: &[u8]| {
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    };
    let elements = |out: &mut Vec<u8>, kind: char, elements: &[Value<'_>]| {
        out.extend_from_slice(format!("{kind}{}\r\n", elements.len()).as_bytes());
        elements.iter().for_each(|element| encode(element, out));
    };
    match value {
        Value::Simple(text) => string(out, "+".into(), text),
        Value::Error(text) => string(out, "-".into(), text),
        Value::Integer(number) => string(out, format!(":{number}"), b""),
        Value::Bulk(bytes) => string(out, format!("${}\r\n", bytes.len()), bytes),
        Value::BulkError(bytes) => string(out, format!("!{}\r\n", bytes.len()), bytes),
        Value::Verbatim(text) => string(out, format!("={}\r\ntxt:", text.len() + 4), text),
        Value::Null => string(out, "_".into(), b""),
        Value::Boolean(yes) => string(out, if *yes { "#t" } else { "#f" }.into(), b""),
        Value::Double(text) => string(out, ",".into(), text),
        Value::BigNumber(text) => string(out, "(".into(), text),
        Value::Array(inner) => elements(out, '*', inner),
        Value::Set(inner) => elements(out, '~', inner),
        Value::Push(inner) => elements(out, '>', inner),
        Value::Map(pairs) => {
            out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
            for (key, value) in pairs {
                encode(key, out);
                encode(value, out);
            }
        }
        Value::Chunked(_) => panic!("no canonical form"),
    }
}

proptest! {
    #[test]
    fn any_split_of_any_reply_ends_at_its_last_byte(
        reply in reply(true),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(reply.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(fed(&reply, &cuts), Ok(Some(reply.len())));
        let followed = [&reply[..], b"+next\r\n"].concat();
        prop_assert_eq!(fed(&followed, &cuts), Ok(Some(reply.len())));
        prop_assert!(matches!(parse_value(&followed), Ok(Some((_, end))) if end == reply.len()));
    }

    #[test]
    fn a_parsed_reply_writes_back_as_the_same_bytes(reply in reply(false)) {
        let (value, _) = parse_value(&reply).unwrap().unwrap();
        let mut out = Vec::new();
        encode(&value, &mut out);
        prop_assert_eq!(out, reply);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_outcome_of_the_parser(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "*", "$", "%", "~", "|", ">", "=", "!", "?", "+", "-", ":", "_", "#", ",", "(", ".", ";", "\r\n", "\r", "\n", "0", "1", "2", "3", "t",
            "a", "$1\r\na\r\n", ":1\r\n", "*?\r\n", "%?\r\n", ".\r\n", "$?\r\n", ";0\r\n", ";1\r\na\r\n", "|1\r\n", "*2\r\n", "\u{e9}",
        ]), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = tokens.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let outcome = fed(&bytes, &cuts);
        prop_assert_eq!(outcome, fed(&bytes, &[]));
        prop_assert_eq!(outcome, parse_value(&bytes).map(|found| found.map(|(_, end)| end)));
    }
}
