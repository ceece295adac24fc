//! SVIDs for the entries of the calling node, and for no others; managers name the identity.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use renkei_api::{
    node::EntryId,
    spire::api::server::svid::v1::{
        BatchNewX509svidRequest, BatchNewX509svidResponse, MintX509svidRequest,
        MintX509svidResponse, NewX509svidParams, batch_new_x509svid_response::Result as Item,
        svid_server::Svid,
    },
};
use renkei_spiffe::SpiffeId;
use tonic::{Code, Request, Response, Status};

use super::{Shared, agents::sign_status, callers::AgentCaller, certificates, convert, entry_form};
use crate::{
    authority::{Issuer, Subject, requested_names},
    nodes,
    store::Registration,
};

/// Requests for certificates in one message.
const BATCH: usize = 500;

/// What the calling node may ask for.
type Held = BTreeMap<EntryId, Registration>;

pub(super) struct Service {
    shared: Arc<Shared>,
    issuer: Arc<dyn Issuer>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, issuer: Arc<dyn Issuer>) -> Self {
        Self { shared, issuer }
    }

    /// Another's entry is as good as none.
    async fn item(&self, held: &Held, wanted: NewX509svidParams) -> Item {
        let id: Option<EntryId> = convert::entry_id(&wanted.entry_id);
        let Some(entry) = id.and_then(|id| held.get(&id)) else {
            return Item {
                status: Some(convert::status(
                    Code::NotFound,
                    "entry not found or not authorized",
                )),
                svid: None,
            };
        };
        match self.issuer.issue(&Subject::from(entry), &wanted.csr).await {
            Ok(signed) => Item {
                status: Some(convert::status(Code::Ok, "OK")),
                svid: Some(convert::x509_svid(signed, String::new())),
            },
            Err(error) => {
                let refused = sign_status(&error);
                Item {
                    status: Some(convert::status(refused.code(), refused.message())),
                    svid: None,
                }
            }
        }
    }
}

#[tonic::async_trait]
impl Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = AgentCaller::of(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() || params.len() > BATCH {
            return Err(Status::invalid_argument(format!(
                "a batch has 1 to {BATCH} requests, not {}",
                params.len()
            )));
        }
        certificates::charge(&self.shared.certificates, caller.id(), params.len())?;
        let held = self
            .shared
            .parts
            .entries
            .held_by(&nodes::holder(caller.id()));
        let held = held
            .into_iter()
            .map(|known| (known.entry.id.clone(), known.entry));
        let held: Held = held.collect();
        let mut results = Vec::with_capacity(params.len());
        for wanted in params {
            results.push(self.item(&held, wanted).await);
        }
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let MintX509svidRequest { csr, ttl } = request.into_inner();
        let subject = self.minted(&csr, ttl)?;
        let signed = self.issuer.issue(&subject, &csr).await;
        let signed = signed.map_err(|error| sign_status(&error))?;
        tracing::info!(id = %subject.id, "an SVID was minted for a manager");
        let svid = Some(convert::x509_svid(signed, String::new()));
        Ok(Response::new(MintX509svidResponse { svid }))
    }
}

impl Service {
    /// What the request of a manager asks for.
    fn minted(&self, csr: &[u8], ttl: i32) -> Result<Subject, Status> {
        let bad = |text: String| Status::invalid_argument(text);
        let (uris, dns_names) = requested_names(csr).map_err(|error| bad(error.to_string()))?;
        let [uri] = &uris[..] else {
            return Err(bad("the CSR must have one URI SAN, a SPIFFE ID".to_owned()));
        };
        let own = &self.shared.parts.trust_domain;
        let id = SpiffeId::parse(uri).map_err(|error| error.to_string());
        let id = id.and_then(|id| entry_form::workload_id(Some(convert::spiffe_id(&id)), own));
        let id = id.map_err(|fault| bad(format!("CSR URI SAN is invalid: {fault}")))?;
        let dns_names = entry_form::dns_names(dns_names).map_err(bad)?;
        let lifetime = entry_form::seconds(ttl).map_err(bad)?;
        Ok(Subject {
            dns_names,
            lifetime: lifetime.map(|seconds| Duration::from_secs(seconds.into())),
            ..Subject::from(&id)
        })
    }
}
