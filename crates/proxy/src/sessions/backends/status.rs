//! What backends show of themselves.

use std::sync::Arc;

use renkei_api::status::BackendStatus;

use super::{Backends, ServiceBackends, health::Backend};

impl Backends {
    /// Every backend, by service and in the order of the site file.
    pub(crate) fn status(&self) -> Vec<BackendStatus> {
        let mut services: Vec<Arc<ServiceBackends>> = self.services().values().cloned().collect();
        services.sort_by(|one, other| one.service.cmp(&other.service));
        let all = services.iter().flat_map(|backends| {
            let rotation = backends.rotation();
            let all = rotation.backends().iter();
            all.map(|one| status_of(&backends.service, one))
                .collect::<Vec<_>>()
        });
        all.collect()
    }
}

fn status_of(service: &str, backend: &Backend) -> BackendStatus {
    let ejection = backend.ejection.as_ref();
    BackendStatus {
        service: service.to_owned(),
        address: backend.address.to_string(),
        up: ejection.is_none(),
        down_since: ejection.map(|ejection| ejection.since),
        last_error: ejection.map(|ejection| ejection.reason.clone()),
        connections: backend.connections,
        failures: backend.failures,
    }
}
