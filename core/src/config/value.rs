//! The units of configuration values: durations ("500ms") and sizes ("64MiB"), read and written.

use std::time::Duration;

/// One kibibyte.
pub(super) const KIB: u64 = 1024;
/// One mebibyte.
pub(super) const MIB: u64 = 1024 * KIB;
/// One gibibyte.
pub(super) const GIB: u64 = 1024 * MIB;

/// Units of time, largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of size, largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1024 * GIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", KIB),
    ("B", 1),
];

/// Reads a whole number with a unit of time; `None` if it is not one.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Reads a whole number with a unit of size, in bytes; `None` if it is not one.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// Writes `duration` with the largest unit that leaves a whole number; parts of a millisecond are dropped.
pub(super) fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &TIME_UNITS,
        "0s",
    )
}

/// Writes `bytes` with the largest unit that leaves a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS, "0B")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let fitting = units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor));
    fitting.map_or_else(
        || value.to_string(),
        |(name, factor)| format!("{}{name}", value / factor),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration(" 5 s "), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
        for wrong in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s s",
            "5sec",
            "99999999999999999999s",
            "213503982334602d",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary_and_decimal_units_are_refused() {
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("1gib"), Some(1 << 30));
        assert_eq!(parse_size("17B"), Some(17));
        for wrong in ["64MB", "64M", "64k", "MiB", "", "1 2MiB", "99999999999TiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn written_values_read_back() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, 5 << 40] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
    }
}
