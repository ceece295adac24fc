//! The server in numbers.

use std::{sync::Arc, time::Instant};

use renkei_api::spire::api::server::debug::v1::{
    GetInfoRequest, GetInfoResponse, debug_server::Debug, get_info_response::Cert,
};
use tonic::{Request, Response, Status};

use super::{Shared, convert};

pub(super) struct Service {
    shared: Arc<Shared>,
    since: Instant,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let since = Instant::now();
        Self { shared, since }
    }

    /// The SVID that nodes verify; none where no nodes come.
    fn certificate(&self) -> Option<Cert> {
        let svid = self.shared.own.for_api((self.shared.parts.clock)())?;
        Some(Cert {
            id: Some(convert::spiffe_id(svid.id())),
            expires_at: svid.not_after().unix_timestamp(),
            subject: "O=Renkei".to_owned(),
        })
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl Debug for Service {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let parts = &self.shared.parts;
        let uptime = self.since.elapsed().as_secs();
        let bundles = parts.bundles.snapshot();
        let federated = bundles.iter();
        let federated = federated.filter(|bundle| bundle.trust_domain != parts.trust_domain);
        Ok(Response::new(GetInfoResponse {
            svid_chain: self.certificate().into_iter().collect(),
            uptime: i32::try_from(uptime).unwrap_or(i32::MAX),
            agents_count: count(parts.nodes.all().len()),
            federated_bundles_count: count(federated.count()),
            entries_count: count(parts.entries.all().entries.len()),
        }))
    }
}
