//! All services of the API, each behind the table of callers.

use std::sync::Arc;

use renkei_api::{
    health::health_server::HealthServer,
    node_stream::node_server::NodeServer,
    spire::api::server::{
        agent::v1::agent_server::AgentServer,
        bundle::v1::bundle_server::BundleServer,
        debug::v1::debug_server::DebugServer,
        entry::v1::entry_server::EntryServer,
        localauthority::v1::local_authority_server::{LocalAuthority, LocalAuthorityServer},
        logger::v1::logger_server::{Logger, LoggerServer},
        svid::v1::svid_server::SvidServer,
        trustdomain::v1::trust_domain_server::{
            TrustDomain as Relationships, TrustDomainServer as RelationshipsServer,
        },
    },
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer;

use super::{
    Shared, agents, bundle_reader, bundles, callers::Admission, debug, entries, health, node, svids,
};
use crate::authority::Issuer;

/// What a node sends to join, with the largest proofs that attestors know.
const MAX_ATTESTATION: usize = 64 * 1024;
/// Some hundred certificate requests or entries in one message.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Services whose methods all answer UNIMPLEMENTED to those who may call them.
struct Unserved;

impl LocalAuthority for Unserved {}
impl Logger for Unserved {}
impl Relationships for Unserved {}

pub(super) fn all(
    shared: &Arc<Shared>,
    issuer: &Arc<dyn Issuer>,
    stop: &CancellationToken,
) -> Routes {
    let gate = Admission::new(shared.clone());
    let (shared, issuer) = (|| shared.clone(), || issuer.clone());
    let agents = AgentServer::new(agents::Service::new(shared(), issuer()));
    let entries = EntryServer::new(entries::Service::new(shared()));
    let svids = SvidServer::new(svids::Service::new(shared(), issuer()));
    let bundles = BundleServer::new(bundles::Service::new(shared()));
    let health = HealthServer::new(health::Service::new(shared()));
    let debug = DebugServer::new(debug::Service::new(shared()));
    let node = NodeServer::new(node::Service::new(shared(), stop.clone()));
    let mut routes = Routes::builder();
    routes
        .add_service(gate.layer(agents.max_decoding_message_size(MAX_ATTESTATION)))
        .add_service(gate.layer(entries.max_decoding_message_size(MAX_MESSAGE)))
        .add_service(gate.layer(svids.max_decoding_message_size(MAX_MESSAGE)))
        .add_service(gate.layer(bundles.max_decoding_message_size(MAX_MESSAGE)))
        .add_service(gate.layer(health.max_decoding_message_size(MAX_ATTESTATION)))
        .add_service(gate.layer(debug.max_decoding_message_size(MAX_ATTESTATION)))
        .add_service(gate.layer(LocalAuthorityServer::new(Unserved)))
        .add_service(gate.layer(LoggerServer::new(Unserved)))
        .add_service(gate.layer(RelationshipsServer::new(Unserved)))
        .add_service(gate.layer(node.max_decoding_message_size(bundle_reader::MAX_MESSAGE)));
    routes.routes()
}
