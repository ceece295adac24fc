//! Judging a peer's certificate chain, by the bundle of the peer's own trust domain and by
//! nothing else (X509-SVID section 5).

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{CertificateFault, SvidCertificate, certificate};
use crate::{Bundle, BundleSet, SpiffeId};

/// Why a peer's certificate was refused. The text is for our own logs; the peer sees an alert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer presented nothing.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The leaf breaks X509-SVID.
    #[error("{0}")]
    BadSvid(#[from] CertificateFault),
    /// No bundle is known for the peer's trust domain.
    #[error("{} belongs to the trust domain {}, which is not a peer of this site", .0.short(), .0.trust_domain())]
    UnknownTrustDomain(SpiffeId),
    /// The chain does not end in an authority of that trust domain.
    #[error("the certificate of {} was not issued by a CA of {}", .0.short(), .0.trust_domain())]
    UntrustedCa(SpiffeId),
    /// Past its end of validity.
    #[error(
        "the certificate of {} ended at {}, {} before this host's clock: it was not renewed, or one of the two clocks is wrong",
        .id.short(), seconds(*.not_after), lapse(*.now - *.not_after)
    )]
    Expired {
        /// The SPIFFE ID that the peer's certificate names.
        id: SpiffeId,
        /// The end of the certificate's validity.
        not_after: OffsetDateTime,
        /// The time of the check.
        now: OffsetDateTime,
    },
    /// Before its start of validity.
    #[error(
        "the certificate of {} starts at {}, {} ahead of this host's clock: compare the clocks of both sites",
        .id.short(), seconds(*.not_before), lapse(*.not_before - *.now)
    )]
    NotYetValid {
        /// The SPIFFE ID that the peer's certificate names.
        id: SpiffeId,
        /// The start of the certificate's validity.
        not_before: OffsetDateTime,
        /// The time of the check.
        now: OffsetDateTime,
    },
    /// Any other failure of path validation (RFC 5280 section 6).
    #[error("the certificate chain of {} does not verify: {reason}", .id.short())]
    Chain {
        /// The SPIFFE ID that the peer's certificate names.
        id: SpiffeId,
        /// What the chain check said.
        reason: String,
    },
}

impl PeerError {
    /// A short, stable name for metrics and counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::BadSvid(_) => "bad_svid",
            Self::UnknownTrustDomain(_) => "unknown_trust_domain",
            Self::UntrustedCa(_) => "untrusted_ca",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Chain { .. } => "bad_chain",
        }
    }

    /// The ID that the peer claimed, where it could be read.
    pub fn claimed(&self) -> Option<&SpiffeId> {
        match self {
            Self::NoCertificate | Self::BadSvid(_) => None,
            Self::UnknownTrustDomain(id) | Self::UntrustedCa(id) => Some(id),
            Self::Expired { id, .. } | Self::NotYetValid { id, .. } | Self::Chain { id, .. } => {
                Some(id)
            }
        }
    }
}

/// RFC 3339, to the second.
fn seconds(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// A length of time as people say it, such as `1h 0m 4s`.
fn lapse(length: time::Duration) -> String {
    let s = length.whole_seconds().max(0);
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, s) => format!("{h}h {m}m {s}s"),
        (d, h, m, _) => format!("{d}d {h}h {m}m"),
    }
}

/// Verifies a chain (leaf first, DER) for TLS: the leaf by the rules of X509-SVID, then the path
/// to an authority in the bundle of the leaf's own trust domain, at the time `now`.
///
/// The extended key usage was checked for both roles with the leaf, so one direction serves both.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    bundles: &BundleSet,
    now: OffsetDateTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<SpiffeId, PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    let svid = SvidCertificate::parse_leaf(leaf)?;
    let bundle = bundles
        .get(svid.id.trust_domain())
        .ok_or_else(|| PeerError::UnknownTrustDomain(svid.id.clone()))?;
    // Path validation lets a certificate live through its last second, an owner does not use it
    // in that second: both must see the same end.
    if svid.not_after <= now {
        return Err(PeerError::Expired {
            id: svid.id,
            not_after: svid.not_after,
            now,
        });
    }
    let anchors = valid_anchors(bundle, now);
    let end_entity = EndEntityCert::try_from(leaf).map_err(|error| PeerError::Chain {
        id: svid.id.clone(),
        reason: error.to_string(),
    })?;
    end_entity
        .verify_for_usage(
            algorithms.all,
            &anchors,
            intermediates,
            unix(now),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| explain(error, &svid, now))?;
    Ok(svid.id)
}

/// Path validation takes a trust anchor for valid at any time, so expired authorities go first.
fn valid_anchors<'a>(bundle: &'a Bundle, now: OffsetDateTime) -> Vec<TrustAnchor<'a>> {
    let current = |der: &&CertificateDer<'_>| {
        certificate::read(der).is_ok_and(|authority| {
            let validity = authority.validity();
            (validity.not_before.to_datetime()..=validity.not_after.to_datetime()).contains(&now)
        })
    };
    bundle
        .x509_authorities
        .iter()
        .filter(current)
        .filter_map(|authority| anchor_from_trusted_cert(authority).ok())
        .collect()
}

fn unix(now: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        now.unix_timestamp().max(0).unsigned_abs(),
    ))
}

fn explain(error: webpki::Error, svid: &SvidCertificate, now: OffsetDateTime) -> PeerError {
    let id = svid.id.clone();
    match error {
        _ if now > svid.not_after => PeerError::Expired {
            id,
            not_after: svid.not_after,
            now,
        },
        _ if now < svid.not_before => PeerError::NotYetValid {
            id,
            not_before: svid.not_before,
            now,
        },
        webpki::Error::UnknownIssuer => PeerError::UntrustedCa(id),
        error if is_signature_fault(&error) => PeerError::UntrustedCa(id),
        error => PeerError::Chain {
            id,
            reason: error.to_string(),
        },
    }
}

/// A CA of the right name with another key shows as a bad signature, not as an unknown issuer.
fn is_signature_fault(error: &webpki::Error) -> bool {
    matches!(error, webpki::Error::InvalidSignatureForPublicKey)
}
