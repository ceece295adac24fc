//! The keys of the CA. Who signs does not know where a key is kept: in a file, or in a device that
//! never gives it out.

use std::{fmt, sync::Arc};

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};

use crate::store::{KeyFileError, KeyFolder};

/// A key that signs.
#[derive(Clone)]
pub(crate) struct CaKey(Arc<dyn SigningKey + Send + Sync>);

impl CaKey {
    pub(crate) fn new(key: impl SigningKey + Send + Sync + 'static) -> Self {
        Self(Arc::new(key))
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKey(..)")
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error(transparent)]
    Generation(#[from] rcgen::Error),
    #[error(transparent)]
    Keep(#[from] KeyFileError),
}

/// Makes and keeps keys. Names are chosen by the caller, each for one key.
pub(crate) trait KeyManager: Send + Sync {
    /// Makes a key. When this returns, the key outlives a crash.
    fn generate(&self, name: &str) -> Result<CaKey, GenerateError>;

    /// A key that was made before.
    fn key(&self, name: &str) -> Result<CaKey, KeyFileError>;

    /// Deletes a key; one that does not exist is no error.
    fn remove(&self, name: &str) -> Result<(), KeyFileError>;

    /// The error for a key that is not its certificate's.
    fn mismatch(&self, name: &str) -> KeyFileError;
}

impl KeyManager for KeyFolder {
    fn generate(&self, name: &str) -> Result<CaKey, GenerateError> {
        let key = KeyPair::generate()?;
        self.write(name, &key)?;
        Ok(CaKey::new(key))
    }

    fn key(&self, name: &str) -> Result<CaKey, KeyFileError> {
        self.read(name).map(CaKey::new)
    }

    fn remove(&self, name: &str) -> Result<(), KeyFileError> {
        Self::remove(self, name)
    }

    fn mismatch(&self, name: &str) -> KeyFileError {
        Self::mismatch(self, name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rcgen::{CertificateParams, Issuer};

    use super::*;
    use crate::{fixtures::own, store::SqliteStore};

    /// What every manager of keys must do.
    fn keeps_keys(manager: &dyn KeyManager) {
        let key = manager.generate("one.pem").unwrap();
        let other = manager.generate("two.pem").unwrap();
        assert_ne!(key.der_bytes(), other.der_bytes());
        let again = manager.key("one.pem").unwrap();
        assert_eq!(key.der_bytes(), again.der_bytes());
        assert!(!format!("{key:?}").contains(char::is_numeric));

        // What the one signs, the other's public key verifies.
        let ca = CertificateParams::default().self_signed(&key).unwrap();
        let issuer = Issuer::from_ca_cert_der(ca.der(), again).unwrap();
        let leaf = CertificateParams::default().signed_by(&other, &issuer);
        let (ca, leaf) = (ca.der().clone(), leaf.unwrap());
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf.der()).unwrap();
        leaf.verify_signature(Some(ca.public_key())).unwrap();

        for _ in 0..2 {
            manager.remove("one.pem").unwrap();
        }
        manager.key("one.pem").unwrap_err();
        manager.key("two.pem").unwrap();
    }

    #[tokio::test]
    async fn a_folder_keeps_keys() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
        keeps_keys(store.keys());
    }

    /// As a device would: nothing of it is a file.
    #[derive(Default)]
    struct Memory(std::sync::Mutex<BTreeMap<String, CaKey>>);

    impl KeyManager for Memory {
        fn generate(&self, name: &str) -> Result<CaKey, GenerateError> {
            let key = CaKey::new(KeyPair::generate()?);
            self.0.lock().unwrap().insert(name.to_owned(), key.clone());
            Ok(key)
        }

        fn key(&self, name: &str) -> Result<CaKey, KeyFileError> {
            let key = self.0.lock().unwrap().get(name).cloned();
            key.ok_or_else(|| KeyFileError::Missing { path: name.into() })
        }

        fn remove(&self, name: &str) -> Result<(), KeyFileError> {
            self.0.lock().unwrap().remove(name);
            Ok(())
        }

        fn mismatch(&self, name: &str) -> KeyFileError {
            KeyFileError::Mismatch { path: name.into() }
        }
    }

    #[test]
    fn a_device_keeps_keys() {
        keeps_keys(&Memory::default());
    }
}
