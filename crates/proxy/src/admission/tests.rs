use futures_util::FutureExt;
use renkei_spiffe::SpiffeId;

use super::*;
use crate::identity::Direction;

fn small(connections: usize) -> Admission {
    Admission::new(&ProxyLimits {
        connections,
        handshakes: 4,
        dials: 4,
        ..ProxyLimits::default()
    })
}

fn source(text: &str) -> Source {
    Source::direct(text.parse().expect("an address"))
}

fn pair(caller: &str, callee: &str) -> Pair {
    let id = |name: &str| SpiffeId::parse(&format!("spiffe://{name}")).expect("an ID");
    Pair {
        direction: Direction::Inbound,
        caller: id(caller),
        callee: id(callee),
    }
}

/// All places that are given until one is refused, and the reason.
fn all(take: impl Fn() -> Result<Place, Denied>) -> (Vec<Place>, Denied) {
    let mut held = Vec::new();
    loop {
        match take() {
            Ok(place) => held.push(place),
            Err(denied) => return (held, denied),
        }
    }
}

#[test]
fn five_addresses_do_not_keep_a_sixth_out() {
    let admission = small(1_000);
    let mut held = Vec::new();
    for host in 1..=5 {
        let from = source(&format!("192.0.2.{host}:40000"));
        let (places, denied) = all(|| admission.arrival(&from));
        assert_eq!(denied.reason, "address_limit");
        assert!(denied.sentence.starts_with("192.0.2."), "{denied:?}");
        held.extend(places);
    }
    let other = source("192.0.2.6:40000");
    let (places, _) = all(|| admission.arrival(&other));
    assert!(places.len() >= 4, "{}", places.len());
}

#[test]
fn the_addresses_of_one_customer_have_a_share_together() {
    let admission = small(1_000);
    let held: Vec<Place> = (0..1_000)
        .filter_map(|net| {
            let from = source(&format!("[2001:db8:1:{net:x}::1]:40000"));
            admission.arrival(&from).ok()
        })
        .collect();
    assert!(held.len() <= 375, "{}", held.len());
    assert!(admission.arrival(&source("[2001:db8:2::1]:40000")).is_ok());
}

#[test]
fn one_caller_leaves_places_to_others_and_many_callers_of_one_site_do() {
    let admission = small(1_000);
    let (own, service) = ("osaka.example/collector", "hokkaido.example/broker");
    let (held, denied) = all(|| admission.inbound(&pair(own, service)));
    assert_eq!((held.len(), denied.reason), (667, "caller_limit"));
    assert!(
        admission
            .inbound(&pair("kyushu.example/a", "hokkaido.example/web"))
            .is_ok()
    );
    drop(held);
    let minted = |n: usize| pair(&format!("osaka.example/{n}"), service);
    let held: Vec<Place> = (0..1_000)
        .filter_map(|n| admission.inbound(&minted(n)).ok())
        .collect();
    assert_eq!(held.len(), 750);
    let denied = admission
        .inbound(&minted(0))
        .expect_err("a share is used up");
    assert_eq!(denied.reason, "site_limit");
}

#[test]
fn callers_through_the_hub_are_limited_by_their_own_addresses() {
    let admission = small(64);
    let hub = "198.51.100.1:7443".parse().expect("an address");
    let through = |caller: &str| Source::by_link(hub, caller.parse().ok());
    let (_held, denied) = all(|| admission.arrival(&through("192.0.2.1:1")));
    assert_eq!(denied.reason, "address_limit");
    assert!(admission.arrival(&through("192.0.2.2:1")).is_ok());
    // A hub that makes addresses up has a share itself.
    let held: Vec<Place> = (0..64)
        .filter_map(|n| {
            admission
                .arrival(&through(&format!("203.0.113.{n}:1")))
                .ok()
        })
        .collect();
    assert!(held.len() < 64);
    assert!(admission.arrival(&source("192.0.2.9:1")).is_ok());
}

#[test]
fn dials_to_a_gateway_that_hangs_leave_places_for_others() {
    let admission = small(64);
    let (caller, callee) = ("osaka.example/collector", "hokkaido.example/broker");
    let hanging = HostPort::parse("hokkaido.example:7443").expect("an address");
    let other = HostPort::parse("kyushu.example:7443").expect("an address");
    let pair = pair(caller, callee);
    let dial = |gateway| admission.dial(&pair, gateway).now_or_never();
    let held: Vec<Place> = std::iter::from_fn(|| dial(&hanging)).collect();
    assert_eq!(held.len(), 2);
    let _other = dial(&other).expect("a place");
}

#[test]
fn each_kind_has_its_own_places_and_gets_them_back() {
    let admission = small(1);
    let pair = pair("osaka.example/collector", "hokkaido.example/broker");
    let held = admission.inbound(&pair).expect("a place");
    let denied = admission.inbound(&pair).expect_err("there is one");
    assert_eq!(denied.reason, "connection_limit");
    let _outbound = admission.outbound(&pair).now_or_never().expect("its own");
    assert!(
        admission.outbound(&pair).now_or_never().is_none(),
        "it waits"
    );
    drop(held);
    assert!(admission.inbound(&pair).is_ok());
}
