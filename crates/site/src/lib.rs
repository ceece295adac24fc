//! The site file: the only thing a site writes.
//!
//! [`parse`] turns the text into a [`Site`], which is projected to what each role follows
//! ([`ServerPart`], [`ProxyPart`]), or into
//! [`Faults`]: *all* that is wrong with it, each with its place and a hint. [`diff`] says what a
//! new file changes, and [`schema()`] describes the file to editors. [`parse_federation`] does the
//! same for the federation file that a site file may name.
//!
//! This crate is pure: it never opens the files that a site file names, resolves no DNS names and
//! binds no address. What only the running system can know (a policy that does not compile, a
//! certificate that is missing) is added by the caller to [`Site::faults`] at
//! [`Site::place`], and reads the same.

mod address;
mod backend;
mod bandwidth;
mod diff;
mod fault;
mod federation;
mod identity;
mod lifetime;
mod node;
mod nodes;
mod parts;
mod place;
mod reach;
mod read;
mod schema;
mod selector;
mod site;
mod suggest;

pub use address::{AddressError, Host, HostPort};
pub use backend::{BackendAddress, BackendError};
pub use bandwidth::Bandwidth;
pub use diff::{Change, ChangeKind, Changes, Section, diff};
pub use fault::{Fault, Faults};
pub use federation::{FederationFile, Key, Mirror, parse_federation};
pub use identity::PinnedIdentity;
pub use lifetime::Lifetimes;
pub use nodes::Placement;
pub use parts::{
    Announcement, FederationPart, FileEntry, FileEntryKind, GatewayLink, Listener, PeerBundle,
    PolicySource, ProxyPart, ServerPart,
};
pub use place::{Item, Place};
pub use reach::{BundleWay, own_address};
pub use schema::schema;
pub use selector::{Selector, SelectorError, UnixSelector};
pub use site::{
    ApiServer, BundleEndpoint, BundleSource, Federated, Gateway, NodeSpec, Peer, Protocol, Service,
    Site, Use, Workload, WorkloadApiLimits, sni,
};

/// A site file of more bytes than this is refused unread.
pub const MAX_TEXT: usize = 1024 * 1024;

/// Parses and checks a site file. `name` is what faults call the file.
pub fn parse(name: &str, text: &str) -> Result<Site, Faults> {
    read::read(name, text)
}
