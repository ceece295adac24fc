//! How much of a process is looked at.

use std::path::PathBuf;

/// What is asked about the executable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The path of the program is asked for.
    pub path: bool,
    /// The paths that can match; if there are none, any.
    pub paths: Vec<PathBuf>,
    /// The SHA-256 of the program is asked for.
    pub sha256: bool,
}

impl Asked {
    /// Every fact that can be asked for.
    pub const ALL: Self = Self {
        path: true,
        paths: Vec::new(),
        sha256: true,
    };
}
