//! Times as an operator writes them, in the config and on the command line.

use std::time::Duration;

/// A longer one is a mistyped one.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
pub const TIME_EXPECTED: &str = "a time, such as \"30s\", \"10m\" or \"24h\"";

/// Whole numbers with units, such as `90s` or `1h 30m`.
///
/// # Errors
/// What was expected.
pub fn time(text: &str) -> Result<Duration, String> {
    // To humantime `M` is a month: whoever writes it means minutes.
    let time = humantime::parse_duration(text).ok().filter(|_| !text.contains('M'));
    let time = time.ok_or_else(|| format!("expected {TIME_EXPECTED}"))?;
    if time > TIME_MAX {
        let days = TIME_MAX.as_secs() / 86_400;
        return Err(format!("expected {TIME_EXPECTED}, and at most {days} days"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        let seconds = |text| time(text).map(|time| time.as_secs());
        assert_eq!(time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(
            ["0s", "90s", "10m", "24h", "366d", "1h 30m"].map(seconds),
            [0, 90, 600, 86_400, 31_622_400, 5400].map(Ok)
        );
        for wrong in ["", "ten minutes", "10", "10M", "-1s", "367d", "99999999999999999999s"] {
            let message = time(wrong).unwrap_err();
            assert!(message.starts_with("expected a time, such as \"30s\""), "{wrong}: {message}");
        }
    }
}
