//! What a server wants of this node, read from whatever way it comes. Each part is read alone: one
//! that cannot be read leaves the others as they are.

use std::sync::Arc;

use renkei_api::{
    node::AgentPart,
    node_stream::{Bundle as BundleDocument, Fault, NodeUpdate},
};
use renkei_site::ProxyPart;
use renkei_spiffe::{Bundle, BundleSet, TrustDomain};

use super::error::PartError;

/// The whole of what a server wants.
#[derive(Debug)]
pub(super) struct Update {
    /// Counts the updates of one connection.
    pub(super) version: u64,
    pub(super) bundles: Result<BundleSet, PartError>,
    pub(super) agent: Result<AgentPart, PartError>,
    /// None from a server that configures no proxies.
    pub(super) proxy: Option<Result<ProxyPart, PartError>>,
    /// What was left out, and why.
    pub(super) faults: Vec<Fault>,
}

impl From<NodeUpdate> for Update {
    fn from(update: NodeUpdate) -> Self {
        Self {
            version: update.version,
            bundles: update.bundles.into_iter().map(read).collect(),
            agent: serde_json::from_slice(&update.agent_part).map_err(PartError::from),
            proxy: Some(serde_json::from_slice(&update.proxy_part).map_err(PartError::from)),
            faults: Vec::new(),
        }
    }
}

fn read(bundle: BundleDocument) -> Result<Arc<Bundle>, PartError> {
    let trust_domain = TrustDomain::parse(&bundle.trust_domain)?;
    Ok(Arc::new(Bundle::parse_document(
        trust_domain,
        &bundle.document,
    )?))
}
