//! The bytes of each kind of value in both versions.

use super::*;

fn written(write: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = b"x".to_vec();
    write(&mut out);
    assert_eq!(out[0], b'x', "appends");
    String::from_utf8(out[1..].to_vec()).unwrap()
}

/// The RESP2 and the RESP3 form.
fn both(write: impl Fn(&mut Vec<u8>, Protocol)) -> [String; 2] {
    [Protocol::Resp2, Protocol::Resp3].map(|protocol| written(|out| write(out, protocol)))
}

#[test]
fn values_that_are_the_same_in_both_versions() {
    assert_eq!(written(|out| simple(out, b"OK")), "+OK\r\n");
    assert_eq!(written(|out| error(out, b"ERR no")), "-ERR no\r\n");
    assert_eq!(
        written(|out| integer(out, i64::MIN)),
        "-9223372036854775808\r\n".replace('-', ":-")
    );
    assert_eq!(written(|out| bulk(out, b"a\r\nb")), "$4\r\na\r\nb\r\n");
    assert_eq!(written(|out| bulk(out, b"")), "$0\r\n\r\n");
    assert_eq!(written(|out| array(out, 12)), "*12\r\n");
    assert_eq!(
        written(|out| command(out, &[b"GET", b"k"])),
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    );
}

#[test]
fn an_error_stays_on_its_line() {
    assert_eq!(
        written(|out| error(out, b"ERR unknown command 'a\r\n+OK\r\n'")),
        "-ERR unknown command 'a  +OK  '\r\n"
    );
}

#[test]
fn y4_values_that_differ_between_the_versions() {
    assert_eq!(both(null), ["$-1\r\n", "_\r\n"]);
    assert_eq!(both(null_array), ["*-1\r\n", "_\r\n"]);
    assert_eq!(
        both(|out, protocol| map(out, 3, protocol)),
        ["*6\r\n", "%3\r\n"]
    );
    assert_eq!(
        both(|out, protocol| set(out, 3, protocol)),
        ["*3\r\n", "~3\r\n"]
    );
    assert_eq!(
        both(|out, protocol| push(out, 3, protocol)),
        ["*3\r\n", ">3\r\n"]
    );
    assert_eq!(
        both(|out, protocol| boolean(out, true, protocol)),
        [":1\r\n", "#t\r\n"]
    );
    assert_eq!(
        both(|out, protocol| boolean(out, false, protocol)),
        [":0\r\n", "#f\r\n"]
    );
    assert_eq!(
        both(|out, protocol| verbatim(out, "txt", b"a b", protocol)),
        ["$3\r\na b\r\n", "=7\r\ntxt:a b\r\n"]
    );
    assert_eq!(
        both(|out, protocol| double(out, 1.5, protocol)),
        ["$3\r\n1.5\r\n", ",1.5\r\n"]
    );
}

#[test]
fn doubles_read_back_as_the_same_number() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (-17.25, "-17.25"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (1.5e300, "1.5e+300"),
        (0.00001, "0.00001"),
        (0.000_001, "1e-6"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ];
    for (value, text) in cases {
        assert_eq!(double_text(value), text);
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
    }
    assert_eq!(double_text(f64::NAN), "nan");
}
