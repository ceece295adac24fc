//! Sites whose clock is wrong for a while, by libfaketime: they keep their CA, their SVIDs and
//! their traffic.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::fs;

use lab::{
    SOON, echo, exchange, exchange_soon,
    faketime::{Clock, start_by, stop},
    metrics::metric,
    two_renewing_sites, two_sites,
};
use renkei_testkit::{free_address, wait_for};
use serde_json::Value;

/// The CAs, and the sequence of the bundle.
fn trust(status: &Value) -> (Vec<String>, Value) {
    let server = &status["server"];
    let all = server["authorities"].as_array().expect("authorities");
    let ids = all
        .iter()
        .map(|ca| ca["id"].as_str().expect("id").to_owned());
    (ids.collect(), server["bundle_sequence"].clone())
}

#[test]
fn one_start_with_a_clock_that_is_years_ahead_changes_nothing() {
    let (_hokkaido, mut osaka, local) = two_sites(echo());
    exchange_soon(local, b"before");
    let before = trust(&osaka.status());
    stop(&mut osaka);

    for wrong in ["+4000d", "+2d", "-400d"] {
        let admin = free_address();
        start_by(&mut osaka, Clock::Fixed(wrong), admin);
        assert_eq!(trust(&osaka.status()), before, "{wrong}");
        assert_eq!(metric(admin, "renkei_clock_jumps_total"), 1, "{wrong}");
        // Its peers are where the time is right.
        exchange_soon(local, b"meanwhile");
        stop(&mut osaka);
    }

    osaka.start();
    assert_eq!(trust(&osaka.status()), before);
    exchange_soon(local, b"after");
}

#[test]
fn a_clock_that_is_two_days_ahead_for_the_life_of_an_svid_changes_nothing() {
    let (_hokkaido, mut osaka, local) = two_renewing_sites(echo());
    stop(&mut osaka);
    let (clock, admin) = (osaka.path("clock"), free_address());
    fs::write(&clock, "+0").expect("clock");
    start_by(&mut osaka, Clock::File(&clock), admin);
    exchange_soon(local, b"before");
    let before = trust(&osaka.status());

    fs::write(&clock, "+2d").expect("clock");
    let renewed = osaka.renewals();
    // Longer than an SVID lives.
    wait_for(
        "each SVID is renewed three times meanwhile",
        2 * SOON,
        || {
            let got = exchange(local, b"meanwhile").expect("exchange");
            assert_eq!(got, b"meanwhile");
            (osaka.renewals() >= renewed + 3).then_some(())
        },
    );
    assert_eq!(metric(admin, "renkei_clock_doubted"), 1);
    fs::write(&clock, "+0").expect("clock");
    wait_for("the clock is right again", SOON, || {
        (metric(admin, "renkei_clock_doubted") == 0).then_some(())
    });

    let status = osaka.status();
    assert_eq!((trust(&status), &status["ready"]), (before, &true.into()));
    assert_eq!(metric(admin, "renkei_clock_jumps_total"), 1);
    let renewed = osaka.renewals();
    wait_for("SVIDs are renewed afterwards", SOON, || {
        (osaka.renewals() > renewed).then_some(())
    });
    exchange_soon(local, b"after");
}
