//! `renkei up --workload-api` on a real SPIRE agent: what the server withdraws is not used any
//! more, by callers and by services, and nothing outlives its SVID when the agent is gone.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{collections::BTreeSet, net::SocketAddr};

use lab::{
    SOON, Site, connection::Connection, exchange, exchange_soon, foreign::link_with_edge, run,
    said, spire::Spire,
};
use renkei_testkit::wait_for;
use serde_json::Value;

/// The site `edge` of `spire.example`, which lives on SPIRE's identities, linked with Osaka.
struct Linked {
    spire: Spire,
    edge: Site,
    osaka: Site,
    /// Where the edge's collector reaches Osaka's echo.
    to_osaka: SocketAddr,
    /// Where Osaka's caller reaches the edge's store.
    to_edge: SocketAddr,
}

fn linked() -> Linked {
    let (mut osaka, edge) = (Site::new("osaka"), Site::new("edge"));
    let mut spire = Spire::start(&osaka);
    spire.start_agent();
    let (to_osaka, to_edge) = link_with_edge(&osaka, &edge, &spire.peers(&edge));
    osaka.start();
    Linked {
        spire,
        edge,
        osaka,
        to_osaka,
        to_edge,
    }
}

impl Linked {
    fn start_edge(&mut self) {
        let endpoint = self.spire.endpoint();
        self.edge.start_with(&["--workload-api", &endpoint]);
        exchange_soon(self.to_osaka, b"from SPIRE's trust domain");
        exchange_soon(self.to_edge, b"to SPIRE's trust domain");
    }

    /// The SVIDs that the edge says it has.
    fn svids(&self) -> Vec<String> {
        let status = self.edge.status();
        let svids = status["workload_api"]["svids"].as_array().cloned();
        let ids = svids.unwrap_or_default().into_iter();
        ids.filter_map(|svid: Value| svid["id"].as_str().map(str::to_owned))
            .collect()
    }

    /// The serial numbers of the SVIDs that the edge has.
    fn serials(&self) -> BTreeSet<String> {
        let status = self.edge.status();
        let svids = status["workload_api"]["svids"].as_array().cloned();
        let all = svids.unwrap_or_default().into_iter();
        all.filter_map(|svid| svid["serial"].as_str().map(str::to_owned))
            .collect()
    }

    /// Hands the present bundle of SPIRE to Osaka, as its operator does, and waits until it is in
    /// force there.
    fn hand_over_bundle(&self, authorities: u64) {
        self.spire.write_bundle();
        let applied = self.osaka.apply();
        assert!(applied.status.success(), "{}", said(&applied));
        wait_for("Osaka has the new bundle", SOON, || {
            (self.osaka.peer("spire.example")["authorities"] == authorities).then_some(())
        });
    }

    /// `renkei explain` at the edge: whether it says that nothing stands in the way, and its text.
    fn explain(&self, caller: &str, service: &str) -> (bool, String) {
        let mut command = lab::renkei();
        command.args(["explain", caller, service, "--site"]);
        let output = run(command
            .arg(self.edge.file())
            .arg("--state")
            .arg(self.edge.state()));
        (output.status.success(), said(&output))
    }
}

fn assert_refused(address: SocketAddr) {
    let got = exchange(address, b"as one who has no identity");
    assert!(got.is_err(), "{got:?}");
}

#[test]
fn an_entry_that_is_deleted_at_spire_stops_its_caller_and_its_service() {
    let mut all = linked();
    let (collector, store) = (
        all.spire.create("collector", 3600),
        all.spire.create("store", 3600),
    );
    all.start_edge();
    let (out, mut back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    assert_eq!(all.svids().len(), 2);
    let (allowed, text) = all.explain("collector", "osaka.example/echo");
    assert!(
        allowed && text.contains("has an SVID that expires in"),
        "{text}"
    );

    all.spire.delete(&collector);
    out.assert_reset();
    assert_refused(all.to_osaka);
    assert_eq!(
        all.edge.sentence("no_identity"),
        "spire.example/collector has no identity"
    );
    assert_eq!(all.svids(), ["spiffe://spire.example/store"]);
    let (allowed, text) = all.explain("collector", "osaka.example/echo");
    assert!(!allowed && text.contains("has no SVID"), "{text}");
    back.say();
    assert_eq!(exchange(all.to_edge, b"new").expect("echo"), b"new");

    // The last one: the agent has nothing for this process, and says so with PermissionDenied.
    all.spire.delete(&store);
    back.assert_reset();
    assert_refused(all.to_edge);
    assert_eq!(all.svids(), Vec::<String>::new());
    let (allowed, text) = all.explain("osaka.example/caller", "store");
    assert!(!allowed && text.contains("PermissionDenied"), "{text}");
    all.edge.wait_not_ready();

    all.spire.create("collector", 3600);
    all.spire.create("store", 3600);
    wait_for("both are back", 2 * SOON, || {
        (all.svids().len() == 2).then_some(())
    });
    exchange_soon(all.to_osaka, b"as before");
    exchange_soon(all.to_edge, b"as before");
}

/// The steps that SPIRE's documentation gives for a key that is no longer to be trusted.
#[test]
fn a_forced_rotation_at_spire_cuts_what_the_revoked_authority_vouches_for_and_nothing_else() {
    let mut all = linked();
    all.spire.create("collector", 3600);
    all.spire.create("store", 3600);
    all.start_edge();
    let (mut out, mut back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    let (old, before) = (all.spire.authority("active"), all.serials());
    assert_eq!(before.len(), 2);

    all.spire.rotate("prepare", None);
    all.hand_over_bundle(2);
    let prepared = all.spire.authority("prepared");
    all.spire.rotate("activate", Some(&prepared));
    all.spire.rotate("taint", Some(&old));
    wait_for("both SVIDs are new", SOON, || {
        let now = all.serials();
        (now.len() == 2 && now.is_disjoint(&before)).then_some(())
    });
    exchange_soon(all.to_osaka, b"by the new authority");
    exchange_soon(all.to_edge, b"by the new authority");
    out.say();
    back.say();

    all.spire.rotate("revoke", Some(&old));
    all.hand_over_bundle(1);
    exchange_soon(all.to_osaka, b"by the new authority alone");
    exchange_soon(all.to_edge, b"by the new authority alone");
    // The new authority vouches for them by now.
    out.say();
    back.say();
    for site in [&mut all.osaka, &mut all.edge] {
        let log = site.process().output();
        assert!(!log.contains("a connection is cut"), "{log}");
        assert!(!log.contains("a trunk is ended"), "{log}");
    }

    // Without its agent the edge does not learn of the next rotation, and gets no new SVIDs.
    all.spire.kill_agent();
    all.spire.rotate("prepare", None);
    let next = all.spire.authority("prepared");
    all.spire.rotate("activate", Some(&next));
    all.spire.rotate("taint", Some(&prepared));
    all.spire.rotate("revoke", Some(&prepared));
    all.hand_over_bundle(1);
    out.assert_reset_within(2 * SOON);
    back.assert_reset_within(2 * SOON);
    let log = all.osaka.logged("a trunk is ended");
    let reasons = log.lines().filter(|line| line.contains("a trunk is ended"));
    for line in reasons {
        assert!(line.contains("INFO") && line.contains("fault="), "{line}");
    }
    assert_refused(all.to_osaka);
    assert_refused(all.to_edge);
}

#[test]
fn without_its_agent_nothing_outlives_its_svid() {
    let mut all = linked();
    all.spire.create("collector", 20);
    all.spire.create("store", 20);
    all.start_edge();
    let (out, back) = (
        Connection::open(all.to_osaka),
        Connection::open(all.to_edge),
    );
    all.spire.kill_agent();
    out.assert_reset_within(2 * SOON);
    back.assert_reset_within(2 * SOON);
    assert_refused(all.to_osaka);
    assert_refused(all.to_edge);
    assert_eq!(all.svids(), Vec::<String>::new());
    let (allowed, text) = all.explain("collector", "osaka.example/echo");
    assert!(!allowed && text.contains("has no SVID"), "{text}");
    wait_for("Osaka has nothing open with it", SOON, || {
        let flows = all.osaka.status()["proxy"]["flows"]
            .as_array()
            .map(Vec::len);
        (flows == Some(0)).then_some(())
    });
}
