use std::future::poll_fn;

use super::*;

/// A limit of so many bytes a second.
fn limit(rate: u64) -> Arc<BandwidthLimit> {
    let limit = BandwidthLimit::default();
    limit.rate.store(rate, Ordering::Relaxed);
    Arc::new(limit)
}

/// Carries so many bytes; says how long that took.
async fn carry(pace: &mut Pace, flowing: Flowing, mut bytes: usize) -> Duration {
    let start = Instant::now();
    while bytes > 0 {
        let part = poll_fn(|cx| pace.poll_part(cx, flowing)).await.min(bytes);
        pace.spend(flowing, part);
        bytes -= part;
    }
    // The last part takes its time, too.
    poll_fn(|cx| pace.poll_part(cx, flowing)).await;
    start.elapsed()
}

fn about(took: Duration, seconds: f64) -> bool {
    (took.as_secs_f64() - seconds).abs() <= seconds / 10.0 + BURST.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_connection_keeps_the_rate_in_each_direction() {
    let mut pace = Pace::of(vec![limit(1_000_000)]);
    let took = carry(&mut pace, Flowing::Out, 5_000_000).await;
    assert!(about(took, 5.0), "{took:?}");
    // The other direction has not waited for it.
    let took = carry(&mut pace, Flowing::In, 1_000_000).await;
    assert!(about(took, 1.0), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_share_a_limit_and_get_the_same() {
    let shared = limit(1_000_000);
    let carried = (0..50).map(|_| {
        let mut pace = Pace::of(vec![shared.clone()]);
        tokio::spawn(async move { carry(&mut pace, Flowing::In, 200_000).await })
    });
    for task in carried.collect::<Vec<_>>() {
        let took = task.await.unwrap();
        // The first of them has the time that nobody used before.
        assert!(took > Duration::from_secs(6), "{took:?}");
        assert!(took < Duration::from_secs(11), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_short_connections_are_not_faster_than_the_limit() {
    let shared = limit(1_000_000);
    let start = Instant::now();
    for _ in 0..1_000 {
        let mut pace = Pace::of(vec![shared.clone()]);
        poll_fn(|cx| pace.poll_part(cx, Flowing::Out)).await;
        pace.spend(Flowing::Out, 4_000);
    }
    assert!(about(start.elapsed(), 4.0), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_lowest_of_several_limits_decides() {
    let mut pace = Pace::of(vec![limit(10_000_000), limit(0), limit(500_000)]);
    let took = carry(&mut pace, Flowing::Out, 1_000_000).await;
    assert!(about(took, 2.0), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_does_not_slow_others_down() {
    let (service, slow) = (limit(10_000_000), limit(100_000));
    let mut waits = Pace::of(vec![service.clone(), slow]);
    let waiting = tokio::spawn(async move { carry(&mut waits, Flowing::In, 1_000_000).await });
    let mut other = Pace::of(vec![service]);
    let took = carry(&mut other, Flowing::In, 10_000_000).await;
    assert!(took < Duration::from_millis(1_200), "{took:?}");
    assert!(about(waiting.await.unwrap(), 10.0));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits_and_a_limit_may_go() {
    let shared = limit(1_000);
    let mut pace = Pace::of(vec![shared.clone()]);
    pace.spend(Flowing::Out, 1_000_000);
    shared.set(None);
    let part = poll_fn(|cx| pace.poll_part(cx, Flowing::Out)).await;
    assert_eq!(part, usize::MAX);
}

#[test]
fn callers_that_are_gone_are_forgotten() {
    let mut limits = ServiceLimits::default();
    let caller =
        |number: usize| SpiffeId::parse(&format!("spiffe://osaka.example/job-{number}")).unwrap();
    let kept: Vec<_> = (0..10).map(|number| limits.of(&caller(number))).collect();
    for number in 10..10_000 {
        limits.of(&caller(number));
    }
    assert!(
        limits.callers.len() <= 2 * FORGET,
        "{}",
        limits.callers.len()
    );
    assert!(Arc::ptr_eq(&limits.of(&caller(3)), &kept[3]));
}
