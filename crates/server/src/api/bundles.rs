//! The own bundle for everyone, those of peers for nodes.

use std::sync::Arc;

use renkei_api::spire::api::{
    server::bundle::v1::{GetBundleRequest, GetFederatedBundleRequest, bundle_server::Bundle},
    types::{Bundle as BundleMessage, BundleMask},
};
use renkei_spiffe::TrustDomain;
use tonic::{Request, Response, Status};

use super::{Shared, convert};

pub(super) struct Service(Arc<Shared>);

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn answer(
        &self,
        name: &TrustDomain,
        mask: Option<&BundleMask>,
    ) -> Result<Response<BundleMessage>, Status> {
        let bundles = self.0.parts.bundles.snapshot();
        let bundle = bundles.get(name);
        let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
        Ok(Response::new(convert::bundle(bundle, mask)))
    }
}

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<BundleMessage>, Status> {
        let mask = request.into_inner().output_mask;
        self.answer(&self.0.parts.trust_domain, mask.as_ref())
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<BundleMessage>, Status> {
        let asked = request.into_inner();
        let name = asked.trust_domain.trim_start_matches("spiffe://");
        let name = TrustDomain::parse(name).map_err(|error| {
            Status::invalid_argument(format!("trust domain argument is not valid: {error}"))
        })?;
        if name == self.0.parts.trust_domain {
            let text =
                "getting a federated bundle for the server's own trust domain is not allowed";
            return Err(Status::invalid_argument(text));
        }
        self.answer(&name, asked.output_mask.as_ref())
    }
}
