//! What each role gets of a site. A part is a plain value that can be sent, kept and compared; it
//! holds what its role needs and nothing more. No role sees the whole [`Site`].
//!
//! What an agent gets is no part of this: it follows from the entries in the server's store, of
//! which those of the file are only some.

mod proxy;
mod server;

pub use proxy::{GatewayLink, Listener, PolicySource, ProxyPart};
pub use server::{Announcement, FederationPart, FileEntry, FileEntryKind, PeerBundle, ServerPart};

#[cfg(test)]
mod tests;
