//! What is no request, or too big for one, is refused in the servers' words.

use super::*;

fn reply(error: RequestError) -> Vec<u8> {
    let mut out = Vec::new();
    error.write_reply(&mut out);
    out
}

#[test]
fn malformed_requests_are_answered_as_servers_do() {
    let cases: &[(&[u8], &str)] = &[
        (b"*a\r\n", "invalid multibulk length"),
        (b"*1a\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*-99999999999999999999\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\n$4\nPING\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$a\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        (b"*2\r\n$1\r\na\r\nx\r\n", "expected '$', got 'x'"),
        (b"*1\r\n:4\r\n", "expected '$', got ':'"),
        // The byte would end the reply early: servers show a blank instead.
        (b"*1\r\n\r\n", "expected '$', got ' '"),
        (b"*1\r\n\n\r\n", "expected '$', got ' '"),
    ];
    for (stream, text) in cases {
        let events = checked(stream, &RequestLimits::DEFAULT);
        let [Event::Error(error)] = events[..] else {
            panic!("{}: {events:?}", stream.escape_ascii())
        };
        assert_eq!(
            reply(error),
            format!("-ERR Protocol error: {text}\r\n").as_bytes(),
            "{}",
            stream.escape_ascii()
        );
    }
    assert_eq!(
        reply(RequestError::ExpectedBulk(0xff)),
        b"-ERR Protocol error: expected '$', got '\xff'\r\n"
    );
    assert_eq!(
        RequestError::ExpectedBulk(b'x').to_string(),
        "expected '$', got 'x'"
    );
}

#[test]
fn every_error_has_the_text_of_the_servers() {
    for (error, text) in [
        (
            RequestError::InvalidMultibulkLength,
            "invalid multibulk length",
        ),
        (RequestError::InvalidBulkLength, "invalid bulk length"),
        (RequestError::TooBigInline, "too big inline request"),
        (
            RequestError::TooBigMultibulkLine,
            "too big mbulk count string",
        ),
        (RequestError::TooBigBulkLine, "too big bulk count string"),
        (
            RequestError::UnauthenticatedMultibulk,
            "unauthenticated multibulk length",
        ),
        (
            RequestError::UnauthenticatedBulk,
            "unauthenticated bulk length",
        ),
        (
            RequestError::UnbalancedQuotes,
            "unbalanced quotes in request",
        ),
    ] {
        assert_eq!(
            reply(error),
            format!("-ERR Protocol error: {text}\r\n").as_bytes()
        );
    }
}

/// Servers skip these two bytes unseen; see the module's documentation.
#[test]
fn a_request_has_to_be_delimited_by_crlf() {
    for (stream, error) in [
        (
            &b"*1\rX$4\r\nPING\r\n"[..],
            RequestError::InvalidMultibulkLength,
        ),
        (b"*-1\rX", RequestError::InvalidMultibulkLength),
        (b"*1\r\n$4\rXPING\r\n", RequestError::InvalidBulkLength),
        (b"*1\r\n$4\r\nPINGXX", RequestError::InvalidBulkLength),
        (b"*1\r\n$3\r\nPING\r\n", RequestError::InvalidBulkLength),
    ] {
        assert_eq!(
            checked(stream, &RequestLimits::DEFAULT),
            [Event::Error(error)],
            "{}",
            stream.escape_ascii()
        );
    }
}

#[test]
fn y6_an_unauthenticated_client_may_send_little() {
    let check = |stream: &[u8]| checked(stream, &RequestLimits::UNAUTHENTICATED);
    assert_eq!(check(b"*10\r\n"), [Event::Rest(5)]);
    assert_eq!(
        check(b"*11\r\n"),
        [Event::Error(RequestError::UnauthenticatedMultibulk)]
    );
    assert_eq!(
        check(b"*2147483647\r\n"),
        [Event::Error(RequestError::UnauthenticatedMultibulk)]
    );
    assert_eq!(
        check(b"*2147483648\r\n"),
        [Event::Error(RequestError::InvalidMultibulkLength)]
    );
    assert_eq!(check(b"*1\r\n$16384\r\n"), [Event::Rest(12)]);
    assert_eq!(
        check(b"*1\r\n$16385\r\n"),
        [Event::Error(RequestError::UnauthenticatedBulk)]
    );
    assert_eq!(
        check(b"*1\r\n$536870913\r\n"),
        [Event::Error(RequestError::InvalidBulkLength)]
    );
    assert_eq!(
        reply(RequestError::UnauthenticatedMultibulk),
        b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    );
    assert_eq!(
        reply(RequestError::UnauthenticatedBulk),
        b"-ERR Protocol error: unauthenticated bulk length\r\n"
    );
    // Stricter limits of the configuration stay in force.
    let strict = RequestLimits {
        max_bulk_bytes: 100,
        ..RequestLimits::DEFAULT
    }
    .unauthenticated();
    assert_eq!(
        checked(b"*1\r\n$101\r\n", &strict),
        [Event::Error(RequestError::UnauthenticatedBulk)]
    );
}

#[test]
fn y6_lines_without_an_end_are_refused_at_64_kib() {
    let limit = RequestLimits::DEFAULT.max_inline_bytes as usize;
    let line = |prefix: &str, len: usize, end: &str| format!("{prefix}{}{end}", "1".repeat(len));
    for (prefix, first, error) in [
        ("", 0, RequestError::TooBigInline),
        ("*", 1, RequestError::TooBigMultibulkLine),
        ("*1\r\n$", 1, RequestError::TooBigBulkLine),
        ("*1\r\nx", 1, RequestError::TooBigBulkLine),
    ] {
        let longest = line(prefix, limit - first, "");
        assert_eq!(
            whole(longest.as_bytes()),
            [Event::Rest(longest.len())],
            "{prefix:?}"
        );
        for end in ["", "\r\n", "\n"] {
            let longer = line(prefix, limit - first + 1, end);
            assert_eq!(
                whole(longer.as_bytes()),
                [Event::Error(error)],
                "{prefix:?}, {end:?}"
            );
        }
    }
    let longest = line("", limit, "\n");
    assert_eq!(whole(longest.as_bytes()).len(), 2);
}

#[test]
fn a_request_above_the_limit_is_refused_before_it_arrives() {
    let limits = RequestLimits {
        max_request_bytes: 40,
        ..RequestLimits::DEFAULT
    };
    let fits = b"*2\r\n$3\r\nGET\r\n$20\r\n01234567890123456789\r\n";
    assert_eq!(fits.len(), 40);
    assert_eq!(checked(fits, &limits).len(), 2);
    assert_eq!(
        checked(b"*2\r\n$3\r\nGET\r\n$21\r\n", &limits),
        [Event::Error(RequestError::TooBigRequest)]
    );
}
