//! The federation file: handed out once, out of band, and the same at every member. It holds the
//! keys that everything else of a federation is verified by.

mod file;
mod read;

pub use file::{FederationFile, Key, Mirror};
pub use read::parse_federation;
