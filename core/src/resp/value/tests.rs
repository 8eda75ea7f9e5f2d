//! Values of each type. That the parser and the scanner agree on where a reply ends is tested with the scanner.

use super::*;

fn parsed(bytes: &[u8]) -> Value<'_> {
    match parse_value(bytes) {
        Ok(Some((value, end))) if end == bytes.len() => value,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn every_type_has_its_value() {
    for (bytes, value) in [
        (&b"+OK\r\n"[..], Value::Simple(b"OK")),
        (b"-ERR no\r\n", Value::Error(b"ERR no")),
        (b":-42\r\n", Value::Integer(-42)),
        (b":+42\r\n", Value::Integer(42)),
        (b"$2\r\n\r\n\r\n", Value::Bulk(b"\r\n")),
        (b"$-1\r\n", Value::Null),
        (b"*-1\r\n", Value::Null),
        (b"_\r\n", Value::Null),
        (b"#t\r\n", Value::Boolean(true)),
        (b"#f\r\n", Value::Boolean(false)),
        (b",inf\r\n", Value::Double(b"inf")),
        (b"(12\r\n", Value::BigNumber(b"12")),
        (b"!3\r\nERR\r\n", Value::BulkError(b"ERR")),
        (b"=8\r\ntxt:text\r\n", Value::Verbatim(b"text")),
        (
            b"*2\r\n:1\r\n*0\r\n",
            Value::Array(vec![Value::Integer(1), Value::Array(vec![])]),
        ),
        (b"~1\r\n:1\r\n", Value::Set(vec![Value::Integer(1)])),
        (b">1\r\n:1\r\n", Value::Push(vec![Value::Integer(1)])),
        (
            b"%1\r\n+k\r\n+v\r\n",
            Value::Map(vec![(Value::Simple(b"k"), Value::Simple(b"v"))]),
        ),
    ] {
        assert_eq!(parsed(bytes), value, "{}", bytes.escape_ascii());
    }
}

#[test]
fn y5_streamed_values_and_attributes_are_understood() {
    assert_eq!(
        parsed(b"$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n"),
        Value::Chunked(vec![b"ab", b"c"])
    );
    assert_eq!(
        parsed(b"*?\r\n:1\r\n.\r\n"),
        Value::Array(vec![Value::Integer(1)])
    );
    assert_eq!(parsed(b"~?\r\n.\r\n"), Value::Set(vec![]));
    assert_eq!(
        parsed(b"%?\r\n:1\r\n:2\r\n.\r\n"),
        Value::Map(vec![(Value::Integer(1), Value::Integer(2))])
    );
    assert_eq!(
        parsed(b"|1\r\n+a\r\n*1\r\n:1\r\n*1\r\n|0\r\n:2\r\n"),
        Value::Array(vec![Value::Integer(2)])
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| [b"*1\r\n".repeat(levels), b":1\r\n".to_vec()].concat();
    assert!(matches!(parse_value(&nested(MAX_VALUE_DEPTH)), Ok(Some(_))));
    assert_eq!(
        parse_value(&nested(MAX_VALUE_DEPTH + 1)),
        Err(ReplyError::TooDeep)
    );
    assert_eq!(
        parse_value(&b"|1\r\n".repeat(1_000_000)),
        Err(ReplyError::TooDeep)
    );
    // Attributes side by side are not nested.
    assert!(matches!(
        parse_value(&[&b"|0\r\n".repeat(100_000)[..], b":1\r\n"].concat()),
        Ok(Some((Value::Integer(1), _)))
    ));
}

#[test]
fn an_announcement_alone_allocates_nothing() {
    let parser = Parser {
        buf: b"*999999999999\r\n:1\r\n",
        pos: 15,
    };
    assert_eq!(parser.plausible_count(999_999_999_999), 1);
    assert_eq!(parser.plausible_count(0), 0);
    assert_eq!(parse_value(b"*999999999999\r\n:1\r\n"), Ok(None));
    assert_eq!(parse_value(b"%999999999999\r\n:1\r\n"), Ok(None));
}
