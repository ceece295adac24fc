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
                      makes two keys and the federation file; give that file to every site
  the registry:   renkei registry intercloud.yaml --key log.pem --folder log --listen 0.0.0.0:8480
  the registrar:  renkei federation admit intercloud.yaml osaka.example IDENTITY --key registrar.pem
  each site:      federation: intercloud.yaml     (a line of site.yaml)
                  renkei up site.yaml

One more site needs one `admit`; the others change nothing. It reaches nothing until they allow it.";

#[derive(Debug, Subcommand)]
#[command(after_help = FOUND)]
pub(crate) enum Federation {
    /// Make a federation file, and the keys of its registry and its registrar.
    Init(Init),
    /// Make a site's keys and its identity, or show them again.
    Join(Join),
    /// Renew a site's root: its root keys and its online key.
    #[command(subcommand)]
    Root(Root),
    /// Registrar: make a site a member.
    Admit(Admit),
    /// Registrar: suspend a member. `admit` ends the suspension.
    Suspend(TakeOut),
    /// Registrar: remove a member.
    Remove(TakeOut),
    /// State that this site knows the operator of a newcomer. It is information only: no decision
    /// uses it.
    Endorse(Endorse),
    /// End a site's membership permanently, with its root or recovery keys.
    Withdraw(Withdraw),
    /// Submit signed statements to the registry.
    Submit(Submit),
    /// Import a withdrawal, suspension or removal that did not come through the log, for
    /// example because the registry hides it.
    ImportRemoval(ImportRemoval),
    /// Show the federation as the running site sees it: the members, and why others are not members.
    Status(SiteArgs),
    /// Replay a log without a running site, from a mirror, a registry or a folder.
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
Move the root keys and the recovery key off this host. Keep them offline, and not in the same \
place. The root keys make the next version of the site root once a year (`renkei federation root \
renew`). The recovery key ends the membership if all other keys are lost (`renkei federation \
withdraw`). The online key, which signs the daily statement, and the witness key stay in the state \
folder.")]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) keys: NewKeys,
}

#[derive(Debug, Args)]
#[command(after_help = "\
At the first call it makes the site's root keys. Their first version is the identity, which stays \
the same for as long as the site exists. It is the same in a federation.

Move the root keys and the recovery key off this host, and not to the same place. The root keys make \
the next version of the site root once a year (`renkei federation root renew`). The recovery key \
ends the identity if all other keys are lost (`renkei federation withdraw`).

The two sites exchange their lines over a channel that both trust, in either order. A running site \
needs no restart.")]
pub(crate) struct Identity {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) keys: NewKeys,
}

/// The keys of a site that has none yet.
#[derive(Debug, Args)]
pub(crate) struct NewKeys {
    /// Where new root keys and the recovery key are written (mode 0600). Default:
    /// federation/root-keys in the state folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root_keys: Option<PathBuf>,
    /// Number of root keys.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) count: u8,
    /// How many of them must sign the next version.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) threshold: u8,
    /// How long the site root is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) days: u16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    /// Make the next version of the site root: a later end, a new online key, or new root keys.
    /// The running site publishes it.
    Renew(Renew),
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// The folder with the present root keys (root-*.pem). Default: federation/root-keys in the
    /// state folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root_keys: Option<PathBuf>,
    /// Make new root keys in this folder, as many as there are now. They replace the old ones.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) new_root_keys: Option<PathBuf>,
    /// Make a new online key. Statements of the old one are then no longer accepted.
    #[arg(long)]
    pub(crate) new_online_key: bool,
    /// How long the site root is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) days: u16,
}

/// What every statement that is made by hand needs.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// The trust domain that the statement is about.
    pub(crate) trust_domain: TrustDomain,
}

/// The registrar's keys, and where the statement goes.
#[derive(Debug, Args)]
pub(crate) struct Registrar {
    /// The registrar's key; as many as the federation file's threshold.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) key: Vec<PathBuf>,
    /// Write the statement to this file instead of submitting it: for a host without a network,
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
    /// How long the admission is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    pub(crate) days: u16,
    #[command(flatten)]
    pub(crate) registrar: Registrar,
}

#[derive(Debug, Args)]
pub(crate) struct TakeOut {
    #[command(flatten)]
    pub(crate) sign: Sign,
    /// The site's identity. Default: the one in the log.
    #[arg(value_parser = Digest::parse)]
    pub(crate) identity: Option<Digest>,
    #[command(flatten)]
    pub(crate) registrar: Registrar,
}

#[derive(Debug, Args)]
pub(crate) struct Endorse {
    /// The newcomer's trust domain.
    pub(crate) trust_domain: TrustDomain,
    /// The newcomer's identity, as you have it from its operator.
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
    /// The reason, for the operators of other sites.
    #[arg(long)]
    pub(crate) reason: String,
    /// The recovery key, or as many root keys as their threshold.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) key: Vec<PathBuf>,
    /// Write the statement to this file instead of submitting it. The federation file is then not
    /// read: a site that is in no federation writes `none`, and imports the statement
    /// (`renkei federation import-removal`).
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
It takes effect within a minute, at this site only, if the right keys have signed it. A statement \
that would add trust is refused: only the log can make it valid.")]
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
    /// The mirror to replay. Default: the first in the federation file.
    #[arg(value_name = "URL|FOLDER", value_parser = Mirror::parse)]
    pub(crate) from: Option<Mirror>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
It serves files: /checkpoint, /pending and /tile/. A copy of the folder, on any HTTP server or on a \
disk, is a mirror; name it in the federation file. It accepts POST /statements and POST \
/cosignatures. No site has to trust it: it can refuse service, and nothing more. Put it behind a web \
server for https.")]
pub(crate) struct Registry {
    /// The federation file.
    #[arg(value_name = "FEDERATION.yaml")]
    pub(crate) file: PathBuf,
    /// The log's key, which `renkei federation init` wrote.
    #[arg(long, value_name = "FILE", default_value = "log.pem")]
    pub(crate) key: PathBuf,
    /// The folder of the log.
    #[arg(long, value_name = "FOLDER", default_value = "log")]
    pub(crate) folder: PathBuf,
    /// The address to serve on.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8480")]
    pub(crate) listen: SocketAddr,
    /// Where /metrics, /livez and /readyz are served: a loopback address. Without it they are not.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// How long a checkpoint waits for its witnesses before the next one is cut.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = humantime::parse_duration)]
    pub(crate) interval: std::time::Duration,
    /// Log filter, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Registry;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        registry: Registry,
    }

    #[test]
    fn checkpoints_wait_long_enough_for_witnesses_by_default() {
        let command = Command::parse_from(["registry", "intercloud.yaml"]);
        let interval = time::Duration::try_from(command.registry.interval).unwrap();
        assert_eq!(interval, renkei_registry::CHECKPOINT_INTERVAL);
    }
}
