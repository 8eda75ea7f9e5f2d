//! Requests as servers take them; the errors are what redis-server 7.0 answers to the same bytes.
//!
//! Here: what a request is, and what reading one may cost.

mod refused;
mod splits;

use super::super::{Args, inline_to_resp, write};
use super::*;

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
