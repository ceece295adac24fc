//! Time that passes when a test says so, for tests in one thread: connections cost none of it.

use std::{sync::Arc, time::Duration};

use renkei_runtime::clock;
use renkei_spiffe::X509Svid;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::sync::{Mutex, MutexGuard};

/// Lets so much time pass at once, for everything in this test's runtime.
pub async fn pass(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// Lets all other tasks do what they can do now.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass, step by step, until this has come.
pub async fn pass_until<T>(step: Duration, what: impl Future<Output = T>) -> T {
    tokio::pin!(what);
    loop {
        tokio::select! {
            biased;
            result = &mut what => return result,
            () = settle() => {}
        }
        pass(step).await;
    }
}

/// The time of day, by which certificates end. It is the same for all tests of a process: one at
/// a time lets it pass.
pub struct TimeOfDay {
    _held: MutexGuard<'static, ()>,
}

static TIME_OF_DAY: Mutex<()> = Mutex::const_new(());

impl TimeOfDay {
    pub async fn hold() -> Self {
        renkei_spiffe::tell_time(Arc::new(ProcessTime));
        let _held = TIME_OF_DAY.lock().await;
        Self { _held }
    }

    /// Lets time pass, for certificates and for everything in this test's runtime.
    pub async fn pass(&self, by: Duration) {
        clock::passing::pass(by);
        pass(by).await;
    }

    /// Lets time pass until the certificate has ended.
    pub async fn end(&self, svid: &X509Svid) {
        let left = svid.not_after() - clock::now();
        let left = Duration::try_from(left).unwrap_or_default();
        self.pass(left + Duration::from_millis(1)).await;
    }
}

/// What TLS verifies certificates by.
#[derive(Debug)]
struct ProcessTime;

impl TimeProvider for ProcessTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = clock::now().unix_timestamp().try_into().ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}
