//! Whether a bundle that a peer offers may take the place of the one that is known. SPIRE does not
//! compare sequences; a replayed document could bring back a CA that its owner has withdrawn.

use renkei_spiffe::Bundle;

/// Why an offered bundle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// Older than what is known.
    #[error(
        "the bundle's sequence fell from {known} to {offered}; if the peer has a new CA, remove it from the site file, apply, and add it again"
    )]
    SequenceFell {
        /// Of the last good bundle.
        known: u64,
        /// Of the offered one.
        offered: u64,
    },
    /// The last good bundle had a sequence, this one does not.
    #[error("the bundle has no sequence, but the last good one had {known}")]
    SequenceMissing {
        /// Of the last good bundle.
        known: u64,
    },
    /// Two documents with one number.
    #[error("the bundle's content changed, but its sequence is still {sequence}")]
    SameSequence {
        /// The sequence that both documents have.
        sequence: u64,
    },
}

/// What an acceptable bundle means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// The keys are those known.
    SameKeys,
    /// Keys came or went, so readers have to get the new bundle.
    NewKeys,
}

/// Judges `offered` against the last good bundle. One without keys says that nothing of the peer is
/// to be trusted from now on. It brings back no CA, so it needs no sequence.
pub(super) fn judge(known: Option<&Bundle>, offered: &Bundle) -> Result<Acceptance, BundleRefusal> {
    let Some(known) = known else {
        return Ok(Acceptance::NewKeys);
    };
    let same = known.x509_authorities == offered.x509_authorities
        && known.jwt_authorities == offered.jwt_authorities;
    let was_empty = empty(known);
    match (known.sequence, offered.sequence) {
        (Some(known), None) if !empty(offered) => {
            return Err(BundleRefusal::SequenceMissing { known });
        }
        (Some(known), Some(offered)) if offered < known => {
            return Err(BundleRefusal::SequenceFell { known, offered });
        }
        (Some(known), Some(offered)) if offered == known && !same && !was_empty => {
            return Err(BundleRefusal::SameSequence { sequence: offered });
        }
        _ => {}
    }
    Ok(if same {
        Acceptance::SameKeys
    } else {
        Acceptance::NewKeys
    })
}

fn empty(bundle: &Bundle) -> bool {
    bundle.x509_authorities.is_empty() && bundle.jwt_authorities.is_empty()
}

#[cfg(test)]
mod tests {
    use renkei_spiffe::TrustDomain;
    use rustls_pki_types::CertificateDer;

    use super::*;

    fn bundle(sequence: Option<u64>, keys: &[u8]) -> Bundle {
        let trust_domain = TrustDomain::parse("osaka.example").unwrap();
        let x509_authorities = keys
            .iter()
            .map(|key| CertificateDer::from(vec![*key]))
            .collect();
        Bundle {
            sequence,
            x509_authorities,
            ..Bundle::empty(trust_domain)
        }
    }

    #[test]
    fn a_sequence_may_rise_or_stay_but_not_fall_or_vanish() {
        let known = bundle(Some(5), &[1]);
        let judge = |offered: Bundle| judge(Some(&known), &offered);
        assert_eq!(judge(bundle(Some(6), &[1, 2])), Ok(Acceptance::NewKeys));
        assert_eq!(judge(bundle(Some(6), &[1])), Ok(Acceptance::SameKeys));
        assert_eq!(judge(bundle(Some(5), &[1])), Ok(Acceptance::SameKeys));
        let same = Err(BundleRefusal::SameSequence { sequence: 5 });
        assert_eq!(judge(bundle(Some(5), &[2])), same);
        let fell = Err(BundleRefusal::SequenceFell {
            known: 5,
            offered: 4,
        });
        assert_eq!(judge(bundle(Some(4), &[1])), fell);
        assert_eq!(
            judge(bundle(None, &[1])),
            Err(BundleRefusal::SequenceMissing { known: 5 })
        );
    }

    #[test]
    fn a_peer_that_never_had_a_sequence_may_change_its_keys() {
        let known = bundle(None, &[1]);
        assert_eq!(
            judge(Some(&known), &bundle(None, &[2])),
            Ok(Acceptance::NewKeys)
        );
        assert_eq!(
            judge(Some(&known), &bundle(Some(1), &[2])),
            Ok(Acceptance::NewKeys)
        );
        assert_eq!(judge(None, &bundle(None, &[2])), Ok(Acceptance::NewKeys));
    }

    #[test]
    fn an_empty_bundle_is_judged_by_its_sequence_like_any_other() {
        let known = bundle(Some(5), &[1]);
        let judge_known = |offered| judge(Some(&known), &bundle(offered, &[]));
        assert_eq!(judge_known(Some(6)), Ok(Acceptance::NewKeys));
        let fell = BundleRefusal::SequenceFell {
            known: 5,
            offered: 4,
        };
        assert_eq!(judge_known(Some(4)), Err(fell));
        let same = BundleRefusal::SameSequence { sequence: 5 };
        assert_eq!(judge_known(Some(5)), Err(same));
        assert_eq!(judge_known(None), Ok(Acceptance::NewKeys));
        let unnumbered = bundle(None, &[1]);
        assert_eq!(
            judge(Some(&unnumbered), &bundle(None, &[])),
            Ok(Acceptance::NewKeys)
        );
        assert_eq!(judge(None, &bundle(None, &[])), Ok(Acceptance::NewKeys));
        // Afterwards the last numbered document may come back, an older one may not.
        let cut = bundle(Some(5), &[]);
        let back = judge(Some(&cut), &bundle(Some(5), &[1]));
        assert_eq!(back, Ok(Acceptance::NewKeys));
        assert!(judge(Some(&cut), &bundle(Some(4), &[1])).is_err());
    }
}
