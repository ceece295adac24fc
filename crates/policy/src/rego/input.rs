//! The document that rules see.

use std::collections::BTreeMap;

use regorus::Value;

use crate::decision::{Operation, Request};

pub(super) fn document(request: &Request<'_>) -> Value {
    let peer = object([
        ("id", request.peer.to_string().into()),
        ("trust_domain", request.peer.trust_domain().as_str().into()),
        ("path", request.peer.path().into()),
    ]);
    let path = request.service.path();
    let service = object([
        ("id", request.service.to_string().into()),
        ("name", path.strip_prefix('/').unwrap_or(path).into()),
    ]);
    let mut fields = vec![
        ("peer", peer),
        ("service", service),
        ("operation", operation(request.operation)),
    ];
    if let Some(ip) = request.source {
        // An IPv4 caller at an IPv6 listener is the same caller.
        fields.push((
            "source",
            object([("ip", ip.to_canonical().to_string().into())]),
        ));
    }
    object(fields)
}

fn operation(operation: Operation<'_>) -> Value {
    match operation {
        Operation::Connect => object([("kind", "connect".into())]),
        Operation::Http { method, path } => object([
            ("kind", "http".into()),
            ("method", method.into()),
            ("path", path.as_str().into()),
        ]),
    }
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields: BTreeMap<Value, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    fields.into()
}
