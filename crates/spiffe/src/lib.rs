//! SPIFFE identities as values: IDs, X.509-SVIDs, trust bundles, and the TLS verifiers that
//! judge a peer by the bundle of *its own* trust domain.
//!
//! This crate is pure: no sockets, files, tasks or clock. Times come in as arguments, bytes come
//! in as slices. Standards: SPIFFE-ID, X509-SVID, SPIFFE_Trust_Domain_and_Bundle (cited at the
//! checks).

mod authorize;
mod bundle;
mod id;
mod identities;
mod jwt;
mod tls;
mod verifier;
mod x509;

pub use authorize::{Authorizer, Denied};
pub use bundle::{Bundle, BundleEnd, BundleSet, DocumentError, MAX_DOCUMENT_BYTES};
pub use id::{IdError, SpiffeId, TrustDomain};
pub use identities::{Identities, NoSvid};
pub use jwt::JwtAuthority;
pub use tls::{
    ClientSide, HandshakeRefusal, Outcome, ServerSide, alert_in_clear, anonymous_client_side,
    client_side, server_side, server_side_for_anyone, tell_time,
};
pub use verifier::{CertificateCheck, CertificateVerifier};
pub use x509::{
    CertificateFault, PeerChain, PeerError, PrivateKey, SvidCertificate, SvidError, X509Svid,
    verify_peer,
};
