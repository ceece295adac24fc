//! Changes of the store that give no answer in time and are made nevertheless.

use std::{path::Path, sync::Mutex};

use async_trait::async_trait;

use super::*;
use crate::store::AuthorityStore;

/// A store whose next change gives no answer, but is made. Readers see it after `unseen` more
/// reads.
struct Late {
    inner: Arc<SqliteStore>,
    unseen: usize,
    late: Mutex<Option<Vec<Vec<CaRow>>>>,
    armed: AtomicBool,
}

impl Late {
    async fn answer(
        &self,
        change: impl Future<Output = Result<(), StoreError>> + Send,
    ) -> Result<(), StoreError> {
        if !self.armed.swap(false, Ordering::Relaxed) {
            return change.await;
        }
        let before = self.inner.authorities().await?;
        change.await?;
        *self.late.lock().unwrap() = Some(vec![before; self.unseen]);
        let path = self.inner.path().to_owned();
        Err(StoreError::NoAnswer { path })
    }
}

#[async_trait]
impl AuthorityStore for Late {
    async fn authorities(&self) -> Result<Vec<CaRow>, StoreError> {
        let before = self.late.lock().unwrap().as_mut().and_then(Vec::pop);
        match before {
            Some(before) => Ok(before),
            None => self.inner.authorities().await,
        }
    }

    async fn bundle_state(&self) -> Result<(u64, Duration), StoreError> {
        self.inner.bundle_state().await
    }

    async fn set_refresh_hint(&self, hint: Duration) -> Result<(), StoreError> {
        self.inner.set_refresh_hint(hint).await
    }

    async fn add_authority(&self, ca: &CaRow, replaced: Option<&str>) -> Result<(), StoreError> {
        self.answer(self.inner.add_authority(ca, replaced)).await
    }

    async fn activate_prepared(&self, id: &str) -> Result<(), StoreError> {
        self.answer(self.inner.activate_prepared(id)).await
    }

    async fn set_prepared_aside(&self, id: &str) -> Result<(), StoreError> {
        self.answer(self.inner.set_prepared_aside(id)).await
    }

    async fn reinstate(&self, id: &str) -> Result<(), StoreError> {
        self.answer(self.inner.reinstate(id)).await
    }

    async fn forget_key(&self, id: &str) -> Result<(), StoreError> {
        self.inner.forget_key(id).await
    }

    async fn remove_ended(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        self.answer(self.inner.remove_ended(now)).await
    }
}

/// An authority that has done its steps at `done`, and whose next change is late.
async fn late(folder: &Path, first: OffsetDateTime, done: &[Reading], unseen: usize) -> Authority {
    let (store, mut authority) = open_store(folder, first).await.unwrap();
    for time in done {
        authority.rotate(LIFETIMES, *time).await.unwrap();
    }
    authority.kept.store = Arc::new(Late {
        inner: store,
        unseen,
        late: Mutex::default(),
        armed: AtomicBool::new(true),
    });
    authority
}

/// The step that is due at `now` is done in the end, once, and a restart finds what it left.
async fn is_done_once(first: OffsetDateTime, done: &[Reading], now: Reading, after: &[&str]) {
    for unseen in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let authority = late(folder.path(), first, done, unseen).await;
        let error = authority.rotate(LIFETIMES, now).await.unwrap_err();
        let expected = matches!(error, AuthorityError::Store(StoreError::NoAnswer { .. }));
        assert!(expected, "{error}");
        let mut again = authority.rotate(LIFETIMES, now).await;
        if again.is_err() {
            // The change came after the CAs had been read again.
            assert_eq!(unseen, 1, "{again:?}");
            again = authority.rotate(LIFETIMES, now).await;
        }
        assert!(again.unwrap(), "what changed is published");
        assert_eq!(states(&authority), after);
        let (bundle, all) = (authority.bundle(), authority.authorities());
        for ca in &all {
            let key = folder
                .path()
                .join("keys")
                .join(ca.key_file.as_ref().unwrap());
            assert!(key.exists(), "{key:?}");
        }
        drop(authority);
        let store = SqliteStore::open_read_only(folder.path()).await.unwrap();
        assert_eq!(stored_bundle(&store).await.unwrap(), bundle);
        assert_eq!(store.authorities().await.unwrap(), all);
        let kept = CaStore {
            keys: Arc::new(store.keys().clone()),
            store: Arc::new(store),
            random: provider().secure_random,
        };
        read_cas(&kept).await.unwrap();
    }
}

fn at(hours: i64) -> Reading {
    Reading::from(START + Span::hours(hours))
}

/// By a clock that has jumped.
fn unsettled(hours: i64) -> Reading {
    Reading {
        ended: None,
        ..at(hours)
    }
}

#[tokio::test]
async fn a_ca_that_is_prepared_late_keeps_its_key() {
    is_done_once(START, &[], at(12), &["active", "prepared"]).await;
}

#[tokio::test]
async fn a_ca_that_is_activated_late_signs() {
    is_done_once(START, &[at(12)], at(20), &["old", "active"]).await;
}

#[tokio::test]
async fn a_ca_that_is_replaced_or_reinstated_late_leaves_one_that_signs() {
    let ahead = START + Span::days(4_000);
    is_done_once(ahead, &[], at(0), &["active", "old"]).await;
    let done = [unsettled(24 * 4_000)];
    is_done_once(START, &done, unsettled(1), &["active", "old"]).await;
}

#[tokio::test]
async fn a_prepared_ca_that_is_set_aside_late_is_replaced() {
    // Prepared by a clock that was ahead.
    let done = [unsettled(20)];
    is_done_once(START, &done, unsettled(13), &["active", "prepared", "old"]).await;
}

#[tokio::test]
async fn a_ca_that_ended_leaves_late() {
    is_done_once(START, &[at(12), at(20)], at(24), &["active", "prepared"]).await;
}
