//! `renkei up --workload-api` with an agent that nobody here wrote: gRPC's C core and the PyPI
//! package `spiffe` serve the Workload API, as a SPIRE agent does below an upstream authority.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{net::SocketAddr, path::PathBuf, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use lab::{
    SOON, Site,
    connection::Connection,
    exchange, exchange_soon,
    foreign::{Foreign, link_with_edge},
    renkei, run, said,
};
use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::{Child, TestAuthority, python, wait_for};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

/// An agent of the trust domain `spire.example` whose CA lies below another.
struct Agent {
    foreign: Foreign,
    authority: TestAuthority,
    /// What it serves as the bundle of the federated trust domain.
    federated: String,
    /// Whether it serves that bundle at all.
    federates: bool,
    process: Option<Child>,
}

impl Agent {
    fn new(osaka: &Site) -> Self {
        let foreign = Foreign::new("spire.example");
        let name = TrustDomain::parse("osaka.example").expect("trust domain");
        let bundle = Bundle::parse_document(name, osaka.own_bundle().as_bytes()).expect("bundle");
        let agent = Self {
            authority: foreign.authority.intermediate(),
            foreign,
            federated: base64(&bundle.x509_authorities),
            federates: true,
            process: None,
        };
        agent.serves(&["collector", "store"]);
        agent
    }

    fn socket(&self) -> PathBuf {
        self.foreign.path("agent.sock")
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A fresh SVID for each name, for new streams and the open ones.
    fn serves(&self, names: &[&str]) {
        let svids: Vec<Value> = names.iter().map(|name| self.svid(name)).collect();
        self.says(&svids);
    }

    fn svid(&self, name: &str) -> Value {
        let issued = self.authority.issue(&format!("/{name}"));
        assert_eq!(issued.chain.len(), 2, "leaf and intermediate");
        json!({
            "id": format!("spiffe://spire.example/{name}"),
            "chain": base64(&issued.chain),
            "key": STANDARD.encode(&issued.key_pkcs8),
            "bundle": base64(&[self.foreign.authority.certificate()]),
            "hint": name,
        })
    }

    fn says(&self, svids: &[Value]) {
        let federated = match self.federates {
            true => json!({"spiffe://osaka.example": self.federated}),
            false => json!({}),
        };
        let message = json!({"svids": svids, "federated": federated});
        let whole = self.foreign.path("message.new");
        std::fs::write(&whole, message.to_string()).expect("message");
        std::fs::rename(whole, self.foreign.path("message.json")).expect("message");
    }

    fn start(&mut self) {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/programs/workload_api.py"
        );
        let mut agent = Command::new(python());
        agent
            .arg(program)
            .arg(self.socket())
            .arg(self.foreign.path("message.json"));
        let process = Child::start("the foreign agent", &mut agent);
        wait_for("the foreign agent serves", SOON, || {
            process.output().contains("serving").then_some(())
        });
        self.process = Some(process);
    }
}

/// Concatenated DER, as the Workload API has it.
fn base64(certificates: &[CertificateDer<'_>]) -> String {
    let der: Vec<u8> = certificates
        .iter()
        .flat_map(|der| der.iter().copied())
        .collect();
    STANDARD.encode(der)
}

/// A site of `spire.example` that takes its identities from the agent, linked both ways with
/// Osaka, and the local addresses of its caller and of Osaka's.
struct Linked {
    agent: Agent,
    edge: Site,
    osaka: Site,
    to_osaka: SocketAddr,
    to_edge: SocketAddr,
}

fn linked() -> Linked {
    let (mut osaka, mut edge) = (Site::new("osaka"), Site::new("edge"));
    let mut agent = Agent::new(&osaka);
    let peers = agent.foreign.peers(Some(edge.gateway));
    let (to_osaka, to_edge) = link_with_edge(&osaka, &edge, &peers);
    osaka.start();
    agent.start();
    edge.start_with(&["--workload-api", &agent.endpoint()]);
    Linked {
        agent,
        edge,
        osaka,
        to_osaka,
        to_edge,
    }
}

impl Linked {
    fn updates(&self) -> u64 {
        let status = self.edge.status();
        status["workload_api"]["status"]["updates"]
            .as_u64()
            .unwrap_or(0)
    }

    fn explain(&self, caller: &str, service: &str) -> &mut Command {
        let command = Box::leak(Box::new(renkei()));
        command.args(["explain", caller, service, "--site"]);
        command.arg(self.edge.file());
        command.arg("--state").arg(self.edge.state())
    }

    fn wait_for_update_after(&self, before: u64) {
        wait_for("the new message has come", SOON, || {
            (self.updates() > before).then_some(())
        });
    }
}

#[test]
fn a_site_lives_on_the_identities_of_an_agent_that_nobody_here_wrote() {
    let mut all = linked();
    exchange_soon(all.to_osaka, b"from the foreign trust domain");
    exchange_soon(all.to_edge, b"to the foreign trust domain");

    let mut open = Connection::open(all.to_osaka);
    for _ in 0..3 {
        let before = all.updates();
        all.agent.serves(&["collector", "store"]);
        all.wait_for_update_after(before);
        open.say();
        assert_eq!(exchange(all.to_osaka, b"new").expect("echo"), b"new");
        assert_eq!(exchange(all.to_edge, b"new").expect("echo"), b"new");
    }

    all.agent.process = None;
    let lost = wait_for("the loss is told", SOON, || {
        let status = all.edge.status()["workload_api"]["status"].clone();
        (status["connected"] == false).then_some(status)
    });
    assert!(lost["last_error"].is_string(), "{lost}");
    open.say();
    assert_eq!(exchange(all.to_osaka, b"held").expect("echo"), b"held");
    std::fs::remove_file(all.agent.socket()).ok();
    all.agent.start();
    wait_for("the agent is found again", 2 * SOON, || {
        let status = all.edge.status();
        (status["workload_api"]["status"]["connected"] == true).then_some(())
    });
    open.say();
    let totals = all.osaka.status()["proxy"]["totals"].to_string();
    assert!(
        totals.contains("spiffe://spire.example/collector"),
        "{totals}"
    );
}

#[test]
fn a_bad_message_of_the_agent_changes_nothing_and_is_named() {
    let all = linked();
    exchange_soon(all.to_osaka, b"before");
    let (mut crossed, other) = (all.agent.svid("collector"), all.agent.svid("store"));
    crossed["key"] = other["key"].clone();
    all.agent.says(&[crossed, other]);
    let fault = wait_for("the fault is told", SOON, || {
        let status = all.edge.status();
        status["workload_api"]["status"]["last_error"]
            .as_str()
            .map(str::to_owned)
    });
    assert!(
        fault.contains("the key of spiffe://spire.example/collector"),
        "{fault}"
    );
    assert_eq!(exchange(all.to_osaka, b"held").expect("echo"), b"held");
    let before = all.updates();
    all.agent.serves(&["collector", "store"]);
    all.wait_for_update_after(before);
}

#[test]
fn what_the_agent_no_longer_gives_is_used_no_more() {
    let all = linked();
    exchange_soon(all.to_osaka, b"before");
    exchange_soon(all.to_edge, b"before");
    let (out, back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    all.agent.serves(&["store"]);
    out.assert_reset();
    assert!(exchange(all.to_osaka, b"as nobody").is_err());
    let sentence = all.edge.sentence("no_identity");
    assert_eq!(sentence, "spire.example/collector has no identity");
    assert_eq!(exchange(all.to_edge, b"held").expect("echo"), b"held");
    // PermissionDenied: there is nothing at all.
    all.agent.says(&[]);
    back.assert_reset();
    assert!(exchange(all.to_edge, b"to nobody").is_err());
    assert_eq!(all.edge.status()["workload_api"]["svids"], json!([]));
    all.edge.wait_not_ready();
    let explained = run(all.explain("osaka.example/caller", "store"));
    assert_eq!(explained.status.code(), Some(1));
    assert!(
        said(&explained).contains("has no SVID: the agent answers PermissionDenied"),
        "{}",
        said(&explained)
    );
    all.agent.serves(&["collector", "store"]);
    exchange_soon(all.to_osaka, b"after");
    exchange_soon(all.to_edge, b"after");
    let explained = run(all.explain("collector", "osaka.example/echo"));
    assert!(explained.status.success(), "{}", said(&explained));
}

#[test]
fn a_ca_that_leaves_the_agents_bundle_cuts_what_it_has_vouched_for() {
    let mut all = linked();
    exchange_soon(all.to_osaka, b"before");
    exchange_soon(all.to_edge, b"before");
    let (out, back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    let other = base64(&[TestAuthority::new("osaka.example").certificate()]);
    let right = std::mem::replace(&mut all.agent.federated, other);
    all.agent.serves(&["collector", "store"]);
    out.assert_reset();
    back.assert_reset();
    assert!(exchange(all.to_osaka, b"to whom").is_err());
    assert!(exchange(all.to_edge, b"from whom").is_err());
    let sentence = all.edge.sentence("untrusted_ca");
    assert!(sentence.contains("not issued by a CA of"), "{sentence}");
    all.agent.federated = right;
    all.agent.serves(&["collector", "store"]);
    exchange_soon(all.to_osaka, b"after");
    exchange_soon(all.to_edge, b"after");
}

#[test]
fn a_bundle_that_the_agent_leaves_out_stops_new_connections_at_once_and_open_ones_later() {
    let mut all = linked();
    exchange_soon(all.to_osaka, b"before");
    exchange_soon(all.to_edge, b"before");
    let (out, back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    let before = all.updates();
    all.agent.federates = false;
    all.agent.serves(&["collector", "store"]);
    all.wait_for_update_after(before);
    assert!(exchange(all.to_osaka, b"to whom").is_err());
    assert!(exchange(all.to_edge, b"from whom").is_err());
    out.assert_reset();
    back.assert_reset();
    let log = all.edge.logged("a connection is cut");
    assert!(
        log.contains("the bundle of its site was withdrawn"),
        "{log}"
    );
    all.agent.federates = true;
    all.agent.serves(&["collector", "store"]);
    exchange_soon(all.to_osaka, b"after");
    exchange_soon(all.to_edge, b"after");
}

#[test]
fn what_the_agent_gives_is_shown_to_people_and_its_refusal_too() {
    let all = linked();
    let text = said(&run(all.edge.command(&["status"])));
    for part in [
        "spire.example/collector",
        "spire.example/store",
        &all.agent.endpoint(),
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("{\""), "no JSON for people:\n{text}");
    let show = || {
        let mut show = renkei();
        run(show.args(["svid", "show", "--socket", &all.agent.endpoint()]))
    };
    let shown = said(&show());
    for part in ["spiffe://spire.example/store", "osaka.example"] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    all.agent.says(&[]);
    let refused = show();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("no identity issued"),
        "{}",
        said(&refused)
    );
}
