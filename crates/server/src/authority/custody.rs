//! Making CAs, putting them away, and getting them back after a restart.

use std::{sync::Arc, time::Duration};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use renkei_api::status::CaState;
use renkei_spiffe::TrustDomain;
use rustls::crypto::SecureRandom;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    AuthorityError,
    certificate::{self, Validity},
    ring::{Ring, Signer},
};
use crate::store::{CaRow, Store};

/// A CA with a fresh key.
pub(super) fn new_ca(
    trust_domain: &TrustDomain,
    state: CaState,
    random: &dyn SecureRandom,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Signer, AuthorityError> {
    let serial = serial(random).ok_or(AuthorityError::Random)?;
    let validity = Validity::starting(now, lifetime);
    let key = KeyPair::generate()?;
    let certificate = certificate::authority(trust_domain, &key, serial, validity)?;
    let issuer = Arc::new(Issuer::from_ca_cert_der(&certificate, key)?);
    let id = hex::encode(serial);
    let key_file = Some(format!("{id}.pem"));
    let Validity {
        not_before,
        not_after,
    } = validity;
    Ok(Signer {
        ca: CaRow {
            id,
            certificate,
            state,
            not_before,
            not_after,
            key_file,
        },
        issuer,
    })
}

/// The key first: a certificate whose key was lost in a crash would be of no use.
pub(super) async fn keep(store: &Store, signer: &Signer) -> Result<(), AuthorityError> {
    if let Some(name) = &signer.ca.key_file {
        store.keys().write(name, signer.issuer.key())?;
    }
    store.add_authority(&signer.ca).await?;
    Ok(())
}

/// The CAs as they were kept, with the keys of those that may sign.
pub(super) async fn read_ring(store: &Store) -> Result<Ring, AuthorityError> {
    let (sequence, refresh_hint) = store.bundle_state().await?;
    let (mut active, mut prepared, mut old) = (None, None, Vec::new());
    for ca in store.authorities().await? {
        match ca.state {
            CaState::Active => active = Some(read_signer(store, ca)?),
            CaState::Prepared => prepared = Some(read_signer(store, ca)?),
            CaState::Old => old.push(ca),
        }
    }
    let active = active.ok_or_else(|| AuthorityError::Certificate {
        id: "(none)".to_owned(),
    })?;
    Ok(Ring {
        active,
        prepared,
        old,
        sequence,
        refresh_hint,
    })
}

/// A CA that has ended never signs again, so its key need not exist any longer.
pub(super) async fn delete_key(store: &Store, ca: &CaRow) {
    let Some(name) = &ca.key_file else { return };
    let deleted = match store.keys().remove(name) {
        Ok(()) => store.forget_key(&ca.id).await.map_err(AuthorityError::from),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = deleted {
        tracing::error!(%error, "the key of an expired CA could not be deleted");
    }
}

fn read_signer(store: &Store, ca: CaRow) -> Result<Signer, AuthorityError> {
    let damaged = || AuthorityError::Certificate { id: ca.id.clone() };
    let name = ca.key_file.as_deref().ok_or_else(damaged)?;
    let key = store.keys().read(name)?;
    let (_, parsed) = X509Certificate::from_der(&ca.certificate).map_err(|_| damaged())?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(store.keys().mismatch(name).into());
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
