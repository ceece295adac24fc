//! What can keep a measurement from being taken.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A measurement that could not be taken.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// A program that has to be there.
    #[error("{program} is not there; `scripts/bench` installs and builds all that is needed")]
    Missing { program: String },
    /// A program of the cache; the text names the command that brings it.
    #[error("{0}")]
    NotInstalled(String),
    /// A program that cannot be started or looked at.
    #[error("{program}: {error}")]
    Program {
        program: String,
        #[source]
        error: io::Error,
    },
    /// A program that ended or said no.
    #[error("{what} failed:\n{said}")]
    Failed { what: String, said: String },
    /// Something that did not happen in time.
    #[error("{what} did not happen within {seconds} s:\n{said}")]
    Late {
        what: String,
        seconds: u64,
        said: String,
    },
    /// A file of ours.
    #[error("{path}: {error}")]
    File {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The load generator.
    #[error("load on {what}: {error}")]
    Load {
        what: String,
        #[source]
        error: io::Error,
    },
    /// The network between the namespaces.
    #[error(transparent)]
    Wan(#[from] renkei_wan::WanError),
    /// `--case` or `--systems` left nothing.
    #[error("--case and --systems leave nothing; docs/results has the names of cases and systems")]
    NoCase,
    /// A program's answer that is not what it should be.
    #[error("{program} answered what cannot be read: {error}")]
    Answer {
        program: String,
        #[source]
        error: serde_json::Error,
    },
}

impl BenchError {
    /// Whether a server said that it serves one client after the other.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains("server is busy"))
    }

    /// For `map_err` on a file's operations.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
