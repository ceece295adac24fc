//! What a member of a federation is handed once, out of band: the keys that everything else is
//! verified by.

use std::collections::BTreeMap;

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// Keys of which `threshold` must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// The keys, each once.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign; at least one.
    pub threshold: usize,
}

impl KeySet {
    /// Whether it can be satisfied and counts no key twice.
    pub(crate) fn is_sound(&self, most: usize) -> bool {
        let distinct: std::collections::BTreeSet<_> = self.keys.iter().collect();
        distinct.len() == self.keys.len()
            && (1..=self.keys.len()).contains(&self.threshold)
            && self.keys.len() <= most
    }
}

/// The witnesses of the log and how many of them must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    /// How many must have cosigned a checkpoint.
    pub quorum: usize,
    /// Their keys, by the trust domain of the site that runs them.
    pub keys: BTreeMap<TrustDomain, PublicKey>,
}

impl Witnesses {
    /// The smallest quorum with which any two have an honest witness in common and which the
    /// honest ones reach alone, when fewer than a third of `count` are not honest.
    pub fn safe_quorum(count: usize) -> usize {
        let dishonest = count.saturating_sub(1) / 3;
        (count + dishonest) / 2 + 1
    }
}

/// A federation as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    /// The name of the log: the first line of its checkpoints (C2SP tlog-checkpoint).
    pub origin: String,
    /// The key that signs checkpoints.
    pub log_key: PublicKey,
    /// The keys that admit, suspend and remove members.
    pub registrar: KeySet,
    /// Who watches the log.
    pub witnesses: Witnesses,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_quorum_overlaps_in_an_honest_witness_and_can_be_reached() {
        assert_eq!(Witnesses::safe_quorum(4), 3, "the default for four sites");
        for count in 1..200 {
            let quorum = Witnesses::safe_quorum(count);
            let dishonest = (count - 1) / 3;
            assert!(2 * quorum - count > dishonest, "{count}");
            assert!(quorum <= count - dishonest, "{count}");
        }
    }
}
