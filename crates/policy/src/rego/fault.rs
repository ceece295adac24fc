//! Faults of a module's text.

use thiserror::Error;

use super::syntax::Place;

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
        let message = message.into();
        Self {
            line,
            column,
            message,
        }
    }

    pub(super) fn at(place: Place, message: impl Into<String>) -> Self {
        Self::new(place.line, place.column, message)
    }
}
