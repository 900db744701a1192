//! Minimum, median, maximum and percentiles.

/// A count as a number that can be divided.
pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count below four billion"))
}

/// Bytes or KiB as a number that can be divided.
pub fn size(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no size here has more than 52 bits")]
    let size = bytes as f64;
    size
}

/// The value below which this part of the values is, of 1.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let rank = (0..=last).find(|rank| number(*rank) >= part * number(last));
    sorted[rank.unwrap_or(last)]
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Minimum, median and maximum.
pub fn spread(values: &[f64]) -> [f64; 3] {
    [quantile(values, 0.0), median(values), quantile(values, 1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(spread(&values).map(|value| value.to_string()), ["1", "51", "100"]);
        assert_eq!(quantile(&values, 0.98).to_string(), "99");
        assert_eq!(spread(&[7.0]).map(|value| value.to_string()), ["7", "7", "7"]);
    }
}
