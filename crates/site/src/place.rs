//! Where things stand in the text of a site file.

use std::{collections::BTreeMap, sync::Arc};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde_saphyr::Location;

/// A stretch of the text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Offset of the first byte in the file.
    pub offset: usize,
    /// Number of bytes; 0 where a whole mapping or list is meant.
    pub length: usize,
    /// Line of the first byte.
    pub line: usize,
    /// Column of the first byte.
    pub column: usize,
}

impl Place {
    /// The start of the file.
    pub const START: Self = Self {
        offset: 0,
        length: 0,
        line: 1,
        column: 1,
    };

    /// The place of a YAML node: its first line without trailing blanks.
    pub(crate) fn of(location: Location, text: &str) -> Self {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let line = size(location.line()).max(1);
        let column = size(location.column()).max(1);
        let span = location.span();
        let (Some(offset), Some(length)) = (span.byte_offset(), span.byte_len()) else {
            return Self::at(line, column, text);
        };
        let offset = size(offset).min(text.len());
        let length = size(length).min(text.len() - offset);
        let covered = text.get(offset..offset + length).unwrap_or_default();
        let length = covered.lines().next().unwrap_or_default().trim_end().len();
        Self {
            offset,
            length,
            line,
            column,
        }
    }

    /// A place that is known by its line and column alone.
    fn at(line: usize, column: usize, text: &str) -> Self {
        let before: usize = text
            .split_inclusive('\n')
            .take(line - 1)
            .map(str::len)
            .sum();
        let rest = text.get(before..).unwrap_or_default();
        let within: usize = rest.chars().take(column - 1).map(char::len_utf8).sum();
        Self {
            offset: before + within,
            length: 0,
            line,
            column,
        }
    }
}

/// Something in the site file that has a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The value of `trust_domain`.
    TrustDomain,
    /// The address that the gateway listens on.
    GatewayListen,
    /// The hub of the gateway.
    GatewayVia,
    /// The address that the server listens on for nodes.
    ServerListen,
    /// The name of a node.
    Node(String),
    /// The address that the gateway of a node listens on.
    NodeGatewayListen(String),
    /// The address of `admin`.
    Admin,
    /// The address that the bundle endpoint listens on.
    BundleEndpointListen,
    /// The certificate file of the bundle endpoint.
    BundleEndpointCertificate,
    /// The key file of the bundle endpoint.
    BundleEndpointKey,
    /// The file of the federation.
    Federation,
    /// The name of a peer.
    Peer(TrustDomain),
    /// An entry of `relays`.
    Relay(TrustDomain),
    /// The `bundle` of a peer.
    PeerBundle(TrustDomain),
    /// The `bootstrap` of a peer.
    PeerBootstrap(TrustDomain),
    /// The `web_roots` of a peer.
    PeerWebRoots(TrustDomain),
    /// The name of a service.
    Service(String),
    /// The `policy` of a service.
    Policy(String),
    /// One entry of the `allow` list of a service.
    Allow(String, SpiffeId),
    /// The name of a workload.
    Workload(String),
    /// The listener of a workload for a target.
    Use(String, SpiffeId),
}

/// The text that a site was read from. Takes no part in comparing sites: where a thing is written is
/// no part of what the file says.
#[derive(Clone)]
pub(crate) struct SourceMap {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) places: BTreeMap<Item, Place>,
}

impl PartialEq for SourceMap {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for SourceMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceMap")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
