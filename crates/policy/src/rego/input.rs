//! The document that rules see.

use super::value::{Object, Value};
use crate::decision::{Operation, Request};

/// Where the path of a request is in the document.
pub(super) const PATH: [&str; 2] = ["operation", "path"];
/// Where its host is.
pub(super) const HOST: [&str; 2] = ["request", "host"];

pub(super) fn document(request: &Request<'_>) -> Value {
    let peer = object(vec![
        ("id", request.peer.to_string().into()),
        ("trust_domain", request.peer.trust_domain().as_str().into()),
        ("path", request.peer.path().into()),
    ]);
    let path = request.service.path();
    let service = object(vec![
        ("id", request.service.to_string().into()),
        ("name", path.strip_prefix('/').unwrap_or(path).into()),
    ]);
    let mut fields = vec![
        ("peer", peer),
        ("service", service),
        ("operation", operation(request.operation)),
    ];
    if let Operation::Http { host, .. } = request.operation {
        fields.push(("request", object(vec![("host", host.as_str().into())])));
    }
    if let Some(ip) = request.source {
        // An IPv4 caller at an IPv6 listener is the same caller.
        let ip = ip.to_canonical().to_string().into();
        fields.push(("source", object(vec![("ip", ip)])));
    }
    object(fields)
}

fn operation(operation: Operation<'_>) -> Value {
    match operation {
        Operation::Connect => object(vec![("kind", "connect".into())]),
        Operation::Http { method, path, .. } => {
            let mut fields = vec![("kind", "http".into()), ("method", method.into())];
            // A module that reads it is not asked without it.
            if let Ok(path) = path.form() {
                fields.push(("path", path.as_str().into()));
            }
            object(fields)
        }
    }
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (Value::from(name), value));
    // The names are constants of this file, each there once.
    Value::Object(Object::new(fields.collect()).unwrap_or_default())
}
