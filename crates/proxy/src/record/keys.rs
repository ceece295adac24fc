//! The keys of a connection after its handshake. rustls derives them (RFC 8446 7.2); both
//! directions share the state that it needs for that.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rustls::{
    ConnectionTrafficSecrets, Error, Tls13CipherSuite,
    crypto::cipher::{AeadKey, Iv, MessageDecrypter, MessageEncrypter},
    kernel::KernelConnection,
};

/// The most records that one key seals or opens, whatever the cipher allows: rustls's limit for
/// AES-GCM, two thirds of RFC 8446's (5.5).
const MOST: u64 = 1 << 24;

/// Derives the next secret of a direction.
trait KeySchedule: Send {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, Error>;
    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, Error>;
}

impl<Data: Send> KeySchedule for KernelConnection<Data> {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, Error> {
        self.update_tx_secret().map(|(_, secrets)| secrets)
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, Error> {
        self.update_rx_secret().map(|(_, secrets)| secrets)
    }
}

/// What both directions of a connection need for their next keys.
pub(super) struct TrafficKeys {
    schedule: Mutex<Box<dyn KeySchedule>>,
    suite: &'static Tls13CipherSuite,
    /// The peer waits for a new key of this side.
    requested: AtomicBool,
}

impl TrafficKeys {
    pub(super) fn new<Data: Send + 'static>(
        kernel: KernelConnection<Data>,
        suite: &'static Tls13CipherSuite,
    ) -> Self {
        Self {
            schedule: Mutex::new(Box::new(kernel)),
            suite,
            requested: AtomicBool::new(false),
        }
    }

    /// Records after which nothing more is sealed or opened with one key.
    pub(super) fn limit(&self) -> u64 {
        self.suite.common.confidentiality_limit.min(MOST)
    }

    pub(super) fn encrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Box<dyn MessageEncrypter>, Error> {
        let (key, iv) = key_of(secrets)?;
        Ok(self.suite.aead_alg.encrypter(key, iv))
    }

    pub(super) fn decrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Box<dyn MessageDecrypter>, Error> {
        let (key, iv) = key_of(secrets)?;
        Ok(self.suite.aead_alg.decrypter(key, iv))
    }

    pub(super) fn next_encrypter(&self) -> Result<Box<dyn MessageEncrypter>, Error> {
        self.requested.store(false, Ordering::Relaxed);
        let secrets = self.next(|schedule| schedule.next_tx())?;
        self.encrypter(secrets)
    }

    pub(super) fn next_decrypter(&self) -> Result<Box<dyn MessageDecrypter>, Error> {
        let secrets = self.next(|schedule| schedule.next_rx())?;
        self.decrypter(secrets)
    }

    /// The peer asks for a new key of this side. However often it asks before it gets one, it gets
    /// one.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    fn next<T>(&self, next: impl FnOnce(&mut dyn KeySchedule) -> T) -> T {
        let schedule = self.schedule.lock();
        next(&mut **schedule.unwrap_or_else(PoisonError::into_inner))
    }
}

fn key_of(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("this cipher is not supported".into())),
    }
}
