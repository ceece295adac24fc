//! What callers were denied by their topic rights, and the requests of theirs that are not carried:
//! all of it is counted, and logged as often as people can read it. Clients repeat themselves many
//! times a second.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use renkei_kafka::Denial;
use renkei_spiffe::SpiffeId;

use crate::{context::Refusals, identity::Direction};

/// The same is logged once in this time.
const QUIET: Duration = Duration::from_secs(10);
/// Different ones of a caller that are logged in that time; it may make up names.
const MAX_LOGGED: usize = 16;
/// Callers that are remembered before the quiet ones are forgotten.
const MAX_CALLERS: usize = 1024;

/// What was logged in the last time, by caller and service.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<BTreeMap<(SpiffeId, String), HashMap<Denial, Instant>>>);

impl Denials {
    /// Counts a denial, and reports it if it is new.
    pub(crate) fn record(
        &self,
        direction: Direction,
        (caller, service): (&SpiffeId, &str),
        denial: Denial,
        refusals: &Refusals,
    ) {
        let (who, reason) = (caller.short(), denial.label);
        let sentence = format!("{who} may not {denial}");
        match self.is_news(caller, service, denial, Instant::now()) {
            true => refusals.record(direction, service, who, reason, sentence),
            false => refusals.count(direction, service, reason),
        }
    }

    fn is_news(&self, caller: &SpiffeId, service: &str, denial: Denial, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < QUIET;
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_CALLERS {
            callers.retain(|_, logged| logged.values().any(recent));
        }
        let logged = callers
            .entry((caller.clone(), service.to_owned()))
            .or_default();
        logged.retain(|_, at| recent(at));
        if logged.len() >= MAX_LOGGED || logged.contains_key(&denial) {
            return false;
        }
        logged.insert(denial, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_in_a_while_and_made_up_names_end() {
        let denials = Denials::default();
        let osaka = SpiffeId::parse("spiffe://osaka.example/collector").unwrap();
        let kyushu = SpiffeId::parse("spiffe://kyushu.example/collector").unwrap();
        let denial = |name: usize| Denial {
            operation: "consume topic",
            name: name.to_string(),
            label: "topic_denied",
        };
        let now = Instant::now();
        assert!(denials.is_news(&osaka, "broker", denial(0), now));
        assert!(!denials.is_news(&osaka, "broker", denial(0), now + QUIET / 2));
        assert!(denials.is_news(&kyushu, "broker", denial(0), now));
        assert!(denials.is_news(&osaka, "other", denial(0), now));
        assert!(denials.is_news(&osaka, "broker", denial(0), now + QUIET));
        let logged = (0..100).filter(|name| denials.is_news(&kyushu, "x", denial(*name), now));
        assert_eq!(logged.count(), MAX_LOGGED);
    }
}
