//! Panics as lines of the log. The hook of the standard library would write to standard error
//! itself, and so wait for its reader.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{line_budget::LineBudget, writer};

/// A panic of the main thread ends the process: its line has so long to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A panic that peers can cause again and again must not fill the disk.
static LINES: Mutex<Option<LineBudget>> = Mutex::new(None);

/// From here on panics are logged.
/// The target of the lines.
pub(super) const TARGET: &str = module_path!();

pub(super) fn log() {
    std::panic::set_hook(Box::new(hook));
}

fn hook(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let is_main = thread.name() == Some("main");
    let left_out = {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get_or_insert_default().take(Instant::now())
    };
    let Some(left_out) = left_out.or(is_main.then_some(0)) else {
        return;
    };
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread.name().unwrap_or("unnamed");
    // Only where RUST_BACKTRACE asks for it.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(
        message,
        place,
        thread,
        left_out,
        trace,
        "a part of the program panicked"
    );
    if is_main {
        writer::flush(LAST_WORDS);
    }
}
