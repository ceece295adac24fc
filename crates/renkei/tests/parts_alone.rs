//! The parts of a node alone: a proxy next to an agent of SPIRE, and an agent without a proxy.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use lab::{
    SOON, Site, echo, exchange_soon, nodes::Server, own_uid, renkei, run, said, spire::SpireAgent,
};
use renkei_testkit::{Child, free_address, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// Osaka's file: its workload `collector`, on any node, calls `echo` of Hokkaido at `local`.
fn calls_echo(server: &Server, hokkaido: &Site, local: std::net::SocketAddr) -> String {
    format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/echo: {local}}}}}\n",
        server.site.peers(&[hokkaido]),
        own_uid()
    )
}

#[test]
fn a_proxy_next_to_an_agent_of_spire_reads_the_site_file_itself() {
    let (mut server, mut hokkaido) = (Server::new("osaka"), Site::new("hokkaido"));
    server.write(&["login"], "");
    hokkaido.write(&lab::callee(&hokkaido, &server.site, echo()));
    let local = free_address();
    server.write(&["login"], &calls_echo(&server, &hokkaido, local));
    server.start();
    hokkaido.start();
    let agent = SpireAgent::new(&server.site, server.api());
    let _agent = agent.join(&server.spire_token());
    wait_for("an SVID of the SPIRE agent", SOON, || agent.fetch().ok());
    let folder = TempDir::with_prefix("renkei-proxy-").expect("folder");
    let mut command = renkei();
    command
        .arg("proxy")
        .arg(server.site.file())
        .args(["--node", "login"]);
    command.arg("--state").arg(folder.path());
    command.args(["--workload-api", &agent.endpoint()]);
    command.args(["--admin", "none", "--drain", "3s"]);
    let mut proxy = Child::start("login", &mut command);
    let status = || -> Option<Value> {
        let output = run(renkei()
            .args(["status", "--output", "json", "--state"])
            .arg(folder.path()));
        let is_answer = output.status.success();
        is_answer.then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    };
    wait_for("the proxy has its listener", SOON, || {
        assert!(proxy.is_running(), "{}", proxy.output());
        status()
    });
    // Readers of Osaka's bundle come through its gateway, which is on the same machine here: it
    // leaves the address of the listener to the proxy.
    let _gateway = server.join("gw1");
    hokkaido.wait_linked();
    server.site.wait_linked();
    wait_for("the proxy is ready", SOON, || {
        assert!(proxy.is_running(), "{}", proxy.output());
        status().filter(|status| status["ready"] == true)
    });
    exchange_soon(local, b"by an identity of SPIRE's agent");

    // A change of the file is applied here, as no server pushes it.
    let other = free_address();
    server.write(&["login"], &calls_echo(&server, &hokkaido, other));
    proxy.signal("HUP");
    exchange_soon(other, b"at another address");
    server.write(&[], &calls_echo(&server, &hokkaido, local));
    proxy.signal("HUP");
    wait_for("the refusal", SOON, || {
        proxy.output().contains("no node `login`").then_some(())
    });
    exchange_soon(other, b"as before");
}

#[test]
fn a_proxy_is_for_a_node_of_the_file() {
    let server = Server::new("osaka");
    server.write(&["login"], "");
    let folder = TempDir::with_prefix("renkei-proxy-").expect("folder");
    let mut command = renkei();
    command
        .arg("proxy")
        .arg(server.site.file())
        .args(["--node", "logni"]);
    command.args([
        "--workload-api",
        "unix:///nowhere.sock",
        "--admin",
        "none",
        "--state",
    ]);
    let refused = run(command.arg(folder.path()));
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("no node `logni`"),
        "{}",
        said(&refused)
    );
}

#[test]
fn an_agent_alone_serves_svids_and_says_what_it_leaves_out() {
    let mut server = Server::new("osaka");
    let local = free_address();
    let rest = format!(
        "services:\n  archive: {{on: [login], backends: [{}], allow: [collector]}}\n\
         workloads:\n  collector: {{selectors: [{}], uses: {{archive: {local}}}}}\n",
        echo(),
        own_uid()
    );
    server.write(&["login"], &rest);
    server.start();
    let login = server.join_agent("login");
    let shown = run(renkei()
        .args(["svid", "show", "--output", "json", "--socket"])
        .arg(login.workload_api()));
    assert!(shown.status.success(), "{}", said(&shown));
    assert!(said(&shown).contains("spiffe://osaka.example/collector"));
    let status = login.wait("has told its server", |status| {
        status["node"]["faults"][0].is_object()
    });
    let faults = status["node"]["faults"].to_string();
    assert!(
        faults.contains("archive") && faults.contains("without a proxy"),
        "{faults}"
    );
    let held = status["agent"]["svids"].to_string();
    assert!(
        held.contains("/collector") && !held.contains("/archive"),
        "{held}"
    );
    assert!(
        std::net::TcpStream::connect(local).is_err(),
        "no proxy listens"
    );
    wait_for("the server shows it", SOON, || {
        let nodes = server.site.status()["server"]["nodes"].to_string();
        nodes.contains("without a proxy").then_some(())
    });
    assert_eq!(login.written(), Vec::<std::path::PathBuf>::new());
}
