//! Requests as servers take them; the errors are what redis-server 7.0 answers to the same bytes.

use super::super::{Args, inline_to_resp, write};
use super::*;
use proptest::prelude::*;

/// What one call found, in a form that does not depend on the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Skip,
    Inline(Vec<u8>),
    Command(Vec<Vec<u8>>),
    Error(RequestError),
    /// The stream ended with so many bytes of a request.
    Rest(usize),
}

/// Feeds `stream` in pieces that end at `cuts`, as a connection would, and checks that no step claims bytes that are not there.
fn events(stream: &[u8], cuts: &[usize], limits: &RequestLimits) -> Vec<Event> {
    let mut decoder = RequestDecoder::new();
    let mut events = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        loop {
            let buf = &stream[start..cut];
            let (event, len) = match decoder.decode(buf, limits) {
                Ok(DecodeStep::Incomplete) => {
                    assert!(decoder.expected_len().is_none_or(|len| len > buf.len()));
                    break;
                }
                Ok(DecodeStep::Skip { len }) => (Event::Skip, len),
                Ok(DecodeStep::Inline { line_len, len }) => {
                    assert!(line_len < len && line_len > 0);
                    (Event::Inline(buf[..line_len].to_vec()), len)
                }
                Ok(DecodeStep::Command { len }) => {
                    let args = Args::new(&buf[..len], decoder.ranges());
                    (
                        Event::Command(args.iter().map(<[u8]>::to_vec).collect()),
                        len,
                    )
                }
                Err(error) => {
                    events.push(Event::Error(error));
                    return events;
                }
            };
            assert!(len > 0 && len <= buf.len());
            events.push(event);
            start += len;
        }
    }
    events.push(Event::Rest(stream.len() - start));
    events
}

fn whole(stream: &[u8]) -> Vec<Event> {
    events(stream, &[], &RequestLimits::DEFAULT)
}

/// `stream` in one piece, byte by byte and cut once at each place, which must all be the same.
fn checked(stream: &[u8], limits: &RequestLimits) -> Vec<Event> {
    let expected = events(stream, &[], limits);
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(events(stream, &every, limits), expected, "byte by byte");
    for cut in every {
        assert_eq!(events(stream, &[cut], limits), expected, "cut at {cut}");
    }
    expected
}

fn command(args: &[&[u8]]) -> Event {
    Event::Command(args.iter().map(|arg| arg.to_vec()).collect())
}

fn reply(error: RequestError) -> Vec<u8> {
    let mut out = Vec::new();
    error.write_reply(&mut out);
    out
}

#[test]
fn a_request_is_found_with_its_arguments() {
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\n\0x\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n";
    assert_eq!(
        checked(stream, &RequestLimits::DEFAULT),
        [
            command(&[b"SET", b"k", b"v\r\n\0x"]),
            command(&[b"PING"]),
            command(&[b"GET", b""]),
            Event::Rest(0)
        ]
    );
}

#[test]
fn y7_empty_requests_are_skipped() {
    for (stream, skips) in [
        (&b"*0\r\n"[..], 1),
        (b"*-1\r\n", 1),
        (b"*-9999999999\r\n", 1),
        (b"\r\n", 1),
        (b"\n\n\r\n\n", 4),
        (b"*0\r\n\r\n*-1\r\n", 3),
    ] {
        let mut expected = vec![Event::Skip; skips];
        expected.extend([command(&[b"PING"]), Event::Rest(0)]);
        let stream = [stream, b"*1\r\n$4\r\nPING\r\n"].concat();
        assert_eq!(
            checked(&stream, &RequestLimits::DEFAULT),
            expected,
            "{}",
            stream.escape_ascii()
        );
    }
}

#[test]
fn y6_inline_requests_are_found_with_and_without_cr() {
    for (stream, line) in [
        (&b"PING\r\n"[..], &b"PING"[..]),
        (b"PING\n", b"PING"),
        (b"SET a \"b c\"\r\n", b"SET a \"b c\""),
        (b"  \r\n", b"  "),
        (b"\r\r\n", b"\r"),
        (b" *1\r\n", b" *1"),
        (b"$4\r\n", b"$4"),
        (b"PING \0x\n", b"PING \0x"),
    ] {
        assert_eq!(
            checked(stream, &RequestLimits::DEFAULT),
            [Event::Inline(line.to_vec()), Event::Rest(0)],
            "{}",
            stream.escape_ascii()
        );
    }
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

#[test]
fn an_unfinished_line_is_no_error_yet() {
    for stream in [
        &b"*a"[..],
        b"*-0",
        b"*1\r",
        b"*1\r\nx",
        b"*1\r\nx\r",
        b"*1\r\n$-1",
        b"*1\n$4\nPING\n",
        b"PING",
        b"*1\r\n$4\r\nPING\r",
    ] {
        assert_eq!(
            checked(stream, &RequestLimits::DEFAULT),
            [Event::Rest(stream.len())],
            "{}",
            stream.escape_ascii()
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

#[test]
fn a_count_from_the_wire_allocates_nothing() {
    let mut decoder = RequestDecoder::new();
    assert_eq!(
        decoder.decode(b"*1048576\r\n$3\r\nDEL\r\n", &RequestLimits::DEFAULT),
        Ok(DecodeStep::Incomplete)
    );
    assert!(decoder.ranges.capacity() <= 4);
}

#[test]
fn a_huge_request_does_not_keep_its_memory() {
    let mut decoder = RequestDecoder::new();
    let mut stream = Vec::new();
    write::command(&mut stream, &vec![&b"a"[..]; 4 * KEPT_RANGES]);
    assert_eq!(
        decoder.decode(&stream, &RequestLimits::DEFAULT),
        Ok(DecodeStep::Command { len: stream.len() })
    );
    assert_eq!(decoder.ranges().len(), 4 * KEPT_RANGES);
    assert!(
        decoder
            .decode(b"*1\r\n$4\r\nPING\r\n", &RequestLimits::DEFAULT)
            .is_ok()
    );
    assert!(decoder.ranges.capacity() <= 4);
}

/// Each of these takes seconds at the least if every call looks at the whole buffer again.
#[test]
fn bytes_seen_are_not_looked_at_again() {
    let mut body = Vec::new();
    write::command(&mut body, &[b"SET", b"k", &vec![b'\n'; 1 << 20]]);
    let mut many = Vec::new();
    write::command(&mut many, &vec![&b"x"[..]; 100_000]);
    let bad_line = [b"*x".as_slice(), &vec![b'1'; 60_000], b"\r\n"].concat();
    let inline = [vec![b'i'; 60_000], b"\n".to_vec()].concat();
    for stream in [body, many, bad_line, inline] {
        let every: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(
            events(&stream, &every, &RequestLimits::DEFAULT),
            whole(&stream)
        );
    }
}

#[test]
fn expected_len_is_the_end_of_the_argument_being_read() {
    let mut decoder = RequestDecoder::new();
    assert_eq!(decoder.expected_len(), None);
    assert_eq!(
        decoder.decode(b"*2\r\n$3\r\nGET\r\n$100\r\nabc", &RequestLimits::DEFAULT),
        Ok(DecodeStep::Incomplete)
    );
    assert_eq!(decoder.expected_len(), Some(19 + 100 + 2));
    decoder.reset();
    assert_eq!(decoder.expected_len(), None);
    assert_eq!(
        decoder.decode(b"\n", &RequestLimits::DEFAULT),
        Ok(DecodeStep::Skip { len: 1 })
    );
}

/// A request and what it is decoded to.
fn any_request() -> impl Strategy<Value = (Vec<u8>, Event)> {
    let args = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12);
    prop_oneof![
        8 => args.prop_map(|args| {
            let mut bytes = Vec::new();
            write::command(&mut bytes, &args.iter().map(Vec::as_slice).collect::<Vec<_>>());
            (bytes, Event::Command(args))
        }),
        2 => "[A-Za-z][ -~]{0,40}".prop_map(|line| (format!("{line}\r\n").into_bytes(), Event::Inline(line.into_bytes()))),
        1 => prop::sample::select(vec![&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n"]).prop_map(|bytes| (bytes.to_vec(), Event::Skip)),
    ]
}

/// Bytes that get past the first byte more often than random ones.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*1\r\n".to_vec()),
        Just(b"*2\r\n$1\r\n".to_vec()),
        Just(b"$3\r\n".to_vec()),
        prop::sample::select(b"*$0123456789-\r\n\0x\"' ".to_vec()).prop_map(|byte| vec![byte]),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_split_of_a_valid_stream_gives_the_same_requests(
        requests in prop::collection::vec(any_request(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut expected: Vec<Event> = requests.into_iter().map(|(_, event)| event).collect();
        expected.push(Event::Rest(0));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(events(&stream, &cuts, &RequestLimits::DEFAULT), expected);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_outcome(
        stream in likely_bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let limits = RequestLimits { max_args: 12, max_bulk_bytes: 40, max_inline_bytes: 30, max_request_bytes: 60, authenticated: true };
        for limits in [limits, limits.unauthenticated()] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(events(&stream, &cuts, &limits), events(&stream, &[], &limits));
        }
    }

    #[test]
    fn an_inline_request_becomes_a_canonical_one(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = b"before".to_vec();
        match inline_to_resp(&line, &mut out) {
            Ok(0) | Err(_) => prop_assert_eq!(out, b"before"),
            Ok(argc) => match &whole(&out[6..])[..] {
                [Event::Command(args), Event::Rest(0)] => prop_assert_eq!(args.len(), argc),
                other => prop_assert!(false, "{:?}", other),
            },
        }
    }
}
