//! Commands that print what a site, or its Workload API, already has.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use renkei_spiffe::TrustDomain;

use crate::arguments::SiteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum Render {
    /// Rules for nftables that keep other users of this machine off the backends' ports.
    Nftables(RenderNftables),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Every user of a machine can connect to a port of its loopback addresses, past the mesh and its \
policy. The rules reset such connections, unless the user is Renkei's or one given with --user \
(the backend's own, if it connects to itself, or root).

Example:
  renkei render nftables site.yaml | nft -f -
  renkei render nftables site.yaml --node store --user renkei      rules for the machine of a node")]
pub(crate) struct RenderNftables {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// Name or number of a user who may connect; repeat it for others. Default: the owner of the
    /// state folder, whom `renkei up` runs as.
    #[arg(long, value_name = "USER")]
    pub(crate) user: Vec<String>,
    /// The node whose machine the rules are for; --user names a user of that machine then. Default:
    /// the machine of `renkei up`.
    #[arg(long, value_name = "NODE", requires = "user")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Svid {
    /// Fetch and show the X.509-SVIDs that a Workload API gives to this process.
    Show(SvidShow),
}

#[derive(Debug, Args)]
pub(crate) struct SvidShow {
    /// The Workload API, such as unix:///run/renkei/osaka/workload.sock; `renkei status` shows a
    /// site's.
    #[arg(long, value_name = "SOCKET", env = "SPIFFE_ENDPOINT_SOCKET")]
    pub(crate) socket: Option<String>,
    /// Write svid.pem, key.pem and bundle.pem (mode 0600) into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Show a trust bundle of this site: its own, or that of a peer. Works while the site runs
    /// and while it does not; the first call makes the site's CA.
    ///
    /// `--output json` prints the SPIFFE bundle document: give that file to the other site as
    /// `bootstrap`.
    Show(BundleShow),
}

#[derive(Debug, Args)]
pub(crate) struct BundleShow {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// A peer's trust domain, instead of the site's own.
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = TrustDomain::parse)]
    pub(crate) peer: Option<TrustDomain>,
}
