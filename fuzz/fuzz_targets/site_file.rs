//! A site file or a federation file: no panic, faults that can be shown, and a site that does not
//! differ from itself.

#![no_main]

use std::str;

use libfuzzer_sys::fuzz_target;
use renkei_site::{Faults, diff, parse, parse_federation};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match parse("site.yaml", text) {
        Ok(site) => assert!(diff(&site, &site).is_empty()),
        Err(faults) => show(faults),
    }
    if let Err(faults) = parse_federation("federation.yaml", text) {
        show(faults);
    }
});

/// As the command line does.
fn show(faults: Faults) {
    assert!(!faults.to_string().is_empty());
    assert!(!format!("{:?}", miette::Report::new(faults)).is_empty());
}
