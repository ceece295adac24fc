//! `renkei federation join` and `root renew`: a site's keys and its chain of site roots.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::{
    Envelope, KeySet, MAX_ENVELOPE_BYTES, PublicKey, SigningKey, SiteRoot, Statement,
};
use renkei_runtime::files;
use renkei_server::federation::{SiteKeys, new_key, read_key, witness_key, write_key};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::args::{ImportRemoval, Join, NewKeys, Renew};
use crate::{
    arguments::{Output, SiteArgs},
    load::load_site,
    output, place, provider,
};

/// The site of a file, whether or not the files that it names are there yet.
pub(super) fn site_and_state(args: &SiteArgs) -> miette::Result<(renkei_site::Site, PathBuf)> {
    let site = load_site(&args.file)?;
    let state = place::state_folder(args.state.folder.as_deref(), &site.name);
    Ok((site, state))
}

pub(super) fn join(args: &Join, form: Output) -> miette::Result<ExitCode> {
    let (site, state) = site_and_state(&args.site)?;
    let name = &site.trust_domain;
    let (own, folder) = open_or_begin(&args.keys, &site, &state)?;
    let witness = witness_key(&state).into_diagnostic()?;
    let witness = witness.map_or("none".to_owned(), |key| key.to_string());
    let identity = own.genesis();
    if form == Output::Json {
        output::print_json(&json!({
            "trust_domain": name, "identity": identity, "witness_key": witness,
            "root_keys": folder, "root_version": own.head().version,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{name}\n  identity     {identity}\n  witness key  {witness}\n");
    match &folder {
        Some(folder) => text.push_str(&format!(
            "\nThe root keys and the recovery key are in {}: move them off this host, apart from \
             one another.\nTell the registrar the identity over a channel that both of you trust:\n\n  \
             renkei federation admit FEDERATION.yaml {name} {identity} --key registrar.pem\n",
            folder.display()
        )),
        None => text.push_str("\nIt had joined before; nothing was changed.\n"),
    }
    output::print(&text);
    Ok(ExitCode::SUCCESS)
}

/// The folder for root keys where the operator names none.
pub(super) fn root_keys_folder(state: &Path) -> PathBuf {
    state.join("federation").join("root-keys")
}

/// The site's keys, and the folder of its root keys if they were made just now.
pub(super) fn open_or_begin(
    keys: &NewKeys,
    site: &renkei_site::Site,
    state: &Path,
) -> miette::Result<(SiteKeys, Option<PathBuf>)> {
    let name = &site.trust_domain;
    // Two calls at once would make two identities.
    let _lock = SiteKeys::lock(state).into_diagnostic()?;
    let made = match SiteKeys::open(state, name).into_diagnostic()? {
        Some(_) => {
            let witness = new_key(&provider()).into_diagnostic()?;
            SiteKeys::keep_witness(state, &witness).into_diagnostic()?;
            None
        }
        None => Some(begin(keys, site, state)?),
    };
    let own = SiteKeys::open(state, name).into_diagnostic()?;
    let own = own.ok_or_else(|| miette!("the genesis is not in {}", state.display()))?;
    Ok((own, made))
}

fn begin(args: &NewKeys, site: &renkei_site::Site, state: &Path) -> miette::Result<PathBuf> {
    if args.threshold > args.count {
        return Err(miette!(
            "{} of {} root keys cannot be asked for",
            args.threshold,
            args.count
        ));
    }
    let (folder, make): (_, MakeKey) = match &args.root_keys {
        Some(folder) => (folder.clone(), make),
        None => (root_keys_folder(state), make_or_take),
    };
    let roots = make_roots(&folder, args.count.into(), make)?;
    let recovery = make(&folder.join("recovery.pem"))?;
    let (online, witness) = (new_key(&provider()), new_key(&provider()));
    let (online, witness) = (online.into_diagnostic()?, witness.into_diagnostic()?);
    let root = SiteRoot {
        trust_domain: site.trust_domain.clone(),
        version: 1,
        prev: None,
        root: KeySet {
            keys: public(&roots),
            threshold: args.threshold.into(),
        },
        online_keys: vec![online.public()],
        recovery_keys: vec![recovery.public()],
        expires: in_days(args.days),
    };
    let keys: Vec<&SigningKey> = roots.iter().collect();
    let genesis = Envelope::sign(Statement::SiteRoot(root), &keys).into_diagnostic()?;
    SiteKeys::begin(state, &genesis, &online, &witness).into_diagnostic()?;
    Ok(folder)
}

pub(super) fn renew(args: &Renew, form: Output) -> miette::Result<ExitCode> {
    let (site, state) = site_and_state(&args.site)?;
    let own = SiteKeys::open(&state, &site.trust_domain).into_diagnostic()?;
    let own = own.ok_or_else(|| {
        let file = args.site.file.display();
        miette!("this site has no root keys yet: renkei identity {file}")
    })?;
    let head = own.head();
    let folder = args.root_keys.clone();
    let folder = folder.unwrap_or_else(|| root_keys_folder(&state));
    let present = read_roots(&folder, &head.root)?;
    let new_roots = match &args.new_root_keys {
        Some(folder) => Some(make_roots(folder, head.root.keys.len(), make)?),
        None => None,
    };
    let online = match args.new_online_key {
        true => Some(new_key(&provider()).into_diagnostic()?),
        false => None,
    };
    let mut next = SiteRoot {
        version: head.version + 1,
        prev: own.roots().last().map(Envelope::digest),
        expires: in_days(args.days),
        ..head.clone()
    };
    if let Some(roots) = &new_roots {
        next.root.keys = public(roots);
    }
    if let Some(online) = &online {
        next.online_keys = vec![online.public()];
    }
    let keys: Vec<&SigningKey> = present.iter().chain(new_roots.iter().flatten()).collect();
    let envelope = Envelope::sign(Statement::SiteRoot(next.clone()), &keys).into_diagnostic()?;
    own.follow(&envelope, online.as_ref()).into_diagnostic()?;
    match form {
        Output::Json => output::print_json(&json!({
            "trust_domain": site.trust_domain, "root_version": next.version,
            "digest": envelope.digest(),
        }))?,
        Output::Text => output::print(&format!(
            "{}: version {} of the site root; the running site publishes it within a minute.\n",
            site.trust_domain, next.version
        )),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import_removal(args: &ImportRemoval, form: Output) -> miette::Result<ExitCode> {
    let site = load_site(&args.file)?;
    let state = place::state_folder(args.state.folder.as_deref(), &site.name);
    let name = || args.statement.display().to_string();
    let bytes = files::read(&args.statement, MAX_ENVELOPE_BYTES)
        .into_diagnostic()
        .wrap_err_with(name)?;
    let kept = renkei_server::federation::import_removal(&state, &bytes);
    let kept = kept.into_diagnostic().wrap_err_with(name)?;
    match form {
        Output::Json => output::print_json(&json!({"kept": kept}))?,
        Output::Text => output::print(&format!(
            "{} applies it within a minute; it is kept as {}.\n",
            site.trust_domain,
            kept.display()
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn in_days(days: u16) -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now) + Duration::days(days.into())
}

fn public(keys: &[SigningKey]) -> Vec<PublicKey> {
    keys.iter().map(SigningKey::public).collect()
}

fn make(path: &Path) -> miette::Result<SigningKey> {
    let key = new_key(&provider()).into_diagnostic()?;
    write_key(path, &key).into_diagnostic()?;
    Ok(key)
}

type MakeKey = fn(&Path) -> miette::Result<SigningKey>;

/// In the site's own folder, a key that is there already is of a call that was interrupted: no
/// identity has it yet.
fn make_or_take(path: &Path) -> miette::Result<SigningKey> {
    match files::exists(path) {
        true => read_key(path).into_diagnostic(),
        false => make(path),
    }
}

fn make_roots(folder: &Path, count: usize, make: MakeKey) -> miette::Result<Vec<SigningKey>> {
    let owned = folder.to_owned();
    let made = files::run(folder, move || {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(owned)
    });
    made.into_diagnostic()
        .wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    (1..=count)
        .map(|number| make(&folder.join(format!("root-{number}.pem"))))
        .collect()
}

/// As many of the present root keys as lie there; they must reach the threshold.
fn read_roots(folder: &Path, set: &KeySet) -> miette::Result<Vec<SigningKey>> {
    let mut keys = Vec::new();
    for number in 1..=16 {
        let path = folder.join(format!("root-{number}.pem"));
        if files::exists(&path) {
            let key = read_key(&path).into_diagnostic()?;
            keys.extend(Some(key).filter(|key| set.keys.contains(&key.public())));
        }
    }
    match keys.len() >= set.threshold {
        true => Ok(keys),
        false => Err(miette!(
            help = "they are files root-1.pem, root-2.pem, ...; name their folder with --root-keys",
            "{} holds {} of this site's present root keys; {} must sign",
            folder.display(),
            keys.len(),
            set.threshold
        )),
    }
}
