//! How many certificates a node may ask for: to sign is the dearest thing that the API does, and
//! one message can ask for hundreds.

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota};
use renkei_spiffe::SpiffeId;
use tonic::Status;

/// Certificates a second of one node, and at once: when it starts, it asks for all that it has.
const A_SECOND: u32 = 500;
const AT_ONCE: u32 = 10_000;

pub(super) type Limiter = DefaultKeyedRateLimiter<SpiffeId>;

pub(super) fn limiter() -> Limiter {
    let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(count(A_SECOND)).allow_burst(count(AT_ONCE));
    DefaultKeyedRateLimiter::keyed(quota)
}

/// Counts so many requests of a node, all or none of them.
pub(super) fn charge(limiter: &Limiter, node: &SpiffeId, requests: usize) -> Result<(), Status> {
    let requests = u32::try_from(requests).unwrap_or(u32::MAX);
    let Some(requests) = NonZeroU32::new(requests) else {
        return Ok(());
    };
    match limiter.check_key_n(node, requests) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Status::resource_exhausted(format!(
            "{} asks for too many certificates; try again later",
            node.short()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_asks_without_end_is_slowed_down_and_others_are_not() {
        let node = |name: &str| {
            SpiffeId::parse(&format!("spiffe://osaka.example/renkei/node/{name}")).unwrap()
        };
        let limiter = limiter();
        let ask = |name| charge(&limiter, &node(name), 500);
        let granted = (0..1_000).take_while(|_| ask("greedy").is_ok()).count();
        assert!((20..1_000).contains(&granted), "{granted}");
        assert!(ask("other").is_ok());
    }
}
