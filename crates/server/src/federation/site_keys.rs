//! This site's own part in a federation: its chain of site roots, its online and witness keys, and
//! what it has said. Root keys are not here: they are kept offline.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use renkei_federation::{
    BundleStatement, Digest, Envelope, SigningKey, SiteRoot, Statement, TrustDomain,
};
use renkei_runtime::{files, state_folder::StateFolder};

use super::{
    key_file::{read_key, write_key},
    site_folder::{FOLDER, OwnError, place, put, read},
    witness::Witness,
};

const BUNDLE: &str = "bundle.json";
const MADE: &str = "made";
/// The digests of the last statements made here, to recognise them in the log.
const MADE_KEPT: usize = 1_000;

/// A site that has made its keys.
pub struct SiteKeys {
    folder: PathBuf,
    roots: Vec<Envelope>,
    head: SiteRoot,
}

impl SiteKeys {
    /// What `join` has made, if it has.
    pub fn open(state: &Path, trust_domain: &TrustDomain) -> Result<Option<Self>, OwnError> {
        let folder = place(state);
        let mut roots: Vec<Envelope> = Vec::new();
        let mut head = None;
        for version in 1_u64.. {
            let path = folder.join(root_name(version));
            let Some(envelope) = read_envelope(&path)? else {
                break;
            };
            let follows = roots.last().map(Envelope::digest);
            match envelope.statement() {
                Statement::SiteRoot(root)
                    if root.trust_domain == *trust_domain
                        && root.version == version
                        && root.prev == follows =>
                {
                    head = Some(root.clone());
                }
                _ => {
                    let trust_domain = trust_domain.clone();
                    return Err(OwnError::Foreign { path, trust_domain });
                }
            }
            roots.push(envelope);
        }
        let Some(head) = head else { return Ok(None) };
        Ok(Some(Self {
            folder,
            roots,
            head,
        }))
    }

    /// Keeps other calls from making keys, for as long as the file is open.
    pub fn lock(state: &Path) -> Result<File, OwnError> {
        let path = StateFolder::open(state)?.subfolder(FOLDER)?.join("lock");
        let owned = path.clone();
        let locked = files::run(&path, move || {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            let file = files::open_with(&mut options, &owned)?;
            file.lock()?;
            Ok(file)
        });
        locked.map_err(|source| OwnError::File { path, source })
    }

    /// Keeps a new site's genesis and keys. The genesis comes last: until it is there, nothing is.
    pub fn begin(
        state: &Path,
        genesis: &Envelope,
        online: &SigningKey,
        witness: &SigningKey,
    ) -> Result<(), OwnError> {
        let trust_domain = genesis.statement().trust_domain();
        if let Some(own) = Self::open(state, trust_domain)? {
            return Err(OwnError::Joined {
                trust_domain: trust_domain.clone(),
                genesis: own.genesis(),
            });
        }
        let folder = StateFolder::open(state)?.subfolder(FOLDER)?;
        write_key(&folder.join(online_name(&online.public())), online)?;
        Self::keep_witness(state, witness)?;
        put(&folder.join(root_name(1)), &genesis.to_bytes())
    }

    /// Keeps a witness key, unless there is one.
    pub fn keep_witness(state: &Path, key: &SigningKey) -> Result<(), OwnError> {
        let folder = place(state);
        match Witness::exists(&folder) {
            true => Ok(()),
            false => Witness::begin(&folder, key),
        }
    }

    /// Keeps the next version of the site root, and the online key if that is new.
    pub fn follow(&self, next: &Envelope, online: Option<&SigningKey>) -> Result<(), OwnError> {
        if let Some(online) = online {
            write_key(&self.folder.join(online_name(&online.public())), online)?;
        }
        put(
            &self.folder.join(root_name(self.head.version + 1)),
            &next.to_bytes(),
        )
    }

    /// The identity of this site in every federation: the digest of its first site root.
    pub fn genesis(&self) -> Digest {
        let first = self.roots.first().map(Envelope::digest);
        first.unwrap_or_else(|| Digest::of(b""))
    }

    /// Every version of the site root, the genesis first.
    pub fn roots(&self) -> &[Envelope] {
        &self.roots
    }

    /// The site root in force, the last of the chain.
    pub fn head(&self) -> &SiteRoot {
        &self.head
    }

    /// Signs with the online key. A site that has lost it still has its chain, and can name
    /// another key there.
    pub fn sign(&self, statement: Statement) -> Result<Envelope, OwnError> {
        let keys = self.head.online_keys.iter();
        let mut keys = keys.map(|key| self.folder.join(online_name(key)));
        let missing = || self.folder.join("online-*.pem");
        let key = keys
            .find(|path| files::exists(path))
            .unwrap_or_else(missing);
        Ok(Envelope::sign(statement, &[&read_key(&key)?])?)
    }

    /// The last bundle statement made here.
    pub(super) fn last(&self) -> Result<Option<(Envelope, BundleStatement)>, OwnError> {
        let envelope = read_envelope(&self.folder.join(BUNDLE))?;
        Ok(envelope.and_then(|envelope| match envelope.statement() {
            Statement::Bundle(bundle) => {
                let bundle = bundle.clone();
                Some((envelope, bundle))
            }
            _ => None,
        }))
    }

    /// Signs a bundle statement and remembers it before anybody else sees it.
    pub(super) fn say(&self, statement: BundleStatement) -> Result<Envelope, OwnError> {
        let envelope = self.sign(Statement::Bundle(statement))?;
        let mut made = self.made()?;
        made.push(envelope.digest());
        let recent = made.len().saturating_sub(MADE_KEPT);
        let lines = made.iter().skip(recent).map(|digest| format!("{digest}\n"));
        put(
            &self.folder.join(MADE),
            lines.collect::<String>().as_bytes(),
        )?;
        put(&self.folder.join(BUNDLE), &envelope.to_bytes())?;
        Ok(envelope)
    }

    /// The digests of the statements made here.
    pub(super) fn made(&self) -> Result<Vec<Digest>, OwnError> {
        let text = read(&self.folder.join(MADE))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(text
            .lines()
            .filter_map(|line| Digest::parse(line).ok())
            .collect())
    }
}

fn root_name(version: u64) -> String {
    format!("root-{version}.json")
}

/// Named after the key, so that a new one is written before anything depends on it.
fn online_name(key: &renkei_federation::PublicKey) -> String {
    format!("online-{}.pem", Digest::of(key.as_bytes()).short())
}

fn read_envelope(path: &Path) -> Result<Option<Envelope>, OwnError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let read = Envelope::parse(&bytes);
    read.map(Some).map_err(|source| OwnError::Damaged {
        path: path.to_owned(),
        source,
    })
}
