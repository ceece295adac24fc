//! Kafka sessions through the mesh: one client connection to one broker, carried byte by byte.
//!
//! A [`KafkaSession`] sits between a Kafka client and the broker whose connection it was given. It
//! follows the framing in both directions, remembers which requests await an answer, and rewrites
//! the few answers that name brokers, so that the client only ever learns local listeners.
//! Everything else passes as slices of the buffer it arrived in: record batches are neither
//! copied, collected nor parsed.
//!
//! # How a proxy uses it
//!
//! The *outbound* side, next to the client, owns the session. For each cluster it keeps a map from
//! node id to a local listener; that map is its implementation of [`Endpoints`]. A node seen for
//! the first time gets a listener, and the address the broker gave for it says where connections
//! to that listener go at the far site. Each accepted connection has its own session; the map is
//! shared. The *inbound* side has one as well: it keeps the real addresses at its site, and
//! enforces topic rights.
//!
//! # What is carried
//!
//! The requests of [`APIS`] in the versions that are carried, and the answer to ApiVersions is cut
//! down to them and to the cluster's features that they serve, so a client never chooses another
//! one. A client that sends another one all the same gets an answer of the form that it expects,
//! with the error `UNSUPPORTED_VERSION`. What the message definitions do not have has no such form:
//! the connection is closed behind the answers to earlier requests, as by a broker. Answers that
//! name brokers:
//!
//! | answer | |
//! | --- | --- |
//! | Metadata, FindCoordinator, DescribeCluster | rewritten in every version |
//! | Produce 10 and later | its NodeEndpoints (KIP-951) are rewritten |
//! | Fetch 16 and later | not offered: NodeEndpoints come behind the record batches |
//! | DescribeQuorum 2 | not offered |
//! | share groups, raft voters, requests among brokers | not offered |
//!
//! Client telemetry (KIP-714) is not offered either: a client's measurements stay at its site.
//! DescribeConfigs of a broker still shows `advertised.listeners` as text; clients do not dial it.
//!
//! # Topic rights
//!
//! A session with [`TopicRights`](renkei_access::TopicRights) is enforced at the callee's gateway. It carries fewer requests, in
//! versions that name topics by name; what is denied is answered per topic, in the version in use,
//! and the connection stays open. See the module `acl`.
//!
//! # Trust
//!
//! Both peers are hostile. Lengths are checked before anything is kept, memory is bounded by
//! [`MAX_REWRITTEN`] per direction, and counts read from the wire are never allocated for.
//! The crate is pure: no sockets, tasks or clock. The protocol: <https://kafka.apache.org/protocol>.

mod acl;
mod api;
mod cutter;
mod error;
mod form;
mod limits;
mod request;
mod rewrite;
mod rights;
mod sasl;
mod session;
mod wire;

pub use api::{APIS, Api};
pub use error::{Party, SessionError};
pub use limits::{MAX_FRAME, MAX_REWRITTEN};
pub use rewrite::{Endpoint, Endpoints};
pub use rights::Denial;
pub use session::{Collected, KafkaSession};
pub use wire::WireFault;
