//! A federation whose keys are known, so that its statements can be signed.

use std::collections::BTreeMap;

use renkei_federation::{Federation, KeySet, SigningKey, TrustDomain, Witnesses};
use time::{OffsetDateTime, macros::datetime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("a seed")
}

/// Its file: one registrar, and one witness that suffices.
pub(crate) fn file() -> Federation {
    let osaka = TrustDomain::parse("osaka.example").expect("a name");
    Federation {
        origin: "federation.example/intercloud".to_owned(),
        log_key: key(1).public(),
        registrar: KeySet {
            keys: vec![key(2).public()],
            threshold: 1,
        },
        witnesses: Witnesses {
            quorum: 1,
            keys: BTreeMap::from([(osaka, key(3).public())]),
        },
    }
}
