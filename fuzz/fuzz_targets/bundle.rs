//! A bundle document of a peer: no panic, and what is taken is the same after it is written and
//! read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use renkei_spiffe::{Bundle, TrustDomain};

fuzz_target!(|input: &[u8]| {
    let name = TrustDomain::parse("osaka.example").expect("a name");
    if let Ok(bundle) = Bundle::parse_document(name.clone(), input) {
        let written = bundle.to_document();
        let again = Bundle::parse_document(name, written.as_bytes()).expect("its own document");
        assert_eq!(again, bundle);
    }
});
