//! Values to bytes, in the protocol version of the connection they are for [Y4].
//!
//! Every function appends to `out`. Where the versions differ, the RESP2 form is the one servers give to a RESP2 client.

use super::Protocol;

#[cfg(test)]
mod tests;

/// A simple string. `text` must not hold CR or LF; they would be replaced by blanks.
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

/// An error. `text` begins with its code, without the dash; CR and LF in it become blanks, as in servers, so that text taken
/// from a client cannot end the reply early.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'-', text);
}

/// An integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    decimal(out, value);
}

/// A bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The null that stands for a missing string.
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The null that stands for a missing array, such as the reply of an aborted `EXEC`.
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The head of an array of `len` elements.
pub fn array(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len);
}

/// The head of a map of `len` pairs; in RESP2 an array of keys and values in turn.
pub fn map(out: &mut Vec<u8>, len: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', len * 2),
        Protocol::Resp3 => header(out, b'%', len),
    }
}

/// The head of a set of `len` elements; in RESP2 an array.
pub fn set(out: &mut Vec<u8>, len: usize, protocol: Protocol) {
    header(
        out,
        if protocol == Protocol::Resp3 {
            b'~'
        } else {
            b'*'
        },
        len,
    );
}

/// The head of a push of `len` elements; in RESP2 an array.
pub fn push(out: &mut Vec<u8>, len: usize, protocol: Protocol) {
    header(
        out,
        if protocol == Protocol::Resp3 {
            b'>'
        } else {
            b'*'
        },
        len,
    );
}

/// A floating point number, in the fewest digits that read back as the same number; in RESP2 a bulk string.
pub fn double(out: &mut Vec<u8>, value: f64, protocol: Protocol) {
    let text = double_text(value);
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => line(out, b',', text.as_bytes()),
    }
}

/// A boolean; in RESP2 the integer 1 or 0.
pub fn boolean(out: &mut Vec<u8>, value: bool, protocol: Protocol) {
    out.extend_from_slice(match (protocol, value) {
        (Protocol::Resp2, true) => b":1\r\n",
        (Protocol::Resp2, false) => b":0\r\n",
        (Protocol::Resp3, true) => b"#t\r\n",
        (Protocol::Resp3, false) => b"#f\r\n",
    });
}

/// Text for a human with its format, three letters such as `txt`; in RESP2 a bulk string without the format.
pub fn verbatim(out: &mut Vec<u8>, format: &str, text: &[u8], protocol: Protocol) {
    debug_assert_eq!(
        format.len(),
        3,
        "the format of a verbatim string has three letters"
    );
    match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => {
            header(out, b'=', format.len() + 1 + text.len());
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A request.
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    array(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

#[inline]
fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    match u8::try_from(len) {
        Ok(digit @ 0..=9) => out.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']),
        Ok(number @ 10..=99) => {
            out.extend_from_slice(&[kind, b'0' + number / 10, b'0' + number % 10, b'\r', b'\n']);
        }
        _ => {
            out.push(kind);
            decimal(out, len);
        }
    }
}

fn decimal(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    }));
    out.extend_from_slice(b"\r\n");
}

/// `value` as servers spell it: `inf`, `-inf` and `nan`, and an exponent with its sign outside the range of plain digits.
fn double_text(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-5..1e17).contains(&magnitude) {
        let text = format!("{value:e}");
        if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        }
    } else {
        value.to_string()
    }
}
