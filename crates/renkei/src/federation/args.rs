//! `renkei federation`: what can be said, and the help that teaches it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use renkei_federation::{Digest, PublicKey};
use renkei_site::Mirror;
use renkei_spiffe::TrustDomain;

use crate::arguments::{SiteArgs, StateArg};

const FOUND: &str = "\
A federation of four, from nothing:
  each site:      renkei federation join site.yaml
                      makes its keys; prints its identity and its witness key
  one of them:    renkei federation init intercloud.yaml --name intercloud \\
                      --origin federation.example/intercloud \\
                      --mirror https://federation.example/intercloud/ \\
                      --witness osaka.example=KEY --witness kyushu.example=KEY ...
                      makes the federation file, which every site is handed, and two keys
  the registry:   renkei registry intercloud.yaml --key log.pem --folder log --listen 0.0.0.0:8480
  the registrar:  renkei federation admit intercloud.yaml osaka.example IDENTITY --key registrar.pem
  each site:      federation: intercloud.yaml     (a line of site.yaml)
                  renkei up site.yaml

One more site costs one `admit`, and the others nothing. It reaches nothing until they allow it.";

#[derive(Debug, Subcommand)]
#[command(after_help = FOUND)]
pub(crate) enum Federation {
    /// Make a federation file, and the keys of its registry and its registrar.
    Init(Init),
    /// Make a site's keys and its identity; or show them again.
    Join(Join),
    /// A site's root keys.
    #[command(subcommand)]
    Root(Root),
    /// Registrar: make a site a member.
    Admit(Admit),
    /// Registrar: take a member out for now.
    Suspend(TakeOut),
    /// Registrar: take a member out.
    Remove(TakeOut),
    /// Say that this site knows who holds a newcomer's identity. It informs people and decides
    /// nothing.
    Endorse(Endorse),
    /// End a site's membership for ever, by its root or recovery keys.
    Withdraw(Withdraw),
    /// Hand signed statements in at the registry.
    Submit(Submit),
    /// Import a withdrawal, suspension or removal that reached this site beside the log, for example
    /// because the registry hides it.
    ImportRemoval(ImportRemoval),
    /// Show the federation as the running site sees it: who counts, and why the others do not.
    Status(SiteArgs),
    /// Replay a log without a running site, from a mirror, a registry or a stick.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The federation file to write.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// The federation's name, for people.
    #[arg(long)]
    pub(crate) name: String,
    /// The log's name: the registry's address without a scheme.
    #[arg(long, value_name = "HOST/PATH")]
    pub(crate) origin: String,
    /// Where the log is read: the registry's URL first, then copies of it (URL or folder).
    #[arg(long, value_name = "URL|FOLDER", required = true, value_parser = Mirror::parse)]
    pub(crate) mirror: Vec<Mirror>,
    /// A witness, as `renkei federation join` prints it. Neither the registry's nor the
    /// registrar's.
    #[arg(long, value_name = "TRUST-DOMAIN=KEY", required = true, value_parser = witness)]
    pub(crate) witness: Vec<(TrustDomain, PublicKey)>,
    /// How many witnesses must agree. Default: the smallest number that is safe while fewer than
    /// a third of them lie; 3 of 4.
    #[arg(long)]
    pub(crate) quorum: Option<usize>,
    /// Where the keys log.pem and registrar.pem are written (mode 0600).
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(crate) keys: PathBuf,
}

fn witness(text: &str) -> Result<(TrustDomain, PublicKey), String> {
    let (name, key) = text.split_once('=').ok_or("expected TRUST-DOMAIN=KEY")?;
    let name = TrustDomain::parse(name).map_err(|error| format!("{name:?}: {error}"))?;
    let key = PublicKey::parse(key).map_err(|error| error.to_string())?;
    Ok((name, key))
}

#[derive(Debug, Args)]
#[command(after_help = "\
The root keys and the recovery key are for keeping offline, apart from one another: move them off \
this host. The root keys make the next version of the site root once a year (`renkei federation \
root renew`); the recovery key ends the membership if all else is lost (`renkei federation \
withdraw`). What stays in the state folder is the online key, which signs the daily statement, and \
the witness key.")]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// Where the root keys and the recovery key are written (mode 0600). Default: SITE-root in
    /// the current folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root_keys: Option<PathBuf>,
    /// How many root keys.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) count: u8,
    /// How many of them must sign the next version.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) threshold: u8,
    /// How long the site root counts.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) days: u16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    /// Make the next version of the site root: a later end, a new online key, or new root keys.
    /// The running site hands it in.
    Renew(Renew),
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// The folder with the present root keys (root-*.pem).
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root_keys: PathBuf,
    /// Make new root keys in this folder, as many as there are; they take over.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) new_root_keys: Option<PathBuf>,
    /// Make a new online key; what the old one signs does not count any more.
    #[arg(long)]
    pub(crate) new_online_key: bool,
    /// How long the site root counts.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) days: u16,
}

/// What every statement that is made by hand needs.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// Whom it is about.
    pub(crate) trust_domain: TrustDomain,
}

/// The registrar's keys, and where the statement goes.
#[derive(Debug, Args)]
pub(crate) struct Registrar {
    /// The registrar's key; as many as the federation file's threshold.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) key: Vec<PathBuf>,
    /// Write the statement to this file instead of handing it in: for a host without a network,
    /// and `renkei federation submit` elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Admit {
    #[command(flatten)]
    pub(crate) sign: Sign,
    /// The site's identity, as `renkei federation join` prints it there. Compare it over a
    /// channel that you trust: from now on the name belongs to it.
    #[arg(value_parser = Digest::parse)]
    pub(crate) identity: Digest,
    /// How long the admission counts.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    pub(crate) days: u16,
    #[command(flatten)]
    pub(crate) registrar: Registrar,
}

#[derive(Debug, Args)]
pub(crate) struct TakeOut {
    #[command(flatten)]
    pub(crate) sign: Sign,
    /// The site's identity; looked up in the log unless given.
    #[arg(value_parser = Digest::parse)]
    pub(crate) identity: Option<Digest>,
    #[command(flatten)]
    pub(crate) registrar: Registrar,
}

#[derive(Debug, Args)]
pub(crate) struct Endorse {
    /// The newcomer.
    pub(crate) trust_domain: TrustDomain,
    /// The newcomer's identity, as its operator has told you.
    #[arg(value_parser = Digest::parse)]
    pub(crate) identity: Digest,
    /// The site file.
    #[arg(long = "site", value_name = "SITE.yaml", default_value = "site.yaml")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    pub(crate) sign: Sign,
    /// The site's identity.
    #[arg(value_parser = Digest::parse)]
    pub(crate) identity: Digest,
    /// Why, for the others to read.
    #[arg(long)]
    pub(crate) reason: String,
    /// The recovery key, or as many root keys as their threshold.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) key: Vec<PathBuf>,
    /// Write the statement to this file instead of handing it in.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// Files with a signed statement each.
    #[arg(required = true)]
    pub(crate) statements: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
It acts within a minute, at this site alone, if it is signed by whom it has to be. A statement that \
would add trust is refused: such statements count through the log.")]
pub(crate) struct ImportRemoval {
    /// A file with the signed statement, as `--out` writes it.
    pub(crate) statement: PathBuf,
    /// The site file.
    #[arg(long = "site", value_name = "SITE.yaml", default_value = "site.yaml")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status 1 when a quorum of witnesses is missing or older than 24 h, or nothing verifies.")]
pub(crate) struct Verify {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// The mirror to replay; the first of the federation file unless given.
    #[arg(value_name = "URL|FOLDER", value_parser = Mirror::parse)]
    pub(crate) from: Option<Mirror>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What it serves are files: /checkpoint, /pending and /tile/. A copy of the folder on any HTTP \
server, or on a stick, is a mirror; name it in the federation file. What it takes: POST \
/statements and POST /cosignatures. It is trusted with nothing: it can refuse service, and nothing \
else. Put it behind a web server for https.")]
pub(crate) struct Registry {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// The log's key, as `renkei federation init` has made it.
    #[arg(long, value_name = "FILE", default_value = "log.pem")]
    pub(crate) key: PathBuf,
    /// Where the log is kept.
    #[arg(long, value_name = "FOLDER", default_value = "log")]
    pub(crate) folder: PathBuf,
    /// The address to serve on.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8480")]
    pub(crate) listen: SocketAddr,
    /// How long a checkpoint waits for its witnesses before the next one is cut.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) interval: std::time::Duration,
    /// What is logged, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}
