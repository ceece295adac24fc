//! SPIFFE identities as values: IDs, X.509-SVIDs, trust bundles, and the TLS verifiers that
//! judge a peer by the bundle of *its own* trust domain.
//!
//! This crate is pure: no sockets, files, tasks or clock. Times come in as arguments, bytes come
//! in as slices. Standards: SPIFFE-ID, X509-SVID, SPIFFE_Trust_Domain_and_Bundle (cited at the
//! checks).

mod authorize;
mod bundle;
mod certificate;
mod document;
mod id;
mod peer_chain;
mod svid;
mod tls;
mod verify;

pub use authorize::{Authorizer, Denied};
pub use bundle::{Bundle, BundleSet, JwtAuthority};
pub use certificate::{CertificateFault, SvidCertificate};
pub use document::{DocumentError, MAX_DOCUMENT_BYTES};
pub use id::{IdError, SpiffeId, TrustDomain};
pub use peer_chain::PeerChain;
pub use svid::{Identities, NoSvid, PrivateKey, SvidError, X509Svid};
pub use tls::{
    ClientSide, Outcome, Refusal, ServerSide, alert_in_clear, anonymous_client_side, client_side,
    server_side, tell_time,
};
pub use verify::{PeerError, verify_peer};
