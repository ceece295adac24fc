//! Values of this crate as messages of SPIRE's API.

use renkei_api::{
    node::EntryId,
    spire::api::types::{
        Bundle as BundleMessage, BundleMask, Entry, EntryMask, Selector as SelectorMessage,
        Spiffeid, Status as ItemStatus, X509Certificate, X509svid,
    },
};
use renkei_site::Selector;
use renkei_spiffe::{Bundle, SpiffeId, TrustDomain};
use tonic::Code;

use super::selectors;
use crate::{
    authority::Signed,
    store::{EntrySource, Registered},
};

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

/// An entry with what the mask names. Nothing for one of the site file with a selector that this
/// version cannot read: without it more processes would match.
pub(super) fn entry(
    known: &Registered,
    parent: &SpiffeId,
    federates_with: &[String],
    mask: &EntryMask,
) -> Option<Entry> {
    let is_raw = known.source == EntrySource::API;
    let selectors = known.entry.selectors.iter().map(|text| match is_raw {
        true => selectors::message(text),
        false => selectors::message(&Selector::parse(text).ok()?.to_string()),
    });
    let selectors: Vec<SelectorMessage> = selectors.collect::<Option<_>>()?;
    let attributes = &known.entry.attributes;
    let ttl = attributes.x509_svid_seconds.unwrap_or_default();
    let whole = Entry {
        id: known.entry.id.to_string(),
        spiffe_id: Some(spiffe_id(&known.entry.spiffe_id)),
        parent_id: Some(spiffe_id(parent)),
        selectors,
        x509_svid_ttl: i32::try_from(ttl).unwrap_or(i32::MAX),
        federates_with: federates_with.to_vec(),
        admin: attributes.admin,
        downstream: attributes.downstream,
        expires_at: attributes.expires_at.unwrap_or_default(),
        dns_names: attributes.dns_names.clone(),
        revision_number: revision(known),
        hint: known.entry.hint.clone(),
        created_at: known.since.unix_timestamp(),
        ..Entry::default()
    };
    Some(masked(whole, mask))
}

/// The ID always stays.
fn masked(whole: Entry, mask: &EntryMask) -> Entry {
    Entry {
        id: whole.id,
        spiffe_id: whole.spiffe_id.filter(|_| mask.spiffe_id),
        parent_id: whole.parent_id.filter(|_| mask.parent_id),
        selectors: kept(whole.selectors, mask.selectors),
        x509_svid_ttl: kept(whole.x509_svid_ttl, mask.x509_svid_ttl),
        federates_with: kept(whole.federates_with, mask.federates_with),
        admin: kept(whole.admin, mask.admin),
        downstream: kept(whole.downstream, mask.downstream),
        expires_at: kept(whole.expires_at, mask.expires_at),
        dns_names: kept(whole.dns_names, mask.dns_names),
        revision_number: kept(whole.revision_number, mask.revision_number),
        hint: kept(whole.hint, mask.hint),
        created_at: kept(whole.created_at, mask.created_at),
        ..Entry::default()
    }
}

fn kept<T: Default>(value: T, is_wanted: bool) -> T {
    match is_wanted {
        true => value,
        false => T::default(),
    }
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

/// An ID of the own trust domain.
pub(super) fn own_id(id: Option<Spiffeid>, own: &TrustDomain) -> Result<SpiffeId, String> {
    let id = id.ok_or("the ID is missing")?;
    let name = trust_domain(&id.trust_domain)?;
    if name != *own {
        return Err(format!("{name}{} is not of {own}", id.path));
    }
    SpiffeId::with_path(name, &id.path).map_err(|error| error.to_string())
}

/// A trust domain by its name or its ID.
pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    let name = text.strip_prefix("spiffe://").unwrap_or(text);
    TrustDomain::parse(name).map_err(|error| error.to_string())
}
