//! What the two proxies of a pair are to do, the same for every system.

use std::{net::SocketAddr, path::PathBuf};

use crate::{error::BenchError, identity::Identity, place::Place};

/// What a proxy that knows protocols is told about the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Http,
    Kafka,
}

/// What a pair is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) folder: PathBuf,
    /// Where the near proxy listens for the client.
    pub(crate) listen: SocketAddr,
    /// Where the far proxy listens for the near one.
    pub(crate) between: SocketAddr,
    pub(crate) backend: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) near: Identity,
    pub(crate) far: Identity,
    /// What the site files of Renkei say of their gateways besides.
    pub(crate) gateway: &'a str,
}

impl Plan<'_> {
    /// Writes a file of the pair and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, BenchError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(BenchError::file(&path))?;
        Ok(path)
    }
}
