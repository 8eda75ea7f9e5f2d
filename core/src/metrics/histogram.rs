//! A log-linear latency histogram in microseconds: four buckets per power of two, about 4 ns to record.

/// Buckets below the overflow bucket: values up to 2^27 microseconds (134 s).
const FINITE_BUCKETS: usize = 108;

/// Counts of durations in microseconds, with at most 25 % error per value.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u64; FINITE_BUCKETS + 1],
    sum_micros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; FINITE_BUCKETS + 1],
            sum_micros: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration of `micros` microseconds.
    pub fn record(&mut self, micros: u64) {
        self.buckets[bucket_of(micros)] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds all counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// Number of recorded durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of all recorded durations, in microseconds.
    #[must_use]
    pub const fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// Number of durations strictly below `bound_micros`, exact when the bound is a power of two or a quarter step between two
    /// powers, else counted up to the bucket that contains the bound.
    #[must_use]
    pub fn count_below(&self, bound_micros: u64) -> u64 {
        self.buckets[..bucket_of(bound_micros)].iter().sum()
    }

    /// The duration in microseconds below which the share `quantile` (0 to 1) of the durations lies: the upper bound of its
    /// bucket, or 0 when nothing was recorded.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate for people"
    )]
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (self.count() as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return upper_bound(index);
            }
        }
        0
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < 4 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let exponent = 63 - micros.leading_zeros();
    let quarter = (micros >> (exponent - 2)) & 3;
    let index = (exponent as usize - 1) * 4 + usize::try_from(quarter).unwrap_or(0);
    index.min(FINITE_BUCKETS)
}

/// First value above bucket `index`.
fn upper_bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64 + 1;
    }
    let exponent = index / 4 + 1;
    let quarter = (index % 4) as u64 + 1;
    (1_u64 << exponent) + (quarter << (exponent - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_ordered() {
        let mut last = 0;
        for micros in 0..200_000 {
            let bucket = bucket_of(micros);
            assert!(bucket == last || bucket == last + 1, "gap at {micros}");
            assert!(
                micros < upper_bound(bucket),
                "{micros} not below the bound of its bucket"
            );
            last = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), FINITE_BUCKETS);
    }

    #[test]
    fn counts_and_quantiles() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(micros);
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.sum_micros(), 500_500);
        assert_eq!(histogram.count_below(512), 511);
        let median = histogram.quantile(0.5);
        assert!((500..=640).contains(&median), "{median}");
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
