//! What of a bench is measured: how often, for how long, and which of its cases and systems.

use clap::Args;

use crate::pair::System;

/// What was asked for on the command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Runs of each system and case; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) runs: u32,
    /// Seconds of each stream
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) seconds: u32,
    /// Only cases whose name holds this, such as 'rtt=23 profile=tuned'
    #[arg(long, value_name = "TEXT")]
    pub(crate) case: Option<String>,
    /// Only these systems, such as direct,renkei,envoy
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SYSTEM,...")]
    pub(crate) systems: Vec<System>,
}

impl Choice {
    /// Whether every case and system is asked for.
    pub(crate) fn is_whole(&self) -> bool {
        self.case.is_none() && self.systems.is_empty()
    }

    /// Whether a case of this name is asked for.
    pub(crate) fn takes(&self, case: &str) -> bool {
        self.case.as_deref().is_none_or(|part| case.contains(part))
    }

    /// Those of a bench's systems that are asked for.
    pub(crate) fn systems(&self, all: &[System]) -> Vec<System> {
        let asked = |system: &System| self.systems.is_empty() || self.systems.contains(system);
        all.iter().copied().filter(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(case: Option<&str>, systems: &[System]) -> Choice {
        Choice {
            runs: 1,
            seconds: 1,
            case: case.map(str::to_owned),
            systems: systems.to_vec(),
        }
    }

    #[test]
    fn a_choice_takes_what_it_names_and_all_when_it_names_nothing() {
        let all = [System::Direct, System::Renkei, System::Envoy];
        let whole = choice(None, &[]);
        assert!(whole.is_whole() && whole.takes("rtt=23"));
        assert_eq!(whole.systems(&all), all);
        let part = choice(Some("rtt=23"), &[System::Envoy, System::Direct]);
        assert!(!part.is_whole() && part.takes("rtt=23 loss=0") && !part.takes("rtt=32"));
        assert_eq!(part.systems(&all), [System::Direct, System::Envoy]);
    }
}
