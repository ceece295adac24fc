//! Faults of a module's text.

use regorus::languages::rego::compiler::SpannedCompilerError;
use thiserror::Error;

/// Why a text is not a module that can decide.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {message}")]
pub struct RegoError {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong there.
    pub message: String,
}

impl RegoError {
    pub(super) fn new(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self {
            line: line.max(1),
            column: column.max(1),
            message: message.into(),
        }
    }

    /// The parser gives its faults as text: an arrow with the place, the line, then the message.
    pub(super) fn from_parser(error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let message = match text.rsplit_once("error: ") {
            Some((_, message)) => message,
            None => text.as_str(),
        };
        let (line, column) = place(&text).unwrap_or((1, 1));
        Self::new(line, column, message.trim())
    }

    pub(super) fn from_compiler(error: &SpannedCompilerError) -> Self {
        let (line, column) = error
            .span
            .as_ref()
            .map_or((1, 1), |span| (span.line, span.col));
        Self::new(line, column, error.error.to_string())
    }
}

fn place(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("--> ")?;
    let mut parts = rest.lines().next()?.rsplitn(3, ':');
    let column = parts.next()?.trim().parse().ok()?;
    let line = parts.next()?.trim().parse().ok()?;
    Some((line, column))
}
