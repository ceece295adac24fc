//! What a mirror of a federation's log serves: a checkpoint, and a file of entries that a site
//! replays. No panic, and a checkpoint stays the same when it is written and read again.
//!
//! Two bytes of length, the checkpoint, then the entries.

#![no_main]

#[path = "../seeds/federation.rs"]
mod federation;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use renkei_federation::{Federation, SignedCheckpoint, View, log::read_bundle};

static FEDERATION: LazyLock<Arc<Federation>> = LazyLock::new(|| Arc::new(federation::file()));

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (checkpoint, entries) = rest.split_at(length);
    if let Ok(read) = SignedCheckpoint::parse(checkpoint, &FEDERATION) {
        let text = read.to_text();
        let again = SignedCheckpoint::parse(text.as_bytes(), &FEDERATION).expect("its own text");
        assert_eq!(again.to_text(), text);
    }
    let entries = read_bundle(entries).unwrap_or_default();
    let view = View::new(FEDERATION.clone());
    let Ok(mut extension) = view.extend(Some(checkpoint), None, true, federation::NOW) else {
        return;
    };
    while let Some(index) = extension.wants() {
        let entry = usize::try_from(index).ok().and_then(|at| entries.get(at));
        if entry.is_none_or(|entry| extension.push(entry).is_err()) {
            break;
        }
    }
    drop(extension.finish());
});
