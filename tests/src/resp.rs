//! RESP2 and RESP3, written independently of the code under test: a whole-value parser and a request encoder.

use anyhow::{Context, Result, bail, ensure};

/// One reply of a server or of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`
    Simple(String),
    /// `-text`, or a RESP3 blob error; the text without the mark
    Error(String),
    /// `:n`
    Int(i64),
    /// `$n`, or a RESP3 verbatim string with its format prefix
    Bulk(Vec<u8>),
    /// `$-1` or `_`
    Nil,
    /// `*-1`
    NilArray,
    /// `*n`
    Array(Vec<Reply>),
    /// `%n`
    Map(Vec<(Reply, Reply)>),
    /// `~n`
    Set(Vec<Reply>),
    /// `>n`
    Push(Vec<Reply>),
    /// `,x`
    Double(String),
    /// `#t` or `#f`
    Bool(bool),
    /// `(n`
    BigNumber(String),
}

impl Reply {
    /// The text of a string, number or bulk; a server's error becomes an error.
    ///
    /// # Errors
    /// For error replies, nils and aggregates.
    pub fn text(&self) -> Result<String> {
        Ok(match self {
            Self::Simple(text) | Self::Double(text) | Self::BigNumber(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => bail!("no text: {other:?}"),
        })
    }

    /// The reply as text for a person: nothing is left out but the types of texts.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => {
                let items: Vec<String> = items.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            other => other.text().unwrap_or_else(|_| format!("{other:?}")),
        }
    }

    /// The number of an integer reply.
    ///
    /// # Errors
    /// For any other reply.
    pub fn int(&self) -> Result<i64> {
        match self {
            Self::Int(number) => Ok(*number),
            other => bail!("no integer: {other:?}"),
        }
    }

    /// The elements of an array, set or push.
    ///
    /// # Errors
    /// For any other reply.
    pub fn items(&self) -> Result<&[Self]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Ok(items),
            other => bail!("no array: {other:?}"),
        }
    }

    /// The elements of an array as texts.
    ///
    /// # Errors
    /// If it is no array, or an element has no text.
    pub fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(Self::text).collect()
    }

    /// The text of an error reply.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// True for `+OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == "OK")
    }

    /// The value of a field in a map, or in the flat array that stands for a map in RESP2.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        let is_name = |reply: &Self| reply.text().is_ok_and(|text| text == name);
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| is_name(key))
                .map(|(_, value)| value),
            Self::Array(items) => items
                .chunks_exact(2)
                .find(|pair| is_name(&pair[0]))
                .map(|pair| &pair[1]),
            _ => None,
        }
    }
}

/// Encodes a request.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What the parser found.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole reply and its length
    Whole(Reply, usize),
    /// The reply is longer than the bytes: it has at least this many
    Needs(usize),
}

/// Parses the reply at the start of `bytes`.
///
/// # Errors
/// If the bytes are not RESP.
pub fn parse_reply(bytes: &[u8]) -> Result<Parsed> {
    let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(Parsed::Needs(bytes.len() + 1));
    };
    let (mark, line) = bytes[..line_end]
        .split_first()
        .context("empty line in a reply")?;
    // An error may quote any bytes of the command.
    let line = &*String::from_utf8_lossy(line);
    let after = line_end + 2;
    let text = || line.to_owned();
    let reply = match mark {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Int(
            line.parse()
                .with_context(|| format!("bad integer {line:?}"))?,
        ),
        b'_' => Reply::Nil,
        b',' => Reply::Double(text()),
        b'(' => Reply::BigNumber(text()),
        b'#' => Reply::Bool(line == "t"),
        b'$' | b'=' | b'!' => return parse_bulk(bytes, *mark, line, after),
        b'*' | b'%' | b'~' | b'>' => return parse_aggregate(bytes, *mark, line, after),
        other => bail!("unknown reply type {:?} in {line:?}", char::from(*other)),
    };
    Ok(Parsed::Whole(reply, after))
}

fn parse_bulk(bytes: &[u8], mark: u8, line: &str, after: usize) -> Result<Parsed> {
    if line == "-1" {
        return Ok(Parsed::Whole(Reply::Nil, after));
    }
    let length: usize = line
        .parse()
        .with_context(|| format!("bad bulk length {line:?}"))?;
    let Some(body) = bytes.get(after..after + length + 2) else {
        return Ok(Parsed::Needs(after + length + 2));
    };
    ensure!(
        body.ends_with(b"\r\n"),
        "bulk string of {length} bytes is not followed by CRLF"
    );
    let body = &body[..length];
    let reply = if mark == b'!' {
        Reply::Error(String::from_utf8_lossy(body).into_owned())
    } else {
        Reply::Bulk(body.to_vec())
    };
    Ok(Parsed::Whole(reply, after + length + 2))
}

fn parse_aggregate(bytes: &[u8], mark: u8, line: &str, after: usize) -> Result<Parsed> {
    if line == "-1" {
        return Ok(Parsed::Whole(Reply::NilArray, after));
    }
    let length: usize = line
        .parse()
        .with_context(|| format!("bad length {line:?}"))?;
    let count = if mark == b'%' { length * 2 } else { length };
    let mut items = Vec::new();
    let mut position = after;
    for _ in 0..count {
        match parse_reply(&bytes[position..])? {
            Parsed::Whole(item, length) => {
                items.push(item);
                position += length;
            }
            Parsed::Needs(more) => return Ok(Parsed::Needs(position + more)),
        }
    }
    let reply = match mark {
        b'%' => {
            let mut pairs = Vec::new();
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Reply::Map(pairs)
        }
        b'~' => Reply::Set(items),
        b'>' => Reply::Push(items),
        _ => Reply::Array(items),
    };
    Ok(Parsed::Whole(reply, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_type_and_waits_for_the_rest() {
        let bytes =
            b"*7\r\n+OK\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n%1\r\n+k\r\n#t\r\n-ERR x\r\n";
        for end in 0..bytes.len() {
            let Parsed::Needs(more) = parse_reply(&bytes[..end]).unwrap() else {
                panic!("{end} bytes were taken for a whole reply");
            };
            assert!(
                (end + 1..=bytes.len()).contains(&more),
                "{more} after {end}"
            );
        }
        let Parsed::Whole(reply, length) = parse_reply(bytes).unwrap() else {
            panic!("the whole reply was not seen");
        };
        assert_eq!(length, bytes.len());
        let expected = vec![
            Reply::Simple("OK".to_owned()),
            Reply::Int(-5),
            Reply::Bulk(b"a\r\n".to_vec()),
            Reply::Nil,
            Reply::NilArray,
            Reply::Map(vec![(Reply::Simple("k".to_owned()), Reply::Bool(true))]),
            Reply::Error("ERR x".to_owned()),
        ];
        assert_eq!(reply, Reply::Array(expected));
        assert!(parse_reply(b"?\r\n").is_err());
    }
}
