//! Sites that accept no connections, reached through a hub.
//!
//! ```text
//!  caller ──TLS─────────────────────────────────────────────────▶ gateway of the site
//!         ──TCP──▶ hub's gateway ══ link, a trunk that the site dialled ══▶ site's proxy ──▶
//! ```
//!
//! The site dials the hub and keeps the link (ALPN `renkei-relay/1`) for ever; both prove
//! themselves with the SVID of their server. A TLS greeting that comes to the hub's gateway for a
//! name of the site's trust domain is not answered there: its bytes, and all that follow both
//! ways, travel in a stream of the link to the site, whose gateway completes the handshake. The
//! hub holds no key of what passes.

mod arrival;
mod board;
mod link;
mod pass;
mod relays;
mod status;

pub(crate) use arrival::Arrivals;
pub(crate) use board::Board;
pub(crate) use link::{Link, Target};
pub(crate) use pass::pass;
pub(crate) use relays::{Judge, Relays, serve_link};
pub(crate) use status::HubMetrics;
pub(crate) use status::{hub, relays};

/// The link between a hub and a site that only dials out.
pub(crate) const ALPN_RELAY: &[u8] = b"renkei-relay/1";
