//! Medians and percentiles.

/// The middle of the figures, or the mean of the two in the middle; `NaN` of none.
pub(super) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len().is_multiple_of(2), &sorted[..]) {
        (_, []) => f64::NAN,
        (true, sorted) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (false, sorted) => sorted[middle],
    }
}

/// From the least to the greatest figure, as a part of their median; `NaN` of none.
pub(super) fn spread(figures: &[f64]) -> f64 {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (greatest - least) / median(figures.iter().copied())
}

/// The smallest of the sorted values that so many percent are not above; the default of none.
pub(super) fn at_percent<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_the_mean_of_two() {
        let is = |figures: &[f64], expected: f64| {
            let found = median(figures.iter().copied());
            assert!((found - expected).abs() < 1e-9, "{figures:?}: {found}");
        };
        is(&[3.0], 3.0);
        is(&[9.0, 1.0, 2.0], 2.0);
        is(&[4.0, 1.0, 2.0, 100.0], 3.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn spread_is_a_part_of_the_median() {
        assert!((spread(&[90.0, 100.0, 130.0]) - 0.4).abs() < 1e-9);
        assert!(spread(&[7.0]).abs() < 1e-9);
        assert!(spread(&[]).is_nan());
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!(at_percent(&sorted, 50), 100);
        assert_eq!(at_percent(&sorted, 99), 198);
        assert_eq!(at_percent(&sorted, 100), 200);
        assert_eq!(at_percent(&[7], 1), 7);
        assert_eq!(at_percent::<u32>(&[], 50), 0);
    }
}
