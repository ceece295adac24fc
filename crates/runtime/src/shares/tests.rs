use futures_util::FutureExt;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Caller(&'static str, usize);

impl Holder for Caller {
    fn weight(&self) -> usize {
        self.1
    }
}

const A: Caller = Caller("a", 1);
const B: Caller = Caller("b", 1);
const C: Caller = Caller("c", 1);

/// All places that one holder gets.
fn all<H: Holder>(pool: &Pool<H>, holders: &[H]) -> Vec<Place<H>> {
    std::iter::from_fn(|| pool.try_take(holders.to_vec()).ok()).collect()
}

fn address(text: &str) -> Network {
    Network::of(text.parse().expect("an address"))
}

#[test]
fn one_holder_gets_half_and_the_next_finds_places() {
    let pool = Pool::new(16);
    let first = all(&pool, &[A]);
    assert_eq!(first.len(), 8);
    assert_eq!(pool.try_take(vec![A]).err(), Some(NoPlace::Share(A, 8)));
    let second = all(&pool, &[B]);
    assert_eq!(second.len(), 4);
    assert!(!all(&pool, &[C]).is_empty());
    drop(first);
    assert_eq!(pool.usage(), (4, 16));
}

#[test]
fn a_holder_of_more_weight_gets_more_and_still_not_all() {
    let pool = Pool::new(16);
    let heavy = all(&pool, &[Caller("heavy", 3)]);
    assert_eq!(heavy.len(), 12);
    assert!(pool.try_take(vec![A]).is_ok());
}

#[test]
fn a_place_is_within_the_share_of_every_holder() {
    let pool = Pool::new(16);
    let site = Caller("site", 1);
    let callers = ["x", "y", "z"].map(|name| all(&pool, &[site, Caller(name, 1)]));
    let of_site: usize = callers.iter().map(Vec::len).sum();
    assert_eq!(of_site, 8, "many callers of one site have the site's share");
    assert!(pool.try_take(vec![A]).is_ok());
}

#[test]
fn the_last_place_goes_to_whoever_has_none() {
    let pool = Pool::new(2);
    let _first = pool.try_take(vec![A]).expect("a place");
    assert_eq!(pool.try_take(vec![A]).err(), Some(NoPlace::Share(A, 1)));
    let _second = pool.try_take(vec![B]).expect("a place");
    assert_eq!(pool.try_take(vec![C]).err(), Some(NoPlace::Full));
}

#[test]
fn who_waits_gets_a_place_in_order_and_holders_take_turns() {
    let pool = Pool::new(2);
    let (held_a, held_b) = (pool.try_take(vec![A]), pool.try_take(vec![B]));
    let mut first = Box::pin(pool.take(vec![A]));
    let mut second = Box::pin(pool.take(vec![A]));
    let mut other = Box::pin(pool.take(vec![C]));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    assert!(other.as_mut().now_or_never().is_none());
    drop(held_b);
    let _other = other
        .now_or_never()
        .expect("a has its share, and c has none");
    assert!(first.as_mut().now_or_never().is_none());
    drop(held_a);
    let first = first.now_or_never().expect("the first of a");
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    assert!(second.now_or_never().is_some());
}

#[test]
fn who_waits_no_more_takes_no_place_and_no_memory() {
    let pool = Pool::new(2);
    let held = [pool.try_take(vec![A]), pool.try_take(vec![B])];
    for _ in 0..10_000 {
        assert!(pool.take(vec![C]).now_or_never().is_none());
    }
    let waiting = |pool: &Pool<Caller>| lock(&pool.0).queues.values().map(VecDeque::len).sum();
    let waiting: usize = waiting(&pool);
    assert!(waiting < 100, "{waiting}");
    let mut last = Box::pin(pool.take(vec![C]));
    assert!(last.as_mut().now_or_never().is_none());
    drop(held);
    assert!(last.now_or_never().is_some());
    let state = lock(&pool.0);
    assert!(state.of_each.is_empty() && state.taken == 0, "{state:?}");
}

#[test]
fn a_place_that_arrives_too_late_is_given_to_the_next() {
    let pool = Pool::new(1);
    let held = pool.try_take(vec![A]).expect("a place");
    let mut gone = Box::pin(pool.take(vec![B]));
    let mut next = Box::pin(pool.take(vec![C]));
    assert!(gone.as_mut().now_or_never().is_none());
    assert!(next.as_mut().now_or_never().is_none());
    drop(held);
    assert!(next.as_mut().now_or_never().is_none(), "b has it");
    drop(gone);
    assert!(next.now_or_never().is_some());
}

#[test]
fn more_places_are_given_to_those_who_wait() {
    let pool = Pool::new(1);
    let _held = pool.try_take(vec![A]);
    let mut waiting = Box::pin(pool.take(vec![B]));
    assert!(waiting.as_mut().now_or_never().is_none());
    pool.resize(4);
    assert!(waiting.now_or_never().is_some());
}

#[test]
fn a_host_with_many_addresses_is_one() {
    assert_eq!(address("2001:db8::1"), address("2001:db8::2:0:0:9"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
}

#[test]
fn hosts_of_one_customer_can_be_told_together() {
    let customer = address("2001:db8:1::1").customer();
    assert_eq!(customer, address("2001:db8:1:ffff::9").customer());
    assert_ne!(customer, address("2001:db8:2::1").customer());
    assert_eq!(address("192.0.2.1").customer(), None);
}
