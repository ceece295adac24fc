//! An entry of a federation's log, and the record of a site, whose lines are such entries: no panic,
//! and what is taken is the same after it is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use renkei_federation::{Envelope, SiteRecord};

fuzz_target!(|input: &[u8]| {
    if let Ok(envelope) = Envelope::parse(input) {
        let again = Envelope::parse(&envelope.to_bytes()).expect("its own bytes");
        assert_eq!(again, envelope);
        assert_eq!(again.digest(), envelope.digest());
    }
    if let Ok(record) = SiteRecord::parse(input)
        && let Ok(bytes) = record.to_bytes()
    {
        assert_eq!(SiteRecord::parse(&bytes).expect("its own bytes"), record);
    }
});
