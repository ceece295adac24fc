//! The federation's log in the formats of C2SP: signed-note, tlog-checkpoint, tlog-cosignature,
//! tlog-tiles. Its operator is trusted with nothing.

mod checkpoint;
mod note;
mod tree;

pub use checkpoint::{CheckpointError, SignedCheckpoint};
pub use note::{MAX_NOTE_BYTES, NoteError};
pub use tree::{File, MAX_BUNDLE_BYTES, Root, Tree, WIDTH, bundle_path, read_bundle};
