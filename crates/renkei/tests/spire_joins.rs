//! A real `spire-agent` joins a Renkei server: its workloads get their identities from the site
//! file, and what the file no longer has ends.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use lab::{SOON, Site, own_uid, run, said, spire::SpireAgent};
use renkei_testkit::{free_address, wait_for};

fn with_collector() -> String {
    format!("workloads:\n  collector: {{selectors: [{}]}}\n", own_uid())
}

fn token(site: &Site, words: &[&str]) -> String {
    let made = run(site.command(&["node", "token"]).args(words));
    assert!(made.status.success(), "{}", said(&made));
    let line = String::from_utf8(made.stdout).expect("UTF-8");
    line.trim_end().to_owned()
}

#[test]
fn a_spire_agent_joins_with_a_token_and_serves_what_the_site_file_has() {
    let mut site = Site::new("osaka");
    let port = free_address();
    let server = format!("server: {{listen: {port}, advertise: {port}}}\n");
    site.write(&format!("{server}{}", with_collector()));
    site.start();

    let secret = token(&site, &["--spire"]);
    let agent = SpireAgent::new(&site, port);
    let _process = agent.join(&secret);
    let svid = wait_for("an SVID of the SPIRE agent", SOON, || agent.fetch().ok());
    assert!(svid.contains("spiffe://osaka.example/collector"), "{svid}");
    let nodes = site.status()["server"]["nodes"].clone();
    let name = format!("spire/agent/join_token/{secret}");
    assert_eq!(nodes[0]["name"], name.as_str(), "{nodes}");
    let shown = said(&run(site.command(&["status"])));
    assert!(shown.contains(&name), "{shown}");

    site.write(&server);
    let applied = site.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    wait_for("nothing is left for the workload", SOON, || {
        let fetched = agent.fetch();
        fetched
            .err()
            .filter(|text| text.contains("no identity issued"))
    });

    // The token is used up.
    let other = SpireAgent::new(&site, port);
    let mut second = other.join(&secret);
    let ended = second.wait(SOON);
    let log = second.output();
    assert!(!ended.success() && log.contains("was used at"), "{log}");
}

#[test]
fn a_token_is_for_a_node_of_the_file_and_needs_a_server() {
    let mut site = Site::new("osaka");
    site.start();
    let refused = run(site.command(&["node", "token", "--spire"]));
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("no `server`"),
        "{text}"
    );
    drop(site);

    let mut site = Site::new("osaka");
    let port = free_address();
    site.write(&format!(
        "server: {{listen: {port}, advertise: {port}}}\nnodes:\n  store: {{}}\n"
    ));
    site.start();
    let refused = run(site.command(&["node", "token", "--name", "stroe"]));
    let text = said(&refused);
    assert!(
        !refused.status.success() && text.contains("no node `stroe`"),
        "{text}"
    );
    let line = token(&site, &["--name", "store"]);
    let parsed: renkei_api::node::NodeToken = line.parse().expect("a token");
    assert_eq!(parsed.server.to_string(), port.to_string());
    let banned = run(site.command(&["node", "ban", "--name", "store"]));
    assert!(banned.status.success(), "{}", said(&banned));
    assert_eq!(site.status()["server"]["nodes"][0]["banned"], true);
    let removed = run(site.command(&["node", "remove", "--name", "store"]));
    assert!(removed.status.success(), "{}", said(&removed));
    let again = run(site.command(&["node", "remove", "--name", "store"]));
    assert!(!again.status.success(), "{}", said(&again));
}

/// `renkei server` opens neither gateway nor Workload API.
#[test]
fn the_server_of_a_site_runs_alone() {
    let mut site = Site::new("osaka");
    let port = free_address();
    let refused = run(site.command(&["server"]));
    assert!(said(&refused).contains("no `server`"), "{}", said(&refused));
    site.write(&format!("server: {{listen: {port}, advertise: {port}}}\n"));
    let refused = run(site.command(&["server"]));
    assert!(
        said(&refused).contains("a `gateway` of its own"),
        "{}",
        said(&refused)
    );

    let text = format!(
        "site: osaka\ntrust_domain: osaka.example\n\
         server: {{listen: {port}, advertise: {port}}}\nnodes:\n  store: {{}}\n{}",
        with_collector()
    );
    std::fs::write(site.file(), text).expect("site file");
    site.start_server();
    let status = site.status();
    assert!(status["agent"].is_null(), "{status}");
    assert!(status["proxy"]["gateway"].is_null(), "{status}");
    assert!(!site.workload_socket().exists());
    assert_eq!(status["server"]["nodes"][0]["name"], "store");
    let agent = SpireAgent::new(&site, port);
    let _process = agent.join(&token(&site, &["--spire"]));
    let svid = wait_for("an SVID of the SPIRE agent", SOON, || agent.fetch().ok());
    assert!(svid.contains("spiffe://osaka.example/collector"), "{svid}");
}
