//! Numbers as people read them.

use std::time::Duration;

/// A duration given in microseconds, with the unit that suits it: `87 µs`, `1.24 ms`, `3.50 s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// As [`micros`], for a [`Duration`].
pub(crate) fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// A count with its thousands set apart: `1,000,000`.
pub(crate) fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// Bytes in MiB with one decimal.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// A rate per second: whole above 100, one decimal below.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{}/s", count(per_second.round() as u64)) } else { format!("{per_second:.1}/s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_suits_them() {
        assert_eq!(micros(0), "0 µs");
        assert_eq!(micros(999), "999 µs");
        assert_eq!(micros(1_240), "1.24 ms");
        assert_eq!(micros(3_500_000), "3.50 s");
        assert_eq!(duration(Duration::from_millis(12)), "12.00 ms");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
    }

    #[test]
    fn small_rates_keep_a_decimal() {
        assert_eq!(rate(16.66), "16.7/s");
        assert_eq!(rate(16_666.6), "16,667/s");
    }
}
