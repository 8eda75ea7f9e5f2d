//! RESP as the played clients and nodes speak it: the end of a request or reply, and the marks they carry. Written independently of the
//! code under test.

/// A request on the wire: its arguments and its length, or `None` if more bytes are needed or they are no request.
pub(super) fn parse_request(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let (count, mut at) = header(bytes, 0, b'*')?;
    let mut arguments = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, start) = header(bytes, at, b'$')?;
        arguments.push(bytes.get(start..start + length)?);
        at = start + length + 2;
    }
    (at <= bytes.len()).then_some((arguments, at))
}

/// The number in a header line such as `$12`, and where the next byte is.
fn header(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    if *bytes.get(at)? != mark {
        return None;
    }
    let (line, end) = line(bytes, at)?;
    Some((number(line.get(1..)?)?, end))
}

/// The line at `at` without its end, and where the next one starts.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    (end > 0).then(|| (&rest[..end - 1], at + end + 1))
}

/// A decimal number without sign.
pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The length of the reply at the start of `bytes`; `Ok(None)` if more bytes are needed.
pub(super) fn reply_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    end_of_reply(bytes, 0)
}

fn end_of_reply(bytes: &[u8], at: usize) -> Result<Option<usize>, String> {
    let Some((line, next)) = line(bytes, at) else {
        return Ok(None);
    };
    let Some((mark, rest)) = line.split_first() else {
        return Err("an empty line instead of a reply".to_owned());
    };
    let items = match mark {
        b'+' | b'-' | b':' | b'_' | b',' | b'(' | b'#' => return Ok(Some(next)),
        b'$' | b'=' | b'!' if rest == b"-1" => return Ok(Some(next)),
        b'$' | b'=' | b'!' => {
            let length: usize = number(rest).ok_or("a bad length")?;
            return Ok((next + length + 2 <= bytes.len()).then_some(next + length + 2));
        }
        b'*' | b'~' | b'>' if rest == b"-1" => 0,
        b'*' | b'~' | b'>' => number(rest).ok_or("a bad length")?,
        b'%' => number::<usize>(rest).ok_or("a bad length")? * 2,
        // An attribute belongs to the reply behind it.
        b'|' => number::<usize>(rest).ok_or("a bad length")? * 2 + 1,
        other => return Err(format!("{:?} is no reply type", char::from(*other))),
    };
    let mut at = next;
    for _ in 0..items {
        match end_of_reply(bytes, at)? {
            Some(end) => at = end,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// What a node puts into a reply: which request it answers, by which execution, and for which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) request: usize,
    pub(super) execution: u64,
    pub(super) key: usize,
}

impl Mark {
    pub(super) fn text(self) -> String {
        format!("~{}:{}:{}~", self.request, self.execution, self.key)
    }

    /// All marks in `reply`, in order.
    pub(super) fn find(reply: &[u8]) -> Vec<Self> {
        let mut parts = reply.split(|byte| *byte == b'~');
        let mut marks = Vec::new();
        // Text before, mark, text between, mark, ...
        parts.next();
        while let (Some(mark), Some(_)) = (parts.next(), parts.next()) {
            let mut fields = mark.split(|byte| *byte == b':');
            let mut next = || number::<u64>(fields.next()?);
            let (Some(request), Some(execution), Some(key)) = (next(), next(), next()) else {
                continue;
            };
            let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            marks.push(Self {
                request: small(request),
                execution,
                key: small(key),
            });
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_where_they_end() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1";
        let (arguments, length) = parse_request(bytes).unwrap();
        assert_eq!(
            (arguments, length),
            (vec![&b"GET"[..], b"k"], bytes.len() - 2)
        );
        for end in 0..bytes.len() - 2 {
            assert!(parse_request(&bytes[..end]).is_none());
        }
    }

    #[test]
    fn replies_end_where_they_end() {
        for reply in [
            &b"+OK\r\n"[..],
            b"$-1\r\n",
            b"$2\r\n\r\n\r\n",
            b"*2\r\n:1\r\n*-1\r\n",
            b"|1\r\n+a\r\n+b\r\n%1\r\n+c\r\n_\r\n",
        ] {
            assert_eq!(reply_length(reply), Ok(Some(reply.len())));
            for end in 0..reply.len() {
                assert_eq!(reply_length(&reply[..end]), Ok(None));
            }
        }
        assert!(reply_length(b"?\r\n").is_err());
    }

    #[test]
    fn marks_are_found_again() {
        let marks = [
            Mark {
                request: 3,
                execution: 9,
                key: 1,
            },
            Mark {
                request: 4,
                execution: 10,
                key: 0,
            },
        ];
        let reply = format!(
            "*2\r\n+{}\r\n$10\r\n{}\r\n",
            marks[0].text(),
            marks[1].text()
        );
        assert_eq!(Mark::find(reply.as_bytes()), marks);
    }
}
