//! A Renkei agent that has joined a real SPIRE server: it serves the server's entries, and a proxy
//! lives on its identities.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use lab::{SOON, Site, exchange_soon, foreign::link_with_edge, renkei, run, said, spire::Spire};
use renkei_testkit::{Child, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// `renkei agent join-spire`.
struct Agent {
    folder: TempDir,
    process: Child,
}

impl Agent {
    fn join(spire: &Spire) -> Self {
        let folder = TempDir::with_prefix("renkei-agent-").expect("folder");
        let mut command = command(spire, &spire.token(), &spire.pem(), folder.path());
        let process = Child::start("agent", &mut command);
        Self { folder, process }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// What the Workload API gives to this process.
    fn svids(&self) -> Option<Value> {
        let shown = run(renkei()
            .args(["svid", "show", "--output", "json", "--socket"])
            .arg(self.socket()));
        let has_any = shown.status.success();
        has_any.then(|| serde_json::from_slice(&shown.stdout).expect("JSON"))
    }

    fn status(&mut self) -> Option<Value> {
        assert!(self.process.is_running(), "{}", self.process.output());
        let shown = run(renkei()
            .args(["status", "--output", "json", "--state"])
            .arg(self.folder.path().join("state")));
        serde_json::from_slice(&shown.stdout).ok()
    }
}

fn command(spire: &Spire, token: &str, bundle: &Path, folder: &Path) -> Command {
    let mut command = renkei();
    command.args(["agent", "join-spire", &spire.api().to_string(), token]);
    command.args(["--trust-domain", "spire.example", "--trust-bundle"]);
    command.arg(bundle);
    command.arg("--state").arg(folder.join("state"));
    command
        .arg("--workload-socket")
        .arg(folder.join("agent.sock"));
    command.args(["--admin", "none"]);
    command
}

#[test]
fn a_renkei_agent_serves_the_entries_of_a_spire_server() {
    let mut osaka = Site::new("osaka");
    osaka.start();
    let spire = Spire::start(&osaka);
    let collector = spire.create("ns/prod/sa/collector", 3600);
    spire.create_for("pod", 3600, "k8s:ns:prod");
    let mut agent = Agent::join(&spire);

    let svids = wait_for("an SVID", SOON, || agent.svids()).to_string();
    assert!(
        svids.contains("spiffe://spire.example/ns/prod/sa/collector"),
        "{svids}"
    );
    let status = wait_for("the agent is ready", SOON, || {
        agent.status().filter(|status| status["ready"] == true)
    });
    let faults = status["node"]["faults"].to_string();
    assert!(
        faults.contains("k8s") && !faults.contains("collector"),
        "{faults}"
    );
    let foreign = run(renkei()
        .args(["bundle", "show", "--peer", "osaka.example", "--state"])
        .arg(agent.folder.path().join("state")));
    assert!(foreign.status.success(), "{}", said(&foreign));

    spire.create("second", 3600);
    wait_for("the second entry", SOON, || {
        let svids = agent.svids()?.to_string();
        svids.contains("spire.example/second").then_some(())
    });
    spire.delete(&collector);
    wait_for("the first entry is withdrawn", SOON, || {
        let svids = agent.svids()?.to_string();
        (!svids.contains("/collector")).then_some(())
    });

    spire.ban_agent();
    wait_for("a banned agent has nothing left", SOON, || {
        agent.svids().is_none().then_some(())
    });
}

#[test]
fn a_forced_rotation_at_spire_replaces_all_svids() {
    let mut osaka = Site::new("osaka");
    osaka.start();
    let spire = Spire::start(&osaka);
    spire.create("collector", 3600);
    let agent = Agent::join(&spire);
    let serial = |svids: &Value| svids.to_string();
    let before = wait_for("an SVID", SOON, || agent.svids());
    let old = spire.authority("active");
    spire.rotate("prepare", None);
    let next = spire.authority("prepared");
    spire.rotate("activate", Some(&next));
    spire.rotate("taint", Some(&old));
    spire.rotate("revoke", Some(&old));
    wait_for("an SVID of the new authority", SOON, || {
        let now = agent.svids()?;
        (serial(&now) != serial(&before)).then_some(())
    });
    // The agent itself is still known to the server: a new entry reaches it.
    spire.create("later", 3600);
    wait_for("an entry of after the rotation", SOON, || {
        let svids = agent.svids()?.to_string();
        svids.contains("spire.example/later").then_some(())
    });
}

#[test]
fn a_proxy_lives_on_a_renkei_agent_of_a_spire_server() {
    let (mut osaka, mut edge) = (Site::new("osaka"), Site::new("edge"));
    let spire = Spire::start(&osaka);
    let (to_osaka, to_edge) = link_with_edge(&osaka, &edge, &spire.peers(&edge));
    osaka.start();
    for name in ["collector", "store"] {
        spire.create(name, 3600);
    }
    let agent = Agent::join(&spire);
    wait_for("SVIDs", SOON, || agent.svids());
    let endpoint = format!("unix://{}", agent.socket().display());
    edge.start_with(&["--workload-api", &endpoint]);
    exchange_soon(to_osaka, b"from SPIRE's trust domain");
    exchange_soon(to_edge, b"to SPIRE's trust domain");
}

#[test]
fn a_token_is_for_one_use_and_a_server_without_the_bundle_gets_none() {
    let mut osaka = Site::new("osaka");
    osaka.start();
    let (spire, folder) = (
        Spire::start_alone(),
        TempDir::with_prefix("renkei-agent-").expect("folder"),
    );
    let token = spire.token();

    // The bundle of another trust domain: the token is not sent, so it stays good.
    let foreign = folder.path().join("foreign.json");
    std::fs::write(&foreign, osaka.own_bundle()).expect("bundle");
    let refused = run(&mut command(&spire, &token, &foreign, folder.path()));
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("is not the server of this site"),
        "{text}"
    );
    assert!(!text.contains(&token), "a token is not shown: {text}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").expect("bundle");
    let refused = run(&mut command(&spire, &token, &empty, folder.path()));
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("has neither a"),
        "{text}"
    );

    let mut agent = Child::start(
        "agent",
        &mut command(&spire, &token, &spire.pem(), folder.path()),
    );
    wait_for("the agent has joined", SOON, || {
        assert!(agent.is_running(), "{}", agent.output());
        spire.agents()[0].is_object().then_some(())
    });
    let other = TempDir::with_prefix("renkei-agent-").expect("folder");
    let refused = run(&mut command(&spire, &token, &spire.pem(), other.path()));
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("for one use"),
        "{text}"
    );
}
