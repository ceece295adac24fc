//! CA keys as files `keys/ID.pem`, readable by the owner alone. Written whole or not at all.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rcgen::KeyPair;
use renkei_runtime::{
    files,
    state_folder::{StateFolder, StateFolderError, write_private},
};

use super::KeyFileError;

/// A PEM file with an EC or RSA key is far smaller.
const MAX_KEY_FILE: usize = 64 * 1024;

/// The folder with the CA's keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyFolder(PathBuf);

impl KeyFolder {
    pub(super) fn open(state: &StateFolder) -> Result<Self, StateFolderError> {
        Ok(Self(state.subfolder("keys")?.path().to_owned()))
    }

    /// For reading a state folder that exists.
    pub(super) fn existing(state: &Path) -> Self {
        Self(state.join("keys"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a key so that after a crash the file is either whole or absent.
    pub(crate) fn write(&self, name: &str, key: &KeyPair) -> Result<(), KeyFileError> {
        let path = self.path(name);
        write_private(&path, key.serialize_pem().as_bytes())
            .map_err(|source| KeyFileError::Unusable { path, source })
    }

    /// Reads a key back; a file that others may read is refused.
    pub(crate) fn read(&self, name: &str) -> Result<KeyPair, KeyFileError> {
        let path = self.path(name);
        let unusable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing { path: path.clone() },
            _ => KeyFileError::Unusable {
                path: path.clone(),
                source,
            },
        };
        let owned = path.clone();
        let read = files::run(&path, move || {
            let file = files::open(&owned)?;
            let mode = file.metadata()?.mode() & 0o777;
            Ok((mode, files::read_file(file, MAX_KEY_FILE)?))
        });
        let (mode, pem) = read.map_err(unusable)?;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path, mode });
        }
        let key = std::str::from_utf8(&pem).ok();
        let key = key.and_then(|pem| KeyPair::from_pem(pem).ok());
        key.ok_or(KeyFileError::Damaged { path })
    }

    /// Deletes the key of a CA that will not sign again.
    pub(crate) fn remove(&self, name: &str) -> Result<(), KeyFileError> {
        let path = self.path(name);
        let owned = path.clone();
        #[cfg_attr(
            not(test),
            expect(clippy::disallowed_methods, reason = "on a thread that may wait")
        )]
        let removed = files::run(&path, move || fs::remove_file(owned));
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(KeyFileError::Unusable { path, source })
            }
            _ => Ok(()),
        }
    }

    /// The error for a key that is not the certificate's.
    pub(crate) fn mismatch(&self, name: &str) -> KeyFileError {
        KeyFileError::Mismatch {
            path: self.path(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let state = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(&StateFolder::open(state.path()).unwrap()).unwrap();
        (state, keys)
    }

    #[test]
    fn a_key_comes_back_and_only_the_owner_may_read_it() {
        let (_state, keys) = folder();
        let key = KeyPair::generate().unwrap();
        keys.write("a.pem", &key).unwrap();
        let mode = fs::metadata(keys.path("a.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            keys.read("a.pem").unwrap().public_key_raw(),
            key.public_key_raw()
        );
        assert_eq!(
            fs::read_dir(&keys.0).unwrap().count(),
            1,
            "no partial file is left"
        );
    }

    #[test]
    fn a_readable_key_is_refused_with_the_command_that_helps() {
        let (_state, keys) = folder();
        keys.write("a.pem", &KeyPair::generate().unwrap()).unwrap();
        fs::set_permissions(keys.path("a.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        let error = keys.read("a.pem").unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn missing_and_damaged_keys_name_the_file() {
        let (_state, keys) = folder();
        let missing = keys.read("gone.pem").unwrap_err();
        assert!(matches!(missing, KeyFileError::Missing { .. }));
        assert!(missing.to_string().contains("gone.pem"), "{missing}");

        keys.write("a.pem", &KeyPair::generate().unwrap()).unwrap();
        fs::write(keys.path("a.pem"), [0xff, 0xfe, 0x00]).unwrap();
        assert!(matches!(
            keys.read("a.pem"),
            Err(KeyFileError::Damaged { .. })
        ));
        fs::write(keys.path("a.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap();
        assert!(matches!(
            keys.read("a.pem"),
            Err(KeyFileError::Damaged { .. })
        ));
    }
}
