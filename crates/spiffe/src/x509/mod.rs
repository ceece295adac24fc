//! X.509-SVIDs: the rules for a certificate, chains and keys of this side, and the verification of
//! a peer by the bundle of its own trust domain (X509-SVID).

pub(crate) mod certificate;
mod peer_chain;
mod svid;
mod verify;

pub use certificate::{CertificateFault, SvidCertificate};
pub use peer_chain::PeerChain;
pub use svid::{PrivateKey, SvidError, X509Svid};
pub use verify::{PeerError, verify_peer};
