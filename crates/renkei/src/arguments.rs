//! Arguments that several commands have.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// The site file where none is named.
pub(crate) const SITE_FILE: &str = "site.yaml";

/// The site that a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct SiteArgs {
    /// The site file.
    #[arg(value_name = "SITE.yaml", default_value = SITE_FILE)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

/// Where a site keeps its state.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateArg {
    /// State folder: keys, database, sockets. Default: $STATE_DIRECTORY under systemd,
    /// /var/lib/renkei/SITE for root, else $XDG_STATE_HOME/renkei/SITE.
    #[arg(long = "state", value_name = "FOLDER", env = "RENKEI_STATE")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// `--admin`: an address or `none`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AdminArg {
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for AdminArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_| "expected IP:PORT, such as 127.0.0.1:9901, or none".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}
