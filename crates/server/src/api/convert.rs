//! Values of this crate as messages of SPIRE's API.

use renkei_api::{
    node::EntryId,
    spire::api::types::{
        Bundle as BundleMessage, BundleMask, Entry, EntryMask, Selector as SelectorMessage,
        Spiffeid, Status as ItemStatus, X509Certificate, X509svid,
    },
};
use renkei_site::Selector;
use renkei_spiffe::{Bundle, SpiffeId};
use tonic::Code;

use crate::{authority::Signed, store::Registered};

pub(super) fn spiffe_id(id: &SpiffeId) -> Spiffeid {
    Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().to_owned(),
    }
}

pub(super) fn x509_svid(signed: Signed, hint: String) -> X509svid {
    X509svid {
        cert_chain: vec![signed.certificate.to_vec()],
        id: Some(spiffe_id(&signed.record.id)),
        expires_at: signed.record.not_after.unix_timestamp(),
        hint,
    }
}

/// The outcome of one item of a batch.
pub(super) fn status(code: Code, message: impl Into<String>) -> ItemStatus {
    ItemStatus {
        code: code.into(),
        message: message.into(),
    }
}

/// The CAs of a bundle. Keys of JWT-SVIDs are not handed on yet.
pub(super) fn bundle(bundle: &Bundle, mask: Option<&BundleMask>) -> BundleMessage {
    let all = BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        wit_authorities: true,
    };
    let mask = mask.unwrap_or(&all);
    let authority = |der: &rustls_pki_types::CertificateDer<'_>| X509Certificate {
        asn1: der.to_vec(),
        tainted: false,
    };
    let authorities = bundle.x509_authorities.iter();
    let hint = bundle.refresh_hint.unwrap_or_default().as_secs();
    BundleMessage {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: authorities
            .filter(|_| mask.x509_authorities)
            .map(authority)
            .collect(),
        refresh_hint: match mask.refresh_hint {
            true => i64::try_from(hint).unwrap_or(i64::MAX),
            false => 0,
        },
        sequence_number: match mask.sequence_number {
            true => bundle.sequence.unwrap_or_default(),
            false => 0,
        },
        ..BundleMessage::default()
    }
}

/// An entry for the agent that may ask for it. Nothing for one with a selector that this version
/// cannot read: without it more processes would match.
pub(super) fn entry(
    known: &Registered,
    parent: &SpiffeId,
    federates_with: &[String],
    mask: &EntryMask,
) -> Option<Entry> {
    let selectors = known.entry.selectors.iter();
    let selectors: Option<Vec<SelectorMessage>> = selectors.map(|text| selector(text)).collect();
    let selectors = selectors?;
    let mut message = Entry {
        id: known.entry.id.to_string(),
        ..Entry::default()
    };
    if mask.spiffe_id {
        message.spiffe_id = Some(spiffe_id(&known.entry.spiffe_id));
    }
    if mask.parent_id {
        message.parent_id = Some(spiffe_id(parent));
    }
    if mask.selectors {
        message.selectors = selectors;
    }
    if mask.federates_with {
        message.federates_with = federates_with.to_vec();
    }
    if mask.revision_number {
        message.revision_number = revision(known);
    }
    if mask.hint {
        message.hint.clone_from(&known.entry.hint);
    }
    if mask.created_at {
        message.created_at = known.since.unix_timestamp();
    }
    Some(message)
}

pub(super) fn revision(known: &Registered) -> i64 {
    i64::try_from(known.revision).unwrap_or(i64::MAX)
}

/// Every field: what an absent mask means.
pub(super) fn whole_entry() -> EntryMask {
    EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
    }
}

pub(super) fn entry_id(text: &str) -> Option<EntryId> {
    EntryId::parse(text).ok()
}

fn selector(text: &str) -> Option<SelectorMessage> {
    let selector = Selector::parse(text).ok()?.to_string();
    let (kind, value) = selector.split_once(':')?;
    Some(SelectorMessage {
        r#type: kind.to_owned(),
        value: value.to_owned(),
    })
}
