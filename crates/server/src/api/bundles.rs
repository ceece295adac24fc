//! The own bundle for everyone, those of peers for nodes and managers.

use std::sync::Arc;

use renkei_api::spire::api::{
    server::bundle::v1::{
        CountBundlesRequest, CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest,
        ListFederatedBundlesRequest, ListFederatedBundlesResponse, bundle_server::Bundle,
    },
    types::{Bundle as BundleMessage, BundleMask},
};
use renkei_spiffe::TrustDomain;
use tonic::{Request, Response, Status};

use super::{Shared, convert, pages::page};

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

    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let count = self.0.parts.bundles.snapshot().iter().count();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Response::new(CountBundlesResponse { count }))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let asked = request.into_inner();
        let parts = &self.0.parts;
        let all = parts.bundles.snapshot();
        let others = all.iter();
        let others = others.filter(|bundle| bundle.trust_domain != parts.trust_domain);
        let wanted = (asked.page_size, asked.page_token.as_str());
        let name = |bundle: &&Arc<renkei_spiffe::Bundle>| bundle.trust_domain.to_string();
        let (bundles, next_page_token) = page(others, name, wanted)?;
        let mask = asked.output_mask.as_ref();
        let bundles = bundles.into_iter().map(|one| convert::bundle(one, mask));
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles: bundles.collect(),
            next_page_token,
        }))
    }
}
