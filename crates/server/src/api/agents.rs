//! Nodes join, and renew their SVIDs.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use renkei_api::spire::api::{
    server::agent::v1::{
        AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest,
        CountAgentsResponse, CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest,
        ListAgentsRequest, ListAgentsResponse, PostStatusRequest, PostStatusResponse,
        RenewAgentRequest, RenewAgentResponse,
        agent_server::Agent,
        attest_agent_request::{Params, Step},
        attest_agent_response, count_agents_request, list_agents_request,
    },
    types::{Agent as AgentMessage, JoinToken, X509svid, permission_denied_details::Reason},
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{
    Shared,
    callers::AgentCaller,
    convert,
    listener::Caller,
    managed_agents::{self, Filter},
    refusal::{denied, kept},
};
use crate::{
    SignError,
    authority::{Issuer, Signed, check_request},
    nodes::{self, AttestError, Attested},
    store::AgentRow,
};

/// How long a node may take to say who it is.
const ATTEST_TIME: Duration = Duration::from_secs(30);
/// How many proofs of strangers are looked at together. That is fewer than the database has
/// connections: nodes that have joined do not wait for them.
const AT_ONCE: usize = 2;

pub(super) struct Service {
    shared: Arc<Shared>,
    issuer: Arc<dyn Issuer>,
    attesting: Semaphore,
}

/// What a failure to sign is to the node.
pub(super) fn sign_status(error: &SignError) -> Status {
    match error {
        SignError::Request(error) => Status::invalid_argument(error.to_string()),
        SignError::UnknownEntry(_) | SignError::EntryEnded { .. } => {
            Status::not_found("there is no such entry")
        }
        _ => Status::unavailable("no SVID can be issued now; the log of the server says why"),
    }
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, issuer: Arc<dyn Issuer>) -> Self {
        Self {
            shared,
            issuer,
            attesting: Semaphore::new(AT_ONCE),
        }
    }

    async fn attest(&self, params: Params) -> Result<(X509svid, Attested), Status> {
        let data = params.data.unwrap_or_default();
        let csr = params.params.unwrap_or_default().csr;
        // A token is used up only by a request that can be answered.
        check_request(&csr).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let attestors = &self.shared.attestors;
        let attestor = attestors.iter().find(|one| one.kind() == data.r#type);
        let attestor = attestor.ok_or_else(|| {
            let known: Vec<&str> = attestors.iter().map(|one| one.kind()).collect();
            let kind: String = data.r#type.chars().take(64).collect();
            Status::invalid_argument(format!(
                "this server has no node attestor {kind:?}, only {}",
                known.join(", ")
            ))
        })?;
        let now = (self.shared.parts.clock)();
        let attested = {
            let place = timeout(ATTEST_TIME, self.attesting.acquire()).await;
            let _place = place.map_err(|_| {
                Status::resource_exhausted("too many nodes join at once; try again later")
            })?;
            attestor.attest(&data.payload, now).await
        };
        let attested = attested.map_err(|error| match error {
            AttestError::Refused(_) => Status::invalid_argument(error.to_string()),
            AttestError::Store(ref cause) => {
                tracing::error!(error = %cause, "a node cannot join");
                Status::unavailable(error.to_string())
            }
        })?;
        self.may_join(&attested)?;
        let signed = self.sign(&attested.id, &csr).await?;
        let row = AgentRow {
            id: attested.id.clone(),
            attestor: attestor.kind().to_owned(),
            serial: signed.record.serial.clone(),
            next_serial: None,
            not_after: signed.record.not_after,
            attested_at: now,
            banned: false,
            release: String::new(),
        };
        self.shared.parts.nodes.joined(row).await.map_err(kept)?;
        Ok((convert::x509_svid(signed, String::new()), attested))
    }

    fn may_join(&self, attested: &Attested) -> Result<(), Status> {
        let known = self.shared.parts.nodes.get(&attested.id);
        if known.is_some_and(|row| row.banned) {
            let text = format!("{} is banned", attested.id.short());
            return Err(denied(Reason::AgentBanned, text));
        }
        let named = self.shared.parts.node_parts.borrow();
        match nodes::node_name(&attested.id) {
            Some(name) if !named.contains_key(name) => Err(Status::failed_precondition(format!(
                "the site file has no node `{name}` any more"
            ))),
            _ => Ok(()),
        }
    }

    async fn sign(&self, id: &renkei_spiffe::SpiffeId, csr: &[u8]) -> Result<Signed, Status> {
        let signed = self.issuer.issue_for_node(id, csr).await;
        signed.map_err(|error| sign_status(&error))
    }
}

#[tonic::async_trait]
impl Agent for Service {
    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<BoxStream<AttestAgentResponse>>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>();
        let client = caller.map(|caller| caller.address);
        let mut steps = request.into_inner();
        let first = timeout(ATTEST_TIME, steps.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the node said nothing"))??;
        let Some(Step::Params(params)) = first.and_then(|request| request.step) else {
            return Err(Status::invalid_argument("the parameters come first"));
        };
        let (svid, attested) = self.attest(params).await.inspect_err(|status| {
            tracing::warn!(?client, reason = status.message(), "a node has not joined");
        })?;
        tracing::info!(?client, node = %attested.id, "a node has joined");
        let result = attest_agent_response::Result {
            svid: Some(svid),
            reattestable: attested.can_reattest,
        };
        let step = Some(attest_agent_response::Step::Result(result));
        let answer = async move { Ok(AttestAgentResponse { step }) };
        Ok(Response::new(stream::once(answer).boxed()))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let caller = AgentCaller::of(&request)?;
        let params = request.into_inner().params;
        let params = params.ok_or_else(|| Status::invalid_argument("params are missing"))?;
        let signed = self.sign(caller.id(), &params.csr).await?;
        let (serial, not_after) = (&signed.record.serial, signed.record.not_after);
        let nodes = &self.shared.parts.nodes;
        let renewed = nodes.renewed(caller.id(), serial, not_after).await;
        renewed.map_err(kept)?;
        let svid = Some(convert::x509_svid(signed, String::new()));
        Ok(Response::new(RenewAgentResponse { svid }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let caller = AgentCaller::of(&request)?;
        let release = &request.get_ref().agent_version;
        let nodes = &self.shared.parts.nodes;
        nodes.says_release(caller.id(), release).await;
        Ok(Response::new(PostStatusResponse {}))
    }

    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = Filter::parse(request.into_inner().filter.map(same))?;
        let count = managed_agents::count(&self.shared, &filter);
        Ok(Response::new(CountAgentsResponse { count }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        managed_agents::list(&self.shared, request.into_inner()).map(Response::new)
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<AgentMessage>, Status> {
        let GetAgentRequest { id, output_mask } = request.into_inner();
        managed_agents::get(&self.shared, id, output_mask).map(Response::new)
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let deleted = managed_agents::delete(&self.shared, request.into_inner().id).await;
        deleted.map(Response::new)
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let banned = managed_agents::ban(&self.shared, request.into_inner().id).await;
        banned.map(Response::new)
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<JoinToken>, Status> {
        let made = managed_agents::create_token(&self.shared, request.into_inner()).await;
        made.map(Response::new)
    }
}

/// The two requests have the same filter.
fn same(filter: count_agents_request::Filter) -> list_agents_request::Filter {
    list_agents_request::Filter {
        by_attestation_type: filter.by_attestation_type,
        by_selector_match: filter.by_selector_match,
        by_banned: filter.by_banned,
        by_can_reattest: filter.by_can_reattest,
        by_expires_before: filter.by_expires_before,
    }
}
