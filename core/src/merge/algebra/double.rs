//! Scores as servers print them: with 17 significant digits before Redis 7.2, in the fewest digits since.

/// Integers up to this, 2^62, are printed with all their digits since 7.2: the servers' `double2ll`.
const INTEGER_BOUND: f64 = 4_611_686_018_427_387_904.0;

/// How the nodes print scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubleFormat {
    /// `%.17g` of C: before Redis 7.2.
    SeventeenDigits,
    /// The fewest digits that read back as the same number, laid out as the servers' `fpconv_dtoa` does.
    Shortest,
}

impl DoubleFormat {
    /// That of servers that call themselves `redis_version`.
    #[must_use]
    pub fn of_version(redis_version: Option<&str>) -> Self {
        let mut numbers = redis_version.unwrap_or_default().split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (7_u32, 2_u32) => {
                Self::SeventeenDigits
            }
            _ => Self::Shortest,
        }
    }

    /// The text of a score, which is no NaN.
    pub(super) fn text(self, value: f64) -> String {
        if value.is_infinite() {
            return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
        }
        if self == Self::Shortest && value.fract() == 0.0 && value.abs() <= INTEGER_BOUND {
            return format!("{value:.0}");
        }
        let scientific = match self {
            Self::SeventeenDigits => format!("{:.16e}", value.abs()),
            Self::Shortest => format!("{:e}", value.abs()),
        };
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let digits = mantissa.replace('.', "");
        let digits = match digits.trim_end_matches('0') {
            "" => "0",
            digits => digits,
        };
        let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        // The number is its digits times ten to this power.
        let power = exponent + 1 - count;
        let (is_plain, exponent_width) = match self {
            Self::SeventeenDigits => ((-4..17).contains(&exponent), 2),
            Self::Shortest if power >= 0 => (exponent < count + 7, 1),
            Self::Shortest => (power > -7 || exponent.abs() < 4, 1),
        };
        let sign = if value.is_sign_negative() { "-" } else { "" };
        if is_plain {
            format!("{sign}{}", plain(digits, exponent))
        } else {
            format!("{sign}{}", with_exponent(digits, exponent, exponent_width))
        }
    }
}

/// `digits`, the first of which counts ten to `exponent`, without an exponent.
fn plain(digits: &str, exponent: i32) -> String {
    let Ok(exponent) = usize::try_from(exponent) else {
        let zeros = exponent.unsigned_abs() as usize - 1;
        return format!("0.{}{digits}", "0".repeat(zeros));
    };
    match digits.split_at_checked(exponent + 1) {
        Some((whole, "")) => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{fraction}"),
        None => format!("{digits}{}", "0".repeat(exponent + 1 - digits.len())),
    }
}

fn with_exponent(digits: &str, exponent: i32, width: usize) -> String {
    let (first, others) = digits.split_at(1);
    let point = if others.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{others}e{sign}{:0width$}", exponent.abs())
}
