//! Any bytes a client sends: no panic, no step beyond the buffer, and the same requests however the bytes are cut.
//!
//! Input: one byte for the limits, one for the length of the pieces, then the stream.

use slotway_core::resp::{
    Args, DecodeStep, RequestDecoder, RequestError, RequestLimits, inline_to_resp,
};

/// What one call found, in a form that does not depend on the buffer.
#[derive(Debug, PartialEq)]
enum Event {
    Skip(usize),
    Inline(Vec<u8>, usize),
    Command(Vec<Vec<u8>>, usize),
    Error(RequestError),
}

fn events(stream: &[u8], piece: usize, limits: &RequestLimits) -> Vec<Event> {
    let mut decoder = RequestDecoder::new();
    let mut events = Vec::new();
    let (mut start, mut end) = (0, 0);
    while end < stream.len() {
        end = stream.len().min(end + piece);
        loop {
            let buf = &stream[start..end];
            let (event, len) = match decoder.decode(buf, limits) {
                Ok(DecodeStep::Incomplete) => break,
                Ok(DecodeStep::Skip { len }) => (Event::Skip(len), len),
                Ok(DecodeStep::Inline { line_len, len }) => {
                    assert!(line_len < len);
                    (Event::Inline(buf[..line_len].to_vec(), len), len)
                }
                Ok(DecodeStep::Command { len }) => {
                    let request = &buf[..len];
                    for range in decoder.ranges() {
                        let after = (range.start + range.len) as usize;
                        assert_eq!(&request[after..after + 2], b"\r\n");
                    }
                    let args = Args::new(request, decoder.ranges());
                    assert!(!args.is_empty() && args.len() <= limits.max_args as usize);
                    (
                        Event::Command(args.iter().map(<[u8]>::to_vec).collect(), len),
                        len,
                    )
                }
                Err(error) => {
                    let mut reply = Vec::new();
                    error.write_reply(&mut reply);
                    assert!(
                        reply.starts_with(b"-ERR Protocol error: ") && reply.ends_with(b"\r\n")
                    );
                    assert_eq!(reply.iter().filter(|byte| **byte == b'\n').count(), 1);
                    events.push(Event::Error(error));
                    return events;
                }
            };
            assert!(len > 0 && len <= buf.len() && len <= limits.max_request_bytes as usize);
            events.push(event);
            start += len;
        }
    }
    events
}

/// An inline request means the arguments of the request it is turned into.
fn check_inline(line: &[u8]) {
    let mut out = Vec::new();
    match inline_to_resp(line, &mut out) {
        Ok(0) | Err(_) => assert!(out.is_empty()),
        Ok(argc) => match &events(&out, out.len(), &RequestLimits::DEFAULT)[..] {
            [Event::Command(args, len)] => assert_eq!((args.len(), *len), (argc, out.len())),
            other => panic!("{other:?}"),
        },
    }
}

/// The check of this target.
pub fn check(data: &[u8]) {
    let [limits, piece, stream @ ..] = data else {
        return;
    };
    let small = RequestLimits {
        max_args: 12,
        max_bulk_bytes: 40,
        max_inline_bytes: 30,
        max_request_bytes: 120,
        authenticated: true,
    };
    let limits = match limits % 4 {
        0 => RequestLimits::DEFAULT,
        1 => RequestLimits::UNAUTHENTICATED,
        2 => small,
        _ => small.unauthenticated(),
    };
    let whole = events(stream, stream.len().max(1), &limits);
    assert_eq!(whole, events(stream, usize::from(*piece).max(1), &limits));
    for event in &whole {
        if let Event::Inline(line, _) = event {
            check_inline(line);
        }
    }
    check_inline(stream);
}
