//! The time that this process acts by.
//!
//! The system's clock can be wrong for a moment: a dead battery, a bad time server, a mistyped
//! date. A CA that is made or deleted by such a reading stays made or deleted. So what the clock
//! says is compared with what it must say: with the time that has passed by the system's boot
//! clock, which cannot be set, and with what was on record when the process started.
//!
//! ```text
//!            the clock says something else
//!  agreed ─────────────────────────────────────► in doubt: time continues as it was
//!    ▲  ▲    the clock is back                     │  │
//!    │  └──────────────────────────────────────────┘  │
//!    └─────────── it has said so for `CONFIRM` ───────┘
//! ```
//!
//! A jump that lasts is a correction, and is followed after [`CONFIRM`]. The first days after it
//! are *unsettled*: nothing is deleted for its age. After a restart of the system there is little to
//! compare with: a clock that is ahead is believed, and what ended lately is kept for the case that
//! it is wrong (docs/decisions/0016).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use rustix::time::{ClockId, clock_gettime};
use time::{Duration, OffsetDateTime};

/// Steps below this are a time server's usual work.
const TOLERANCE: Duration = Duration::seconds(10);
/// A time server may let the clock run faster or slower by a two-thousandth; twice that is allowed.
const DRIFT: i32 = 1_000;
/// A jump that has lasted for so long is a correction.
pub const CONFIRM: Duration = Duration::minutes(5);
/// A clock further ahead of the last record than this is doubted at the start.
const PLAUSIBLE: Duration = Duration::days(7);
/// A restart of the system takes less; a clock that is further ahead may be a wrong one.
const RESTART: Duration = Duration::HOUR;
/// How long nothing is deleted for its age after a jump was followed, and not all after a clock
/// that was ahead was believed.
const UNSETTLED: Duration = Duration::days(30);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of day, which can be set.
    pub wall: OffsetDateTime,
    /// Since the system started, sleep included; it cannot be set.
    pub boot: Duration,
}

/// What is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// A moment that was agreed on.
    pub moment: Moment,
    /// In which run of the system that was; empty when it is not known.
    pub boot_id: String,
    /// When a jump was followed last.
    pub followed: Option<OffsetDateTime>,
    /// When a clock was believed last that was ahead of the record before.
    pub believed: Option<OffsetDateTime>,
}

/// What a reading meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The clock began to disagree, by so much.
    Jumped(Duration),
    /// After a jump, the system's clock agrees with the process again.
    Back,
    /// The jump has lasted, and is followed.
    Followed(Duration),
}

/// A clock that says something else than it must.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    first: Moment,
    last: Moment,
}

/// Judges readings; they are passed in.
#[derive(Debug, Clone, Default)]
struct Judge {
    /// The last moment that was agreed on.
    agreed: Option<Moment>,
    /// That is only what was on record before the system was started again: the clock is taken at
    /// its word if it could be true.
    remembered: bool,
    doubt: Option<Doubt>,
    followed: Option<OffsetDateTime>,
    believed: Option<OffsetDateTime>,
}

fn agree(one: Moment, other: Moment) -> bool {
    let passed = other.boot - one.boot;
    let allowed = TOLERANCE + passed.abs() / DRIFT;
    (other.wall - at(one, other.boot)).abs() <= allowed
}

/// The time of day at a later moment, if the clock was not set meanwhile.
fn at(agreed: Moment, boot: Duration) -> OffsetDateTime {
    let passed = boot - agreed.boot;
    agreed.wall.checked_add(passed).unwrap_or(agreed.wall)
}

impl Judge {
    fn begin(&mut self, record: Option<&Record>, now: Moment, boot_id: &str) {
        let Some(record) = record else { return };
        let same = !boot_id.is_empty() && record.boot_id == boot_id;
        self.followed = record.followed;
        self.believed = record.believed;
        self.doubt = None;
        self.remembered = !(same && record.moment.boot <= now.boot);
        self.agreed = Some(match self.remembered {
            false => record.moment,
            true => Moment {
                wall: record.moment.wall,
                boot: now.boot,
            },
        });
    }

    /// The time to act by, and what became known.
    fn read(&mut self, now: Moment) -> (OffsetDateTime, Option<Event>) {
        let Some(agreed) = self.agreed else {
            self.agreed = Some(now);
            return (now.wall, None);
        };
        let expected = at(agreed, now.boot);
        let ahead = now.wall - expected;
        let could_be = self.remembered && ahead > Duration::ZERO && ahead <= PLAUSIBLE;
        if could_be || agree(agreed, now) {
            if self.remembered && ahead > RESTART {
                self.believed = Some(now.wall);
            }
            self.agreed = Some(now);
            self.remembered = false;
            return (now.wall, self.doubt.take().map(|_| Event::Back));
        }
        match self.doubt {
            Some(doubt) if agree(doubt.last, now) => {
                if now.boot - doubt.first.boot < CONFIRM {
                    self.doubt = Some(Doubt { last: now, ..doubt });
                    return (expected, None);
                }
                *self = Self {
                    agreed: Some(now),
                    followed: Some(now.wall),
                    ..Self::default()
                };
                (now.wall, Some(Event::Followed(ahead)))
            }
            _ => {
                self.doubt = Some(Doubt {
                    first: now,
                    last: now,
                });
                (expected, Some(Event::Jumped(ahead)))
            }
        }
    }

    /// What has ended by the returned time may be deleted: no CA that could still be valid.
    fn surely_ended(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let recent = |at: Option<OffsetDateTime>| at.is_some_and(|at| (now - at).abs() < UNSETTLED);
        if self.doubt.is_some() || recent(self.followed) {
            return None;
        }
        match recent(self.believed) {
            // It is wrong by no more than that, if it is.
            true => now.checked_sub(PLAUSIBLE),
            false => Some(now),
        }
    }
}

/// The clock of the process; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    judge: Mutex<Judge>,
    jumps: Counter,
    doubted: Gauge,
}

/// The clock of this process.
pub fn process() -> &'static Clock {
    static PROCESS: OnceLock<Clock> = OnceLock::new();
    PROCESS.get_or_init(Clock::default)
}

/// The time that this process acts by.
pub fn now() -> OffsetDateTime {
    process().now()
}

impl Clock {
    /// Registers `renkei_clock_jumps` and `renkei_clock_doubted`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "renkei_clock_jumps",
            "Times that the system's clock jumped",
            self.0.jumps.clone(),
        );
        registry.register(
            "renkei_clock_doubted",
            "Whether the system's clock is not followed at the moment: 1 or 0",
            self.0.doubted.clone(),
        );
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.0.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares with what was kept by [`Clock::record`].
    pub fn begin(&self, record: Option<&Record>) {
        let (now, boot_id) = (moment(), boot_id());
        self.judge().begin(record, now, &boot_id);
        let time = self.now();
        tracing::debug!(%time, "the clock is judged by what is on record");
    }

    /// The time to act by.
    pub fn now(&self) -> OffsetDateTime {
        let reading = moment();
        let mut judge = self.judge();
        let (now, event) = judge.read(reading);
        self.0.doubted.set(judge.doubt.is_some().into());
        drop(judge);
        let says = reading.wall;
        match event {
            None => {}
            Some(Event::Jumped(by)) => {
                self.0.jumps.inc();
                tracing::error!(seconds = by.whole_seconds(), %says, followed = %now, minutes = CONFIRM.whole_minutes(), "the system's clock jumped and is not followed, unless it stays so");
            }
            Some(Event::Back) => tracing::info!(%now, "the system's clock is right again"),
            Some(Event::Followed(by)) => {
                tracing::warn!(seconds = by.whole_seconds(), %now, "the system's clock stays where it jumped to, and is followed");
            }
        }
        now
    }

    /// What has ended by the returned time may be deleted. Nothing while the clock is in doubt, nor
    /// for a month after a jump was followed.
    pub fn surely_ended(&self) -> Option<OffsetDateTime> {
        let now = self.now();
        self.judge().surely_ended(now)
    }

    /// What is to be kept over a restart.
    pub fn record(&self) -> Record {
        let now = self.now();
        let judge = self.judge();
        let moment = judge.agreed.unwrap_or_else(|| Moment {
            wall: now,
            ..moment()
        });
        Record {
            moment,
            boot_id: boot_id(),
            followed: judge.followed,
            believed: judge.believed,
        }
    }
}

fn moment() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    let moment = Moment {
        wall: OffsetDateTime::now_utc(),
        boot: Duration::new(boot.tv_sec, i32::try_from(boot.tv_nsec).unwrap_or_default()),
    };
    #[cfg(feature = "test-clock")]
    let moment = passing::later(moment);
    moment
}

/// Time that passes when a test says so. It is the same for the whole process.
#[cfg(feature = "test-clock")]
pub mod passing {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::{Duration, Moment};

    /// How far the time has come, in milliseconds.
    static PASSED: AtomicI64 = AtomicI64::new(0);

    /// From now on both clocks are so much further; less than a millisecond is left out.
    pub fn pass(by: std::time::Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        PASSED.fetch_add(by, Ordering::SeqCst);
    }

    pub(super) fn later(moment: Moment) -> Moment {
        let passed = Duration::milliseconds(PASSED.load(Ordering::SeqCst));
        Moment {
            wall: moment.wall + passed,
            boot: moment.boot + passed,
        }
    }
}

/// A random number of the system's, new with every start of it.
fn boot_id() -> String {
    // A file of the kernel, which always answers.
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "the kernel answers at once")
    )]
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-30 12:00 UTC);
    const UP: Duration = Duration::days(40);
    const DAY: Duration = Duration::days(1);
    const SECOND: Duration = Duration::SECOND;

    /// So long after the start, with a clock that is wrong by `off`.
    fn moment(after: Duration, off: Duration) -> Moment {
        Moment {
            wall: START + after + off,
            boot: UP + after,
        }
    }

    fn right(after: Duration) -> Moment {
        moment(after, Duration::ZERO)
    }

    fn running() -> Judge {
        let mut judge = Judge::default();
        assert_eq!(judge.read(right(Duration::ZERO)), (START, None));
        judge
    }

    fn record(boot_id: &str) -> Record {
        Record {
            moment: right(Duration::ZERO),
            boot_id: boot_id.to_owned(),
            followed: None,
            believed: None,
        }
    }

    #[test]
    fn a_jump_of_twelve_seconds_changes_nothing() {
        for by in [2 * DAY, -2 * DAY, 4_000 * DAY] {
            let mut judge = running();
            let first = judge.read(moment(SECOND, by));
            assert_eq!(first, (START + SECOND, Some(Event::Jumped(by))));
            for second in 2..12 {
                let after = second * SECOND;
                assert_eq!(judge.read(moment(after, by)), (START + after, None));
                assert_eq!(judge.surely_ended(START + after), None);
            }
            let after = 12 * SECOND;
            assert_eq!(judge.read(right(after)), (START + after, Some(Event::Back)));
            assert_eq!(judge.surely_ended(START + after), Some(START + after));
        }
    }

    #[test]
    fn a_jump_that_lasts_is_followed_and_nothing_is_deleted_for_a_month() {
        let (mut judge, by) = (running(), 90 * DAY);
        let mut after = SECOND;
        while after < CONFIRM {
            let (now, _) = judge.read(moment(after, by));
            assert_eq!(now, START + after);
            after += 10 * SECOND;
        }
        after += SECOND;
        let (now, event) = judge.read(moment(after, by));
        assert_eq!(
            (now, event),
            (START + after + by, Some(Event::Followed(by)))
        );
        assert_eq!(judge.surely_ended(now + 29 * DAY), None);
        let later = now + 31 * DAY;
        assert_eq!(judge.surely_ended(later), Some(later));
        // The way back is a jump as well.
        let (back, event) = judge.read(right(after + SECOND));
        assert_eq!(back, now + SECOND);
        assert!(matches!(event, Some(Event::Jumped(_))), "{event:?}");
    }

    #[test]
    fn a_clock_that_wanders_is_not_followed() {
        let mut judge = running();
        for second in 1..2_000 {
            let off = DAY * (1 + second % 7);
            let (now, _) = judge.read(moment(second * SECOND, off));
            assert_eq!(now, START + second * SECOND);
        }
    }

    #[test]
    fn a_time_servers_work_and_a_machine_that_slept_are_no_jumps() {
        let mut judge = running();
        let mut off = Duration::ZERO;
        for minute in 1..1_000 {
            off += Duration::milliseconds(30);
            let (_, event) = judge.read(moment(minute * Duration::MINUTE, off));
            assert_eq!(event, None);
        }
        assert_eq!(judge.read(moment(30 * DAY, off)).1, None);
        assert_eq!(
            judge.read(moment(30 * DAY + SECOND, off + 5 * SECOND)).1,
            None
        );
    }

    #[test]
    fn a_restart_in_the_same_run_of_the_system_knows_the_time_exactly() {
        for by in [4_000 * DAY, DAY, -DAY] {
            let mut judge = Judge::default();
            let now = moment(Duration::HOUR, by);
            judge.begin(Some(&record("this")), now, "this");
            let (read, event) = judge.read(now);
            assert_eq!(
                (read, event),
                (START + Duration::HOUR, Some(Event::Jumped(by)))
            );
        }
        let mut judge = Judge::default();
        judge.begin(Some(&record("this")), right(90 * DAY), "this");
        assert_eq!(judge.read(right(90 * DAY)), (START + 90 * DAY, None));
    }

    #[test]
    fn after_a_restart_of_the_system_the_clock_must_be_plausible() {
        let after = |away: Duration| {
            let now = Moment {
                wall: START + away,
                boot: 30 * SECOND,
            };
            let mut judge = Judge::default();
            judge.begin(Some(&record("before")), now, "this");
            (judge.read(now), judge, now)
        };
        let ((now, event), ..) = after(2 * DAY);
        assert_eq!((now, event), (START + 2 * DAY, None));
        for away in [4_000 * DAY, -DAY] {
            let ((now, event), mut judge, read) = after(away);
            assert_eq!((now, event), (START, Some(Event::Jumped(away))));
            // A time server sets it right.
            let right = Moment {
                wall: START + DAY,
                boot: read.boot + SECOND,
            };
            assert_eq!(judge.read(right), (right.wall, Some(Event::Back)));
        }
    }

    /// A start of the system with this record; the clock is so far after it.
    fn restart(record: &Record, away: Duration) -> (Judge, Moment) {
        let now = Moment {
            wall: record.moment.wall + away,
            boot: 30 * SECOND,
        };
        let mut judge = Judge::default();
        judge.begin(Some(record), now, "another");
        judge.read(now);
        (judge, now)
    }

    #[test]
    fn what_is_valid_survives_a_restart_of_the_system_with_a_clock_that_is_ahead() {
        for (boot_id, away) in [("before", 2 * DAY), ("", 2 * DAY), ("before", 7 * DAY)] {
            let (judge, now) = restart(&record(boot_id), away);
            assert_eq!(judge.agreed, Some(now), "the clock is believed");
            // A CA that is valid ends after the record.
            let ended = judge.surely_ended(now.wall).unwrap();
            assert!(ended <= START, "{away}: {ended}");
            let later = now.wall + 31 * DAY;
            assert_eq!(judge.surely_ended(later), Some(later));

            // A process that starts later in that run of the system is as careful.
            let kept = Record {
                moment: now,
                boot_id: "another".to_owned(),
                followed: judge.followed,
                believed: judge.believed,
            };
            let mut next = Judge::default();
            next.begin(Some(&kept), now, "another");
            next.read(now);
            assert!(next.surely_ended(now.wall).unwrap() <= START);

            // The next start has the right clock, and acts by it after the documented time.
            let (mut judge, mut now) = restart(&kept, -away);
            assert_eq!(judge.surely_ended(now.wall + away), None);
            let end = now.boot + CONFIRM + 20 * SECOND;
            while now.boot < end {
                judge.read(now);
                now.boot += 10 * SECOND;
                now.wall += 10 * SECOND;
            }
            assert_eq!(judge.read(now), (now.wall, None));
            assert_eq!(judge.surely_ended(now.wall), None);
        }
    }

    #[test]
    fn a_usual_restart_of_the_system_changes_nothing() {
        let (judge, now) = restart(&record("before"), 10 * Duration::MINUTE);
        assert_eq!(judge.surely_ended(now.wall), Some(now.wall));
    }

    #[test]
    fn a_site_that_is_off_every_night_deletes_what_ended_a_week_ago() {
        let mut record = record("before");
        for _ in 0..100 {
            let (judge, now) = restart(&record, 12 * Duration::HOUR);
            assert_eq!(judge.surely_ended(now.wall), Some(now.wall - 7 * DAY));
            record = Record {
                moment: now,
                believed: judge.believed,
                ..record
            };
        }
    }

    #[test]
    fn a_site_that_was_off_for_months_comes_up_by_itself() {
        let mut now = Moment {
            wall: START + 100 * DAY,
            boot: 30 * SECOND,
        };
        let mut judge = Judge::default();
        judge.begin(Some(&record("before")), now, "this");
        let end = now.boot + CONFIRM + 20 * SECOND;
        while now.boot < end {
            judge.read(now);
            now.boot += 10 * SECOND;
            now.wall += 10 * SECOND;
        }
        assert_eq!(judge.read(now), (now.wall, None));
    }

    #[test]
    fn without_a_record_the_clock_is_taken_at_its_word() {
        let mut judge = Judge::default();
        judge.begin(None, right(SECOND), "this");
        assert_eq!(judge.read(right(SECOND)), (START + SECOND, None));
    }

    #[test]
    fn the_system_tells_both_clocks_and_its_run() {
        let clock = Clock::default();
        clock.begin(None);
        let record = clock.record();
        assert!((record.moment.wall - OffsetDateTime::now_utc()).abs() < Duration::MINUTE);
        assert_eq!(record.boot_id.len(), 36, "{record:?}");
        assert!(clock.surely_ended().is_some());
    }
}
