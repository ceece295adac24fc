//! Which local port stands for which broker, kept in a file: clients remember the addresses that
//! they were given for longer than a process may live.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use renkei_spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

/// One local port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The workload's listener for the service.
    listen: SocketAddr,
    service: SpiffeId,
    node: i32,
    port: u16,
}

/// The file, read at the start and written at every change.
#[derive(Debug)]
pub(crate) struct PortFile {
    path: PathBuf,
    entries: Mutex<Vec<Entry>>,
}

impl PortFile {
    /// A file that cannot be read counts as empty: its loss costs a client one reconnection.
    pub(crate) fn open(path: PathBuf) -> Self {
        let entries = read(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "broker ports are chosen anew");
            Vec::new()
        });
        Self {
            path,
            entries: Mutex::new(entries),
        }
    }

    /// The ports of a service's brokers at one listener, by node ID.
    pub(super) fn of(&self, listen: SocketAddr, service: &SpiffeId) -> BTreeMap<i32, u16> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let its = entries
            .iter()
            .filter(|e| e.listen == listen && e.service == *service);
        its.map(|entry| (entry.node, entry.port))
            .take(super::MAX_BROKERS)
            .collect()
    }

    /// Keeps a port. The file is tiny and changes only when a broker is seen for the first time.
    pub(super) fn keep(&self, listen: SocketAddr, service: &SpiffeId, node: i32, port: u16) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            listen,
            service: service.clone(),
            node,
            port,
        };
        if entries.contains(&entry) {
            return;
        }
        entries.retain(|e| e.listen != listen || e.service != *service || e.node != node);
        entries.push(entry);
        if let Err(error) = write(&self.path, &entries) {
            tracing::warn!(%error, path = %self.path.display(), "broker ports are not kept");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(entries)?)?;
    fs::rename(&new, path)
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
        let ports = PortFile::open(path.clone());
        assert_eq!(ports.of(listen, &service), BTreeMap::from([(7, 40_002)]));
        fs::write(&path, b"not json").unwrap();
        assert!(PortFile::open(path).of(listen, &service).is_empty());
    }
}
