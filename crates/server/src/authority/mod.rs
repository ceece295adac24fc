//! The certificate authority of the own trust domain: its self-signed CAs, their rotation, and
//! the SVIDs they sign. Time comes in as an argument, so that a test rotates without waiting.

mod ca_rotation;
mod ca_store;
mod certificate;
mod error;
mod request;
mod subject;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use renkei_api::status::CaState;
use renkei_spiffe::{Bundle, SpiffeId, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use self::{
    ca_rotation::{CaSet, Step},
    ca_store::{CaStore, Role, delete_key, new_ca, read_cas, serial},
    certificate::Validity,
};
use crate::{
    keys::KeyManager,
    store::{CaRow, DataStore, IssuedRow, StoreError},
};
pub(crate) use ca_rotation::Reading;
pub(crate) use subject::Subject;

pub use error::{AuthorityError, SignError};
pub use request::RequestError;
pub(crate) use request::{check_request, requested_names};

/// A signed SVID and its record.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) certificate: CertificateDer<'static>,
    /// The CA that signed it.
    pub(crate) issuer: CertificateDer<'static>,
    pub(crate) record: IssuedRow,
}

/// Signs for identities. Whether one may be issued is the caller's to know.
#[async_trait]
pub(crate) trait Issuer: Send + Sync {
    /// Signs for the key of a certificate request, and puts the SVID on record.
    async fn issue(&self, subject: &Subject, csr: &[u8]) -> Result<Signed, SignError>;

    /// The same for an SVID by which the server knows a node. It outlives an outage of the server,
    /// however short the SVIDs of workloads are: the server checks it against its record each time.
    async fn issue_for_node(&self, id: &SpiffeId, csr: &[u8]) -> Result<Signed, SignError>;
}

/// The CAs of the own trust domain.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    kept: CaStore,
    cas: RwLock<CaSet>,
    /// Whether the store may have other CAs than `cas`: a change failed, which may still be made
    /// later.
    in_doubt: AtomicBool,
}

impl Authority {
    /// Reads the CAs back, or makes the first one.
    pub(crate) async fn open(
        (store, keys): (Arc<dyn DataStore>, Arc<dyn KeyManager>),
        trust_domain: TrustDomain,
        provider: &CryptoProvider,
        lifetimes: CaLifetimes,
        time: impl Into<Reading>,
    ) -> Result<Self, AuthorityError> {
        let time = time.into();
        let random = provider.secure_random;
        let path = store.path().to_owned();
        let kept = CaStore {
            store,
            keys,
            random,
        };
        let store = &kept.store;
        store.set_refresh_hint(lifetimes.refresh_hint).await?;
        let known = store.authorities().await?;
        if known.iter().all(|ca| ca.state != CaState::Active) {
            // The sequence of the bundle rises with its first CA.
            let (sequence, _) = store.bundle_state().await?;
            if sequence > 0 || !known.is_empty() {
                return Err(AuthorityError::Lost { path });
            }
            tracing::info!(%trust_domain, "a new state folder: its first CA is made");
            new_ca(&kept, &trust_domain, Role::First, lifetimes.ca, time.now).await?;
        }
        let cas = RwLock::new(read_cas(&kept).await?);
        let authority = Self {
            trust_domain,
            kept,
            cas,
            in_doubt: AtomicBool::new(false),
        };
        authority.rotate(lifetimes, time).await?;
        Ok(authority)
    }

    /// Takes every step that is due. `true` when the published bundle or the signing CA changed.
    /// After a failure, the next call begins with the CAs that the store has.
    pub(crate) async fn rotate(
        &self,
        lifetimes: CaLifetimes,
        time: impl Into<Reading>,
    ) -> Result<bool, AuthorityError> {
        let mut changed = false;
        if self.in_doubt.swap(true, Ordering::Relaxed) {
            let before = self.bundle_and_signer();
            self.replace(read_cas(&self.kept).await?);
            changed = self.bundle_and_signer() != before;
        }
        changed |= self.take_steps(lifetimes, time.into()).await?;
        // Not after an error, nor when the caller does not wait for the end.
        self.in_doubt.store(false, Ordering::Relaxed);
        Ok(changed)
    }

    async fn take_steps(
        &self,
        lifetimes: CaLifetimes,
        time: Reading,
    ) -> Result<bool, AuthorityError> {
        let now = time.now;
        let mut changed = false;
        if self.snapshot().refresh_hint != lifetimes.refresh_hint {
            self.kept
                .store
                .set_refresh_hint(lifetimes.refresh_hint)
                .await?;
            self.replace(CaSet {
                refresh_hint: lifetimes.refresh_hint,
                ..self.snapshot()
            });
            changed = true;
        }
        self.replace(CaSet {
            lifetime: Some(lifetimes.ca),
            ..self.snapshot()
        });
        while let Some(step) = self.snapshot().due(time) {
            match step {
                Step::Prepare => self.prepare(lifetimes.ca, now).await?,
                Step::Activate => self.activate().await?,
                Step::RemoveEnded => self.remove_ended(time.ended.unwrap_or(now)).await?,
                Step::Replace => self.replace_active(lifetimes.ca, now).await?,
                Step::SetAside => self.set_aside().await?,
            }
            tracing::info!(trust_domain = %self.trust_domain, ?step, "CA rotation");
            changed = true;
        }
        Ok(changed)
    }

    async fn prepare(&self, lifetime: Duration, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let next = new_ca(&self.kept, &self.trust_domain, Role::Next, lifetime, now).await?;
        let (sequence, _) = self.kept.store.bundle_state().await?;
        self.replace(CaSet {
            prepared: Some(next),
            sequence,
            ..self.snapshot()
        });
        Ok(())
    }

    async fn activate(&self) -> Result<(), AuthorityError> {
        let before = self.snapshot();
        if let Some(next) = &before.prepared {
            self.kept.store.activate_prepared(&next.ca.id).await?;
        }
        self.replace(before.activated());
        Ok(())
    }

    async fn set_aside(&self) -> Result<(), AuthorityError> {
        if let Some(next) = self.snapshot().prepared {
            self.kept.store.set_prepared_aside(&next.ca.id).await?;
        }
        self.replace(read_cas(&self.kept).await?);
        Ok(())
    }

    /// The active CA was made by a clock that was ahead. It stays, for the case that this one is
    /// the wrong one.
    async fn replace_active(
        &self,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let before = self.snapshot();
        let (to_come, not_before) = (&before.active.ca.id, before.active.ca.not_before);
        match before.valid_old(now) {
            Some(old) => {
                tracing::warn!(%to_come, %not_before, ca = old.id, "the CA is not yet valid: the previous one signs again");
                self.kept.store.reinstate(&old.id).await?;
            }
            None => {
                let role = Role::InPlaceOf(to_come);
                let next = new_ca(&self.kept, &self.trust_domain, role, lifetime, now).await?;
                tracing::warn!(%to_come, %not_before, ca = next.ca.id, "the CA is not yet valid: a new one signs");
            }
        }
        self.replace(read_cas(&self.kept).await?);
        Ok(())
    }

    async fn remove_ended(&self, by: OffsetDateTime) -> Result<(), AuthorityError> {
        for ca in self.snapshot().old.iter().filter(|ca| ca.not_after <= by) {
            delete_key(&self.kept, ca).await;
        }
        self.kept.store.remove_ended(by).await?;
        let (sequence, _) = self.kept.store.bundle_state().await?;
        let mut cas = self.snapshot();
        cas.old.retain(|ca| ca.not_after > by);
        self.replace(CaSet { sequence, ..cas });
        Ok(())
    }

    /// Signs for a registered identity; that it is registered is the caller's to know.
    pub(crate) fn sign(
        &self,
        subject: impl Into<Subject>,
        request: &[u8],
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Signed, SignError> {
        let subject = subject.into();
        let key = request::requested_key(request)?;
        let active = self.snapshot().active;
        if active.ca.not_after <= now {
            return Err(SignError::AuthorityEnded {
                not_after: active.ca.not_after,
            });
        }
        if active.ca.not_before > now {
            return Err(SignError::ClockBehind {
                now,
                not_before: active.ca.not_before,
            });
        }
        let serial = serial(self.kept.random).ok_or(SignError::Random)?;
        let end = subject.ends_at.unwrap_or(active.ca.not_after);
        if end <= now {
            return Err(SignError::EntryEnded { end });
        }
        let lifetime = subject.lifetime.unwrap_or(lifetime);
        let validity = Validity::starting(now, lifetime).ending_by(end.min(active.ca.not_after));
        let certificate = certificate::svid(&subject, &key, &active.issuer, serial, validity)?;
        let record = IssuedRow {
            serial: hex::encode(serial),
            id: subject.id,
            not_before: validity.not_before,
            not_after: validity.not_after,
            issued_at: now,
        };
        Ok(Signed {
            certificate,
            issuer: active.ca.certificate.clone(),
            record,
        })
    }

    /// The own bundle as it is to be published.
    pub(crate) fn bundle(&self) -> Bundle {
        let cas = self.snapshot();
        bundle(
            &self.trust_domain,
            &cas.authorities(),
            cas.sequence,
            cas.refresh_hint,
        )
    }

    /// Every CA, the oldest first.
    pub(crate) fn authorities(&self) -> Vec<CaRow> {
        self.snapshot().authorities().into_iter().cloned().collect()
    }

    /// Whether a step of rotation is due.
    pub(crate) fn is_due(&self, time: Reading) -> bool {
        self.snapshot().due(time).is_some()
    }

    /// When rotation may have something to do next.
    pub(crate) fn next_step(&self) -> OffsetDateTime {
        self.snapshot().next_step()
    }

    fn bundle_and_signer(&self) -> (Bundle, String) {
        (self.bundle(), self.snapshot().active.ca.id)
    }

    fn snapshot(&self) -> CaSet {
        self.cas
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, cas: CaSet) {
        let mut present = self.cas.write().unwrap_or_else(PoisonError::into_inner);
        // The store does not know it.
        let lifetime = cas.lifetime.or(present.lifetime);
        *present = CaSet { lifetime, ..cas };
    }
}

/// How long a CA lives, and how often peers should fetch the bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CaLifetimes {
    pub(crate) ca: Duration,
    pub(crate) refresh_hint: Duration,
}

/// The own bundle from a state folder, whether or not a server runs on it.
pub(crate) async fn stored_bundle(store: &dyn DataStore) -> Result<Bundle, StoreError> {
    let authorities = store.authorities().await?;
    let (sequence, refresh_hint) = store.bundle_state().await?;
    let trust_domain = store.trust_domain().await?;
    let all: Vec<&CaRow> = authorities.iter().collect();
    Ok(bundle(&trust_domain, &all, sequence, refresh_hint))
}

fn bundle(
    trust_domain: &TrustDomain,
    authorities: &[&CaRow],
    sequence: u64,
    refresh_hint: Duration,
) -> Bundle {
    Bundle {
        x509_authorities: authorities
            .iter()
            .map(|ca| ca.certificate.clone())
            .collect(),
        sequence: Some(sequence),
        refresh_hint: Some(refresh_hint),
        ..Bundle::empty(trust_domain.clone())
    }
}

#[cfg(test)]
mod tests;
