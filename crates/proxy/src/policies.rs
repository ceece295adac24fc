//! The policies of services, made from the source text that a proxy gets.

use std::{collections::BTreeMap, sync::Arc};

use renkei_policy::{MethodRules, RegoError, RegoModule, ServicePolicy};
use renkei_runtime::clock;
use renkei_site::{PolicySource, ProxyPart, Service};

/// The policy of every service, by the service's name.
pub type Policies = BTreeMap<String, Arc<ServicePolicy>>;

/// A policy that cannot be used. Its service must stay closed.
#[derive(Debug, thiserror::Error)]
#[error("the policy of {service} does not compile: {error}")]
pub struct PolicyFault {
    /// The name of the service.
    pub service: String,
    /// What is wrong with the rules.
    pub error: RegoError,
}

/// Compiles the policies of all services. May take a while.
pub fn compile(part: &ProxyPart) -> (Policies, Vec<PolicyFault>) {
    let (mut policies, mut faults) = (Policies::new(), Vec::new());
    for (name, service) in &part.services {
        match policy_of(service, part.policies.get(name)) {
            Ok(policy) => drop(policies.insert(name.clone(), Arc::new(policy))),
            Err(error) => faults.push(PolicyFault {
                service: name.clone(),
                error,
            }),
        }
    }
    (policies, faults)
}

fn policy_of(service: &Service, source: Option<&PolicySource>) -> Result<ServicePolicy, RegoError> {
    // Rules act by the same time as the rest of the site.
    let nanoseconds = || i64::try_from(clock::now().unix_timestamp_nanos()).unwrap_or(i64::MAX);
    let compiled = |source: &PolicySource| RegoModule::compile(&source.name, &source.text);
    let rego = source.map(compiled).transpose()?;
    let rego = rego.map(|module| module.with_clock(nanoseconds));
    let methods = service.methods.clone().map(MethodRules::new);
    let (id, allow) = (service.id.clone(), service.allow.clone());
    Ok(ServicePolicy::new(id, allow, rego).with_methods(methods))
}
