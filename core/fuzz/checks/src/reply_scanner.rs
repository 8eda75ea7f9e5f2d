//! Any bytes a node sends: no panic, no end beyond the buffer, the same end however the bytes are cut, and the end the parser
//! finds.
//!
//! Input: one byte for the length of the pieces, then the stream.

use slotway_core::resp::{ReplyError, ReplyScanner, parse_value};

/// The ends of the replies in `stream`, and the error that followed them.
fn ends(stream: &[u8], piece: usize) -> (Vec<usize>, Option<ReplyError>) {
    let mut scanner = ReplyScanner::new();
    let mut ends = Vec::new();
    let (mut start, mut end) = (0, 0);
    while end < stream.len() {
        end = stream.len().min(end + piece);
        loop {
            let buf = &stream[start..end];
            match scanner.scan(buf) {
                Ok(None) => break,
                Ok(Some(len)) => {
                    assert!(len > 0 && len <= buf.len());
                    start += len;
                    ends.push(start);
                }
                Err(error) => return (ends, Some(error)),
            }
        }
    }
    (ends, None)
}

/// The check of this target.
pub fn check(data: &[u8]) {
    let [piece, stream @ ..] = data else { return };
    let whole = ends(stream, stream.len().max(1));
    assert_eq!(whole, ends(stream, usize::from(*piece).max(1)));
    let (found, error) = whole;
    let mut start = 0;
    for end in found {
        match parse_value(&stream[start..]) {
            Ok(Some((_, len))) => assert_eq!(start + len, end),
            // The parser follows fewer levels than the scanner.
            Err(ReplyError::TooDeep) => {}
            other => panic!("{other:?}"),
        }
        start = end;
    }
    match parse_value(&stream[start..]) {
        Ok(None) => assert_eq!(error, None),
        Ok(Some(_)) => panic!("the scanner has missed a reply: {error:?}"),
        Err(ReplyError::TooDeep) => {}
        Err(other) => assert_eq!(error, Some(other)),
    }
}
