//! Making CAs, putting them away, and getting them back after a restart.

use std::{sync::Arc, time::Duration};

use rcgen::{Issuer, PublicKeyData};
use renkei_api::status::CaState;
use renkei_spiffe::TrustDomain;
use rustls::crypto::SecureRandom;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    AuthorityError,
    ca_rotation::{CaSet, Signer},
    certificate::{self, Validity},
};
use crate::{
    keys::KeyManager,
    store::{AuthorityStore, CaRow, StoreError},
};

/// Where CAs and their keys are kept.
pub(super) struct CaStore {
    pub(super) store: Arc<dyn AuthorityStore>,
    pub(super) keys: Arc<dyn KeyManager>,
    pub(super) random: &'static dyn SecureRandom,
}

/// What a new CA is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'a> {
    /// The first one, which signs.
    First,
    Next,
    /// It signs in place of this one.
    InPlaceOf(&'a str),
}

/// Makes a CA with a fresh key and keeps it. The key first: a certificate whose key was lost in a
/// crash would be of no use.
pub(super) async fn new_ca(
    cas: &CaStore,
    trust_domain: &TrustDomain,
    role: Role<'_>,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Signer, AuthorityError> {
    let serial = serial(cas.random).ok_or(AuthorityError::Random)?;
    let validity = Validity::starting(now, lifetime);
    let id = hex::encode(serial);
    let name = format!("{id}.pem");
    let key = cas.keys.generate(&name)?;
    let certificate = certificate::authority(trust_domain, &key, serial, validity)?;
    let issuer = Arc::new(Issuer::from_ca_cert_der(&certificate, key)?);
    let Validity {
        not_before,
        not_after,
    } = validity;
    let ca = CaRow {
        id,
        certificate,
        state: match role {
            Role::Next => CaState::Prepared,
            Role::First | Role::InPlaceOf(_) => CaState::Active,
        },
        not_before,
        not_after,
        key_file: Some(name.clone()),
    };
    let replaced = match role {
        Role::InPlaceOf(id) => Some(id),
        Role::First | Role::Next => None,
    };
    if let Err(error) = cas.store.add_authority(&ca, replaced).await {
        remove_unused(cas, &name, &error).await;
        return Err(error.into());
    }
    Ok(Signer { ca, issuer })
}

/// Removes the key of a CA that was not stored. One that may be stored later keeps it.
async fn remove_unused(cas: &CaStore, name: &str, error: &StoreError) {
    let is_unused = !error.may_be_done() && is_unnamed(cas, name).await;
    if !is_unused {
        tracing::warn!(
            key = name,
            "it is not certain that a new CA was not stored: its key is left"
        );
        return;
    }
    if let Err(error) = cas.keys.remove(name) {
        tracing::warn!(%error, "the key of a CA that could not be stored is left");
    }
}

/// Whether the store says that no CA has this key.
async fn is_unnamed(cas: &CaStore, name: &str) -> bool {
    let known = cas.store.authorities().await;
    known.is_ok_and(|all| all.iter().all(|ca| ca.key_file.as_deref() != Some(name)))
}

/// The CAs as they were kept, with the keys of those that may sign.
pub(super) async fn read_cas(cas: &CaStore) -> Result<CaSet, AuthorityError> {
    let store = &cas.store;
    let (sequence, refresh_hint) = store.bundle_state().await?;
    let (mut active, mut prepared, mut old) = (None, None, Vec::new());
    for ca in store.authorities().await? {
        match ca.state {
            CaState::Active => active = Some(read_signer(cas, ca)?),
            CaState::Prepared => prepared = Some(read_signer(cas, ca)?),
            CaState::Old => old.push(ca),
        }
    }
    let active = active.ok_or_else(|| AuthorityError::Certificate {
        id: "(none)".to_owned(),
    })?;
    Ok(CaSet {
        active,
        prepared,
        old,
        sequence,
        refresh_hint,
        lifetime: None,
    })
}

/// A CA that has ended never signs again, so its key need not exist any longer.
pub(super) async fn delete_key(cas: &CaStore, ca: &CaRow) {
    let (store, keys) = (&cas.store, &cas.keys);
    let Some(name) = &ca.key_file else { return };
    let deleted = match keys.remove(name) {
        Ok(()) => store.forget_key(&ca.id).await.map_err(AuthorityError::from),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = deleted {
        tracing::error!(%error, "the key of an expired CA could not be deleted");
    }
}

fn read_signer(cas: &CaStore, ca: CaRow) -> Result<Signer, AuthorityError> {
    let damaged = || AuthorityError::Certificate { id: ca.id.clone() };
    let name = ca.key_file.as_deref().ok_or_else(damaged)?;
    let key = cas.keys.key(name)?;
    let (_, parsed) = X509Certificate::from_der(&ca.certificate).map_err(|_| damaged())?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(cas.keys.mismatch(name).into());
    }
    let issuer = Issuer::from_ca_cert_der(&ca.certificate, key).map_err(|_| damaged())?;
    Ok(Signer {
        ca,
        issuer: Arc::new(issuer),
    })
}

/// 126 random bits: positive, never with a leading zero byte (RFC 5280 4.1.2.2).
pub(super) fn serial(random: &dyn SecureRandom) -> Option<[u8; 16]> {
    let mut serial = [0; 16];
    random.fill(&mut serial).ok()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Some(serial)
}
