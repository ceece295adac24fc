//! How long certificates live, and durations as people write them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long what the site issues stays valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetimes {
    /// Of a certificate authority of the site.
    pub ca: Duration,
    /// Life of an X.509-SVID, renewed at half of it.
    pub x509_svid: Duration,
    /// How often others should fetch the site's bundle (`spiffe_refresh_hint`).
    pub bundle_refresh: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            ca: Duration::from_hours(24),
            x509_svid: Duration::from_hours(1),
            bundle_refresh: Duration::from_mins(5),
        }
    }
}

/// Parses a whole number with a unit: `20s`, `5m`, `1h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A duration in its largest whole unit.
pub(crate) fn write_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60)];
    match units
        .iter()
        .find(|(_, size)| seconds > 0 && seconds.is_multiple_of(*size))
    {
        Some((unit, size)) => format!("{}{unit}", seconds / size),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["20s", "5m", "1h", "36h", "7d", "0s"] {
            assert_eq!(write_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "+5m",
            "5 m",
            "1.5h",
            "1h30m",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
        assert_eq!(parse_duration("999999999999999999d"), None);
    }
}
