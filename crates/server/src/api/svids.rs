//! SVIDs for the entries of the calling node, and for no others.

use std::sync::Arc;

use renkei_api::{
    node::EntryId,
    spire::api::server::svid::v1::{
        BatchNewX509svidRequest, BatchNewX509svidResponse, NewX509svidParams,
        batch_new_x509svid_response::Result as Item, svid_server::Svid,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{Shared, agents::sign_status, callers::AgentCaller, convert};
use crate::{authority::Issuer, entries::EntryHolder, nodes};

/// Requests for certificates in one message.
const BATCH: usize = 500;

pub(super) struct Service {
    shared: Arc<Shared>,
    issuer: Arc<dyn Issuer>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, issuer: Arc<dyn Issuer>) -> Self {
        Self { shared, issuer }
    }

    /// Another's entry is as good as none.
    async fn item(&self, holder: &EntryHolder, wanted: NewX509svidParams) -> Item {
        let entries = &self.shared.parts.entries;
        let id: Option<EntryId> = convert::entry_id(&wanted.entry_id);
        let identity = id.and_then(|id| entries.identity_for(holder, &id));
        let Some(identity) = identity else {
            return Item {
                status: Some(convert::status(
                    Code::NotFound,
                    "entry not found or not authorized",
                )),
                svid: None,
            };
        };
        match self.issuer.issue(&identity, &wanted.csr).await {
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
        let holder = nodes::holder(caller.id());
        let mut results = Vec::with_capacity(params.len());
        for wanted in params {
            results.push(self.item(&holder, wanted).await);
        }
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }
}
