//! What only a site that has run leaves in its state folder. Where such traces are, and the database
//! knows no CA, that database was lost.
//!
//! `renkei federation join` and `import-removal` may come before the first start, so what they make
//! is no trace: the site's roots, its online key, its witness that has signed nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use renkei_runtime::files;

use super::{StoreError, is_empty};

/// A CA has a file each, and few CAs live at a time. A federation has some files more.
const MAX_FILES: usize = 10_000;
const MAX_WITNESS: usize = 64 * 1024;

/// A database that knows no CA is not this folder's, if something of a site that has run is there.
pub(super) fn check_none(folder: &Path, database: &Path) -> Result<(), StoreError> {
    match find(folder)? {
        None => Ok(()),
        Some(trace) => Err(StoreError::Lost {
            path: database.to_owned(),
            trace,
        }),
    }
}

/// The same before the database is opened, which then has a log of its own. A rollback journal is
/// no trace: a first start that was cut off before the database had its mode leaves one, too.
pub(super) fn check_none_beside(folder: &Path, database: &Path) -> Result<(), StoreError> {
    let trace = folder.join("renkei.db-wal");
    if !is_empty(&trace) {
        let path = database.to_owned();
        return Err(StoreError::Lost { path, trace });
    }
    check_none(folder, database)
}

fn find(folder: &Path) -> Result<Option<PathBuf>, StoreError> {
    // Copies that someone made of keys are traces, too.
    if let Some(key) = list(&folder.join("keys"))?.into_iter().next() {
        return Ok(Some(key));
    }
    let ports = folder.join("broker-ports.json");
    if files::exists(&ports) {
        return Ok(Some(ports));
    }
    let federation = list(&folder.join("federation"))?;
    Ok(federation.into_iter().find(|path| is_of_a_member(path)))
}

/// Of a site that has followed its federation's log.
fn is_of_a_member(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.unwrap_or_default() {
        "bundle.json" | "made" => true,
        "witness.json" => has_signed(path),
        name => name.starts_with("log-"),
    }
}

/// Whether a witness remembers a log.
fn has_signed(memory: &Path) -> bool {
    let memory = files::read(memory, MAX_WITNESS).ok();
    let memory = memory.and_then(|it| serde_json::from_slice::<serde_json::Value>(&it).ok());
    memory.is_some_and(|memory| memory.get("size").and_then(serde_json::Value::as_u64) != Some(0))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match files::list(folder, MAX_FILES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| StoreError::Unusable {
            path: folder.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{fixtures::own, store::SqliteStore};

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn whatever_a_running_site_has_left_keeps_a_new_ca_away() {
        for (name, text) in [
            ("keys/1.pem", "-"),
            ("keys/1.pem.bak", "-"),
            ("keys/.old", ""),
            ("renkei.db-wal", "-"),
            ("broker-ports.json", "{}"),
            ("federation/log-0a1b/checkpoint", "-"),
            ("federation/log-0a1b.fork", "-"),
            ("federation/bundle.json", "{}"),
            ("federation/made", ""),
            ("federation/witness.json", r#"{"size":7,"root":"x"}"#),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), name, text);
            // Also at the second attempt, and with an empty database.
            for _ in 0..2 {
                let error = SqliteStore::open(folder.path(), &own()).await.unwrap_err();
                let StoreError::Lost { trace, .. } = &error else {
                    panic!("{name}: {error}");
                };
                assert!(folder.path().join(name).starts_with(trace), "{error}");
                let text = error.to_string();
                assert!(text.contains("move the state folder away"), "{text}");
                fs::write(folder.path().join("renkei.db"), "").unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_journal_beside_an_empty_database_is_a_trace_only_with_another_one() {
        for (other, lost) in [
            (None, false),
            (Some("keys/1.pem"), true),
            (Some("renkei.db-wal"), true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), "renkei.db", "");
            // As SQLite begins it, before the first page of the database is written.
            let mut journal = vec![0; 512];
            journal[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
            fs::write(folder.path().join("renkei.db-journal"), &journal).unwrap();
            if let Some(name) = other {
                write(folder.path(), name, "-");
            }
            let opened = SqliteStore::open(folder.path(), &own()).await;
            match opened {
                Err(StoreError::Lost { .. }) => assert!(lost, "{other:?}"),
                Err(error) => panic!("{other:?}: {error}"),
                Ok(_) => assert!(!lost, "{other:?}"),
            }
            if lost {
                let kept = fs::read(folder.path().join("renkei.db-journal")).unwrap();
                assert_eq!(kept, journal, "{other:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_comes_before_the_first_start_is_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("federation/online-1.pem", "-"),
            ("federation/root-1.json", "-"),
            ("federation/witness.pem", "-"),
            ("federation/witness.json", r#"{"size":0,"root":""}"#),
            ("federation/heed/1.json", "-"),
            ("federation/removals/1.json", "-"),
            ("control.sock.lock", ""),
            ("renkei.lock", ""),
        ] {
            write(folder.path(), name, text);
        }
        fs::create_dir(folder.path().join("keys")).unwrap();
        SqliteStore::open(folder.path(), &own()).await.unwrap();
    }
}
