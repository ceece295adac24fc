//! A site that accepts no connections, behind its hub.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::net::TcpStream;

use lab::{SOON, Site, assert_unanswered, exchange, exchange_soon, hub::Three, run, said};
use renkei_testkit::wait_for;
use serde_json::Value;

const EXPLAIN: [&str; 4] = [
    "explain",
    "kyushu.example/collector",
    "osaka.example/store",
    "--site",
];

#[test]
fn a_site_that_accepts_nobody_is_reached_through_its_hub() {
    let three = Three::start_sites(["hokkaido", "osaka", "kyushu"].map(Site::renewing));
    let (hokkaido, osaka, kyushu) = (&three.hokkaido, &three.osaka, &three.kyushu);
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    exchange_soon(three.local, b"first");
    assert!(
        exchange(three.local, &data).expect("exchange") == data,
        "bytes changed on the way"
    );
    let open = TcpStream::connect(osaka.gateway);
    assert!(open.is_err(), "Osaka listens");
    assert_eq!(osaka.status()["proxy"]["gateway"], Value::Null);
    // The hub saw bytes, and no caller, callee or session.
    let relayed = three.relayed();
    assert!(
        relayed["bytes_sent"].as_u64() > Some(3_000_000),
        "{relayed}"
    );
    assert_eq!(
        hokkaido.status()["proxy"]["totals"],
        Value::Array(Vec::new())
    );
    let total = osaka.status()["proxy"]["totals"][0].clone();
    assert_eq!(total["caller"], "spiffe://kyushu.example/collector");
    // Osaka's bundle is fetched through the hub, by the hub as well as by Kyushu.
    for site in [hokkaido, kyushu] {
        let before = site.peer("osaka.example")["last_success"].clone();
        wait_for("Osaka's bundle is fetched", SOON, || {
            let peer = site.peer("osaka.example");
            (peer["last_error"].is_null() && peer["last_success"] != before).then_some(())
        });
    }
    // SVIDs live for 10 s: the link has been renewed by now, or will be.
    wait_for("renewals", SOON, || {
        (osaka.renewals() > 1 && hokkaido.renewals() > 1).then_some(())
    });
    exchange_soon(three.local, b"after renewals");
    let text = said(&run(osaka.command(&["status"])));
    assert!(text.contains("to the hub hokkaido.example"), "{text}");
    let text = said(&run(hokkaido.command(&["status"])));
    assert!(text.contains("from osaka.example"), "{text}");
    let text = said(&run(osaka.command(&EXPLAIN)));
    let part = "callers of other sites come through the hub hokkaido.example (linked";
    assert!(text.contains(part), "{text}");
}

#[test]
fn the_hub_and_the_site_may_be_killed_and_return() {
    let mut three = Three::start();
    exchange_soon(three.local, b"before");
    three.hokkaido.process().kill();
    assert_unanswered(three.local);
    three.hokkaido.start();
    exchange_soon(three.local, b"after the hub");
    three.osaka.process().kill();
    wait_for("the hub has noticed", SOON, || {
        (three.relayed()["linked"] == false).then_some(())
    });
    assert_unanswered(three.local);
    let theirs = three.hokkaido.sentence("not_linked");
    assert!(theirs.contains("osaka.example cannot be reached through this hub"));
    let theirs = three.kyushu.sentence("not_linked");
    assert!(
        theirs.contains("osaka.example is not linked to it"),
        "{theirs}"
    );
    let text = said(&run(three.kyushu.command(&EXPLAIN)));
    assert!(text.contains("osaka.example is not linked to it"), "{text}");
    three.osaka.start();
    exchange_soon(three.local, b"after both");
    // Relaying is withdrawn by a changed file, while all run.
    three.write(false);
    let applied = three.hokkaido.apply();
    assert!(said(&applied).contains("- relays"), "{}", said(&applied));
    let hub = wait_for("Osaka knows why", SOON, || {
        let hub = three.osaka.status()["proxy"]["hub"].clone();
        let reason = hub["reason"].as_str()?;
        reason.contains("`relays`").then(|| hub.clone())
    });
    assert_eq!(hub["linked"], false, "{hub}");
    three.hokkaido.sentence("not_relayed");
    let text = said(&run(three.osaka.command(&["status"])));
    assert!(
        text.contains("not linked: hokkaido.example relays"),
        "{text}"
    );
}
