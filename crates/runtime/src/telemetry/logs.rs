//! Logs: lines for people or JSON for machines, to standard error.

use std::{
    io::{self, IsTerminal},
    str::FromStr,
};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt};

use super::{line_limit::LineLimit, panics, writer};

/// What is logged where nothing else is asked for.
const DEFAULT_FILTER: &str = "info";

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logs cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("`{filter}` is not a log filter: {reason}")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is not one of a format.
    #[error("`{0}` is not a log format; there are text and json")]
    Format(String),
    /// Logs are set up once in a process.
    #[error("logs are set up already")]
    AlreadySet,
    /// The thread that writes them.
    #[error("the thread that writes logs does not start: {0}")]
    Thread(#[from] io::Error),
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(name: &str) -> Result<Self, TelemetryError> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

/// Sends logs to standard error from here on, and panics too. No one who logs waits for standard
/// error, and one that cannot be written is not a failure. What is logged is said by `filter`, otherwise by
/// the environment variable `RUST_LOG`, otherwise it is `info` and above.
///
/// # Errors
/// When the filter cannot be parsed, logs are set up already, or there is no thread for them.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|f| !f.is_empty());
    let filter = filter
        .or(from_environment.as_deref())
        .unwrap_or(DEFAULT_FILTER);
    let coloured = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let limit = LineLimit::new(filter);
    let filter = parse(filter)?;
    let subscriber = subscriber(format, (filter, limit), coloured, writer::start()?);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)?;
    panics::log();
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}

fn subscriber<W>(
    format: LogFormat,
    (filter, limit): (EnvFilter, LineLimit),
    coloured: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // It would print to standard error, and panic where that cannot be written.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            let text = lines.with_ansi(coloured).with_target(false).finish();
            Box::new(text.with(limit))
        }
        LogFormat::Json => {
            // The span of a connection has all that is to be said of it.
            let json = lines.json().flatten_event(true).with_span_list(false);
            Box::new(json.finish().with(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, coloured: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let limit = LineLimit::new(filter);
        let filter = parse(filter).unwrap();
        let subscriber = subscriber(format, (filter, limit), coloured, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(peer = "osaka.example/collector\u{1b}[2J", "refused");
            tracing::debug!("detail");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_a_line_without_colour_off_a_terminal() {
        let text = logged(LogFormat::Text, "info", false);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO refused peer="), "{text}");
        assert!(
            !text.contains('\u{1b}'),
            "peers write no escapes into the log: {text:?}"
        );
        assert!(logged(LogFormat::Text, "info", true).contains('\u{1b}'));
    }

    #[test]
    fn json_is_an_object_a_line() {
        let text = logged(LogFormat::Json, "debug", false);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "refused");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["peer"], "osaka.example/collector\u{1b}[2J");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let error = init(LogFormat::Text, Some("renkei=loud")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`renkei=loud` is not a log filter"),
            "{error}"
        );
        assert!("yaml".parse::<LogFormat>().is_err());
    }
}
