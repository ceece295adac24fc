//! The JSON Schema of the site file, for editors.
//!
//! The types of [`written`] are the file as it is written. They exist for their schema: the file
//! is read by [`crate::read`], which finds all faults where a derived reader stops at the first.
//! A test keeps both in step.

/// The JSON Schema (2020-12) of the site file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SiteFile).to_value()
}

/// The keys that the reader knows, per mapping.
pub(crate) mod keys {
    pub(crate) const SITE: &[&str] = &[
        "site",
        "trust_domain",
        "gateway",
        "server",
        "nodes",
        "bundle_endpoint",
        "peers",
        "relays",
        "federation",
        "deny",
        "admit",
        "services",
        "workloads",
        "lifetimes",
        "workload_api",
        "admin",
    ];
    pub(crate) const GATEWAY: &[&str] = &["listen", "advertise", "via", "max_lanes", "bandwidth"];
    pub(crate) const SERVER: &[&str] = &["listen", "advertise"];
    pub(crate) const NODE: &[&str] = &["gateway", "via"];
    pub(crate) const NODE_GATEWAY: &[&str] = &["listen", "advertise", "max_lanes", "bandwidth"];
    pub(crate) const BUNDLE_ENDPOINT: &[&str] = &["listen", "certificate", "key"];
    pub(crate) const PEER: &[&str] = &[
        "identity",
        "gateway",
        "bundle",
        "bootstrap",
        "endpoint_id",
        "web_roots",
    ];
    pub(crate) const SERVICE: &[&str] = &[
        "id",
        "on",
        "protocol",
        "backends",
        "allow",
        "methods",
        "topics",
        "response_timeout",
        "bandwidth",
        "caller_bandwidth",
        "policy",
    ];
    pub(crate) const TOPIC_RIGHTS: &[&str] = &["produce", "consume", "create", "describe", "group"];
    pub(crate) const WORKLOAD: &[&str] = &["id", "hint", "default", "selectors", "on", "uses"];
    pub(crate) const WORKLOAD_API: &[&str] = &[
        "connections",
        "connections_per_user",
        "streams_per_connection",
    ];
    pub(crate) const LIFETIMES: &[&str] = &["ca", "x509_svid", "bundle_refresh"];
}

#[expect(dead_code, reason = "read by the schema generator alone")]
mod written;

use written::SiteFile;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{keys, schema};

    #[test]
    fn reader_and_schema_know_the_same_keys() {
        let schema = schema();
        let known = |mapping: &Value| -> BTreeSet<String> {
            assert_eq!(mapping["additionalProperties"], false, "{mapping}");
            mapping["properties"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect()
        };
        let read = |keys: &[&str]| {
            keys.iter()
                .map(|key| key.to_string())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(known(&schema), read(keys::SITE));
        for (name, keys) in [
            ("Gateway", keys::GATEWAY),
            ("Server", keys::SERVER),
            ("Node", keys::NODE),
            ("NodeGateway", keys::NODE_GATEWAY),
            ("BundleEndpoint", keys::BUNDLE_ENDPOINT),
            ("Peer", keys::PEER),
            ("Service", keys::SERVICE),
            ("TopicRights", keys::TOPIC_RIGHTS),
            ("Workload", keys::WORKLOAD),
            ("Lifetimes", keys::LIFETIMES),
            ("WorkloadApi", keys::WORKLOAD_API),
        ] {
            assert_eq!(known(&schema["$defs"][name]), read(keys), "{name}");
        }
        assert_eq!(
            schema["$defs"].as_object().unwrap().len(),
            12,
            "eleven mappings and a protocol"
        );
    }

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        let mappings = schema["$defs"]
            .as_object()
            .unwrap()
            .values()
            .chain([&schema]);
        for mapping in mappings.filter(|mapping| mapping.get("properties").is_some()) {
            for (key, value) in mapping["properties"].as_object().unwrap() {
                assert!(value["description"].is_string(), "{key} has no description");
            }
        }
    }
}
