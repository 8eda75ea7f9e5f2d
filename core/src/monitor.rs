//! The lines of MONITOR: `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"` (doc: MONITOR).

use std::io::Write as _;
use std::net::SocketAddr;

use crate::command::{Spec, id};
use crate::resp::Args;

/// So much is shown of an argument. Servers show all of it, but of one client; here a big value would be copied for everybody.
const MOST_BYTES: usize = 64 << 10;

/// Whose command it is, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Microseconds since 1970.
    pub unix_micros: u64,
    /// Address of the client.
    pub client: SocketAddr,
    /// The database that it is in.
    pub database: u16,
}

/// Appends the line of a command, its line end included: a simple string in all protocol versions. Passwords are left out [Z7].
pub fn write_line(out: &mut Vec<u8>, origin: Origin, spec: &Spec, args: Args<'_>) {
    let (seconds, micros) = (
        origin.unix_micros / 1_000_000,
        origin.unix_micros % 1_000_000,
    );
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "+{seconds}.{micros:06} [{} {}]",
        origin.database, origin.client
    );
    let mut hidden = match spec.id {
        id::AUTH => usize::MAX,
        _ => 0,
    };
    for (position, argument) in args.iter().enumerate() {
        out.push(b' ');
        if position > 0 && hidden > 0 {
            hidden -= 1;
            out.extend_from_slice(b"\"(redacted)\"");
            continue;
        }
        write_quoted(out, argument);
        if spec.id == id::HELLO && position > 0 && argument.eq_ignore_ascii_case(b"AUTH") {
            // All that follows: where the password is, is not sure if something is forgotten.
            hidden = usize::MAX;
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// As `sdscatrepr` of the servers writes a string.
fn write_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    let shown = bytes.get(..MOST_BYTES).unwrap_or(bytes);
    out.push(b'"');
    for byte in shown {
        match *byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            // Writing to a Vec cannot fail.
            other => drop(write!(out, "\\x{other:02x}")),
        }
    }
    let left_out = bytes.len() - shown.len();
    if left_out > 0 {
        let _ = write!(out, "... ({left_out} more bytes)");
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Lookup, lookup};
    use crate::resp::{DecodeStep, RequestDecoder, RequestLimits, write};

    fn line(args: &[&[u8]]) -> String {
        let (mut raw, mut out) = (Vec::new(), Vec::new());
        write::command(&mut raw, args);
        let mut decoder = RequestDecoder::default();
        let step = decoder.decode(&raw, &RequestLimits::DEFAULT).unwrap();
        assert_eq!(step, DecodeStep::Command { len: raw.len() });
        let args = Args::new(&raw, decoder.ranges());
        let Lookup::Known(spec) = lookup(args) else {
            panic!("it is known");
        };
        let origin = Origin {
            unix_micros: 1_339_518_083_007_412,
            client: SocketAddr::from(([127, 0, 0, 1], 60866)),
            database: 11,
        };
        write_line(&mut out, origin, spec, args);
        let line = String::from_utf8(out).unwrap();
        let line = line.strip_prefix("+1339518083.007412 [11 127.0.0.1:60866] ");
        line.unwrap().strip_suffix("\r\n").unwrap().to_owned()
    }

    #[test]
    fn bytes_are_quoted_as_servers_do() {
        assert_eq!(line(&[b"get", b"k"]), r#""get" "k""#);
        let odd = line(&[b"SET", b"a\r\n\t\x07\x08\x01\xff", b"\\ \"x\""]);
        assert_eq!(odd, r#""SET" "a\r\n\t\a\b\x01\xff" "\\ \"x\"""#);
    }

    #[test]
    fn z7_passwords_are_not_shown() {
        assert_eq!(
            line(&[b"auth", b"u", b"p"]),
            r#""auth" "(redacted)" "(redacted)""#
        );
        let hello: &[&[u8]] = &[b"HELLO", b"3", b"auth", b"u", b"auth", b"SETNAME", b"n"];
        assert_eq!(
            line(hello),
            r#""HELLO" "3" "auth" "(redacted)" "(redacted)" "(redacted)" "(redacted)""#
        );
        let no_version: &[&[u8]] = &[b"HELLO", b"AUTH", b"u", b"secret"];
        assert!(!line(no_version).contains("secret"));
        let named_so: &[&[u8]] = &[
            b"HELLO", b"3", b"SETNAME", b"auth", b"AUTH", b"u", b"secret",
        ];
        assert!(!line(named_so).contains("secret"));
    }

    #[test]
    fn of_a_big_argument_the_beginning_is_shown() {
        let shown = line(&[b"SET", b"k", &vec![b'v'; MOST_BYTES + 7]]);
        assert!(shown.ends_with(r#"vv... (7 more bytes)""#));
        assert!(shown.len() < MOST_BYTES + 100);
    }
}
