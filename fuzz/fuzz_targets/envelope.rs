//! An entry of a federation's log: no panic, and what is taken is the same after it is written and
//! read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use renkei_federation::Envelope;

fuzz_target!(|input: &[u8]| {
    if let Ok(envelope) = Envelope::parse(input) {
        let again = Envelope::parse(&envelope.to_bytes()).expect("its own bytes");
        assert_eq!(again, envelope);
        assert_eq!(again.digest(), envelope.digest());
    }
});
