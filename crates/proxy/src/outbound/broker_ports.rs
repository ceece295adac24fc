//! Which local port leads to which broker, kept in a file: clients remember the addresses that
//! they were given for longer than a process may live.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use renkei_runtime::{files, state_folder::write_private};
use renkei_spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::sessions::kafka::MAX_BROKERS;

/// One local port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The workload's listener for the service.
    listen: SocketAddr,
    service: SpiffeId,
    node: i32,
    port: u16,
}

/// A longer file is none of ours.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// The file, read at the start and written at every change.
#[derive(Debug)]
pub(crate) struct PortFile {
    path: PathBuf,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<Entry>,
    /// A thread writes them, and will see what is added.
    writing: bool,
    changed: bool,
}

impl PortFile {
    /// A file that cannot be read counts as empty: its loss costs a client one reconnection.
    pub(crate) fn open(path: PathBuf) -> Self {
        let entries = read(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "new broker ports are chosen");
            Vec::new()
        });
        let kept = Kept {
            entries,
            ..Kept::default()
        };
        Self {
            path,
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// The ports of a service's brokers at one listener, by node ID.
    pub(super) fn of(&self, listen: SocketAddr, service: &SpiffeId) -> BTreeMap<i32, u16> {
        let kept = lock(&self.kept);
        let its = kept
            .entries
            .iter()
            .filter(|e| e.listen == listen && e.service == *service);
        its.map(|entry| (entry.node, entry.port))
            .take(MAX_BROKERS)
            .collect()
    }

    /// Keeps a port. The file is tiny and changes only when a broker is seen for the first time;
    /// a thread of its own writes it, which may wait for the disk.
    pub(super) fn keep(&self, listen: SocketAddr, service: &SpiffeId, node: i32, port: u16) {
        let mut kept = lock(&self.kept);
        let entry = Entry {
            listen,
            service: service.clone(),
            node,
            port,
        };
        if kept.entries.contains(&entry) {
            return;
        }
        kept.entries
            .retain(|e| e.listen != listen || e.service != *service || e.node != node);
        kept.entries.push(entry);
        kept.changed = true;
        if std::mem::replace(&mut kept.writing, true) {
            return;
        }
        drop(kept);
        let (path, all) = (self.path.clone(), self.kept.clone());
        let writer = std::thread::Builder::new().name("ports".to_owned());
        if let Err(error) = writer.spawn(move || write_changes(&path, &all)) {
            lock(&self.kept).writing = false;
            tracing::warn!(%error, path = %self.path.display(), "broker ports are not kept");
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes until nothing has changed meanwhile.
fn write_changes(path: &Path, kept: &Mutex<Kept>) {
    loop {
        let entries = {
            let mut kept = lock(kept);
            if !std::mem::replace(&mut kept.changed, false) {
                kept.writing = false;
                return;
            }
            kept.entries.clone()
        };
        if let Err(error) = write(path, &entries) {
            tracing::warn!(%error, path = %path.display(), "broker ports are not kept");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    match files::read(path, MAX_FILE) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    write_private(path, &serde_json::to_vec_pretty(entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_survive_a_restart_and_garbage_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kafka-ports.json");
        let listen = "127.0.0.1:19092".parse().unwrap();
        let service = SpiffeId::parse("spiffe://hokkaido.example/broker").unwrap();
        let other = SpiffeId::parse("spiffe://tokyo.example/mdx").unwrap();
        let ports = PortFile::open(path.clone());
        assert!(ports.of(listen, &service).is_empty());
        ports.keep(listen, &service, 7, 40_001);
        ports.keep(listen, &service, 7, 40_002);
        ports.keep(listen, &other, 7, 40_003);
        while lock(&ports.kept).writing {
            std::thread::yield_now();
        }
        let ports = PortFile::open(path.clone());
        assert_eq!(ports.of(listen, &service), BTreeMap::from([(7, 40_002)]));
        std::fs::write(&path, b"not json").unwrap();
        assert!(PortFile::open(path).of(listen, &service).is_empty());
    }
}
