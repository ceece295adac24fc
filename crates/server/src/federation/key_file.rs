//! Ed25519 keys in files: PKCS#8 in PEM (RFC 8410), for their owner alone.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use pem::{EncodeConfig, LineEnding, Pem};
use renkei_federation::SigningKey;
use renkei_runtime::{files, state_folder::write_private};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

const MAX_BYTES: usize = 16 * 1024;

/// Why a key cannot be used. Its bytes never appear here.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("the key file {} cannot be used: {source}", path.display())]
    Unusable {
        /// The path of the key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the key file {path} has mode {mode:04o}, so other users can read it; if no one has, run: chmod 600 {path}", path = path.display()
    )]
    Exposed {
        /// The path of the key file.
        path: PathBuf,
        /// Its permission bits; 0600 is needed.
        mode: u32,
    },
    /// Not an Ed25519 key.
    #[error("the file {} holds no Ed25519 key (PKCS#8, PEM)", path.display())]
    Damaged {
        /// The path of the key file.
        path: PathBuf,
    },
    /// It would be overwritten.
    #[error("the key file {} exists already and is not changed", path.display())]
    Exists {
        /// The path of the key file.
        path: PathBuf,
    },
    /// No key can be made without random numbers of the system.
    #[error("the system gave no random numbers")]
    Random,
}

/// Makes a key that is in no file yet.
pub fn new_key(provider: &CryptoProvider) -> Result<SigningKey, KeyFileError> {
    let mut seed = [0; 32];
    let filled = provider.secure_random.fill(&mut seed);
    filled.map_err(|_| KeyFileError::Random)?;
    SigningKey::from_seed(&seed).map_err(|_| KeyFileError::Random)
}

/// Writes a key to a file that does not exist yet.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    let path = path.to_owned();
    if files::exists(&path) {
        return Err(KeyFileError::Exists { path });
    }
    let Ok(der) = key.to_pkcs8() else {
        return Err(KeyFileError::Damaged { path });
    };
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let pem = pem::encode_config(&Pem::new("PRIVATE KEY", der), config);
    write_private(&path, pem.as_bytes()).map_err(|source| KeyFileError::Unusable { path, source })
}

/// Reads a key; a file that others may read is refused.
pub fn read_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let path = path.to_owned();
    let owned = path.clone();
    let read = files::run(&path, move || {
        let file = files::open(&owned)?;
        let mode = file.metadata()?.mode() & 0o777;
        Ok((mode, files::read_file(file, MAX_BYTES)?))
    });
    let (mode, pem) = match read {
        Ok(read) => read,
        Err(source) => return Err(KeyFileError::Unusable { path, source }),
    };
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path, mode });
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).ok();
    let key = der.and_then(|der| SigningKey::from_pkcs8(der.secret_pkcs8_der()).ok());
    key.ok_or(KeyFileError::Damaged { path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::fixtures::provider;

    #[test]
    fn a_key_comes_back_for_its_owner_alone_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        let key = new_key(&provider()).unwrap();
        write_key(&path, &key).unwrap();
        assert_eq!(read_key(&path).unwrap().public(), key.public());
        let again = write_key(&path, &new_key(&provider()).unwrap());
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let exposed = read_key(&path).unwrap_err();
        assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "no key").unwrap();
        assert!(matches!(read_key(&path), Err(KeyFileError::Damaged { .. })));
        let gone = read_key(&folder.path().join("gone.pem")).unwrap_err();
        assert!(gone.to_string().contains("gone.pem"), "{gone}");
    }
}
