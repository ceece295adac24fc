//! The budget of log lines: every line of level INFO or above is within it, so that no one who can
//! cause lines can fill the disk, whichever line it is.
//!
//! Lines of one kind come from one place in the code with the same values in their
//! [fields](KEYS). Of each kind some lines are written in ten seconds; the next line of the kind
//! is preceded by one that says how many were left out. Lines that are asked for are all written:
//! those of level DEBUG, and all of a target for which the filter asks for DEBUG. Panics have a
//! budget of their own, from which the last one of the process is exempt.

use std::{
    collections::HashMap,
    fmt::{self, Write},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tracing::{
    Event, Level, Subscriber, Value,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context};

use super::line_budget::{LINES, LineBudget};

/// Fields whose values are part of a line's kind.
const KEYS: [&str; 5] = ["callee", "direction", "id", "rule", "service"];
/// The same, if the value is a word of this program and no sentence (a `str`, not a `Display`).
const WORD: &str = "reason";
/// Kinds of one place in the code that are counted separately.
const KINDS: usize = 256;
/// Lines of all kinds of one place in the code, in the same time as [`LINES`] of each.
const LINES_OF_PLACE: u32 = 200;

/// Lines that were left out since the process began.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines of the log that were left out since the process began.
pub(super) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// Leaves out lines beyond the budget.
#[derive(Debug)]
pub(super) struct LineLimit {
    places: Mutex<HashMap<Identifier, Place>>,
    /// What the filter asks for; nothing if that is not known.
    filter: Targets,
}

/// One place in the code that logs.
#[derive(Debug, Default)]
struct Place {
    all: LineBudget,
    kinds: HashMap<u64, LineBudget>,
    /// Of kinds beyond those that are counted separately.
    others: LineBudget,
}

impl LineLimit {
    /// `filter` is the text that the log is filtered by.
    pub(super) fn new(filter: &str) -> Self {
        Self {
            places: Mutex::default(),
            // Filters by span are not understood; then nothing is asked for.
            filter: filter.parse().unwrap_or_default(),
        }
    }

    fn is_asked_for(&self, event: &Event<'_>) -> bool {
        let (metadata, own) = (event.metadata(), super::panics::TARGET);
        *metadata.level() > Level::INFO
            || metadata.target() == own
            || self.filter.would_enable(metadata.target(), &Level::DEBUG)
    }

    fn take(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        let mut kind = KindHash::default();
        event.record(&mut kind);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(event.metadata().callsite()).or_default();
        place.take(kind.0.finish(), now)
    }
}

impl Place {
    fn take(&mut self, kind: u64, now: Instant) -> Option<u64> {
        let room = self.all.has_room(now, LINES_OF_PLACE);
        let of_kind = self.kind(kind, now);
        if room && of_kind.has_room(now, LINES) {
            let left_out = of_kind.write();
            self.all.write();
            return Some(left_out);
        }
        of_kind.leave_out(1);
        None
    }

    fn kind(&mut self, kind: u64, now: Instant) -> &mut LineBudget {
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= KINDS {
            let (others, mut lost) = (&mut self.others, 0);
            self.kinds.retain(|_, budget| {
                let is_over = budget.is_over(now);
                lost += if is_over { budget.left_out() } else { 0 };
                !is_over
            });
            others.leave_out(lost);
        }
        match self.kinds.len() < KINDS || self.kinds.contains_key(&kind) {
            true => self.kinds.entry(kind).or_default(),
            false => &mut self.others,
        }
    }
}

impl<S: Subscriber> Layer<S> for LineLimit {
    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        if self.is_asked_for(event) {
            return true;
        }
        match self.take(event, Instant::now()) {
            None => {
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
                false
            }
            Some(0) => true,
            Some(left_out) => {
                tell(event, left_out, &context);
                true
            }
        }
    }
}

/// Logs, under the name of the event, how many of its kind were left out.
fn tell<S: Subscriber>(event: &Event<'_>, left_out: u64, context: &Context<'_, S>) {
    let fields = event.metadata().fields();
    let Some(message) = fields.field("message") else {
        return;
    };
    let mut kind = KindText::default();
    event.record(&mut kind);
    let text = format_args!("{left_out} lines like the next were left out{}", kind.0);
    let values: [(&Field, Option<&dyn Value>); 1] = [(&message, Some(&text))];
    context.event(&Event::new(event.metadata(), &fields.value_set(&values)));
}

fn is_key(field: &Field) -> bool {
    KEYS.contains(&field.name())
}

#[derive(Default)]
struct KindHash(DefaultHasher);

impl Write for KindHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Visit for KindHash {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_key(field) || field.name() == WORD {
            (field.name(), value).hash(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_key(field) {
            field.name().hash(&mut self.0);
            // Hashing cannot fail.
            let _ = write!(self, "{value:?}");
        }
    }
}

/// The fields of the kind as they are written in lines for people.
#[derive(Default)]
struct KindText(String);

impl Visit for KindText {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_key(field) || field.name() == WORD {
            // Writing to a string cannot fail.
            let _ = write!(self.0, ", {} {value:?}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_key(field) {
            let _ = write!(self.0, ", {} {value:?}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of a log with this filter.
    fn logged(filter: &str, act: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .with(LineLimit::new(filter));
        tracing::subscriber::with_default(subscriber, act);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn refused(service: &str, reason: &'static str, peer: usize) {
        tracing::warn!(service, reason, peer, "refused");
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_lines_of_another() {
        let lines = logged("info", || {
            for peer in 0..1_000 {
                refused("broker", "expired", peer);
            }
            refused("broker", "denied", 1);
            refused("web", "expired", 1);
        });
        assert_eq!(lines.len(), 22, "{lines:#?}");
        assert!(lines[20].contains("denied") && lines[21].contains("web"));
    }

    #[test]
    fn kinds_that_others_make_up_are_bounded_together() {
        let lines = logged("info", || {
            for n in 0..100_000 {
                refused(&format!("service {n}"), "expired", 1);
            }
        });
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn every_line_has_a_budget_and_those_that_are_asked_for_have_none() {
        let flood = || {
            for n in 0..100 {
                tracing::info!(n, "something happened");
                tracing::debug!(n, "a detail");
            }
        };
        assert_eq!(logged("info", flood).len(), 20);
        assert_eq!(logged("debug", flood).len(), 200);
        let own = format!("warn,{}=debug", module_path!());
        assert_eq!(logged(&own, flood).len(), 200);
        let other = "info,another=debug";
        assert_eq!(logged(other, flood).len(), 20);
    }

    #[test]
    fn the_next_line_says_how_many_were_left_out() {
        let mut place = Place::default();
        let start = Instant::now();
        let written = (0..100).filter(|_| place.take(7, start).is_some()).count();
        assert_eq!(written, 20);
        let later = start + Duration::from_secs(11);
        assert_eq!(place.take(7, later), Some(80));
        assert_eq!(place.take(7, later), Some(0));
    }

    /// Says of every event that 80 were left out before it.
    struct Telling;

    impl<S: Subscriber> Layer<S> for Telling {
        fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
            tell(event, 80, &context);
            true
        }
    }

    #[test]
    fn what_was_left_out_is_a_line_of_its_own_that_names_the_kind() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .with(Telling);
        tracing::subscriber::with_default(subscriber, || refused("broker", "expired", 1));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let report = "80 lines like the next were left out, service \"broker\", reason \"expired\"";
        let first = text.lines().next().unwrap();
        assert!(first.contains("WARN") && first.ends_with(report), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
