//! How much may be carried in a second, as people write it.

use std::fmt;

use serde::{Deserialize, Serialize};

const UNITS: [(&str, u64); 3] = [
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
];

/// Bits a second in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// The least that a limit may be.
    pub const LEAST: Self = Self(64_000);
    /// The most that a limit may be.
    pub const MOST: Self = Self(1_000_000_000_000);

    /// Bytes a second.
    pub fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }

    /// Reads a whole number and a unit (kbit/s, Mbit/s, Gbit/s), with or without a space between
    /// them. Units are powers of ten, as everywhere in networks.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, bits) = UNITS.iter().find_map(|(unit, bits)| {
            let number = text.strip_suffix(unit)?;
            Some((number.strip_suffix(' ').unwrap_or(number), bits))
        })?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse::<u64>().ok()?.checked_mul(*bits).map(Self)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, bits): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*bits);
        match UNITS.iter().find(whole) {
            Some((unit, bits)) => write!(f, "{} {unit}", self.0 / bits),
            None => write!(f, "{} bit/s", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_reads_back_as_written() {
        for text in ["64 kbit/s", "500 Mbit/s", "1500 Mbit/s", "10 Gbit/s"] {
            assert_eq!(Bandwidth::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Bandwidth::parse("2000Mbit/s"), Bandwidth::parse("2 Gbit/s"));
        assert_eq!(
            Bandwidth::parse("8 Mbit/s").unwrap().bytes_per_second(),
            1_000_000
        );
    }

    #[test]
    fn what_is_no_bandwidth_is_refused() {
        for text in [
            "",
            "500",
            "Mbit/s",
            " Mbit/s",
            "1.5 Gbit/s",
            "-1 Mbit/s",
            "1  Mbit/s",
            "1 MB/s",
            "1 mbit/s",
            "99999999999999999999 kbit/s",
            "99999999999999999 Gbit/s",
        ] {
            assert_eq!(Bandwidth::parse(text), None, "{text:?}");
        }
    }
}
