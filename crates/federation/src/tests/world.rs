//! A federation in memory: a log, a registrar, four witnesses, and sites that say things.

use std::{collections::BTreeMap, sync::Arc};

use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::TestAuthority;
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{
    Admission, AdmissionStatus, BundleStatement, Digest, Envelope, Federation, KeySet, Local,
    Member, Reason, SignedCheckpoint, SigningKey, SiteRoot, Statement, UpdateError, View,
    Withdrawal, Witnesses, log::Tree, members,
};

pub(super) const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
pub(super) const WITNESSES: [&str; 4] = [
    "osaka.example",
    "kyushu.example",
    "hokkaido.example",
    "tokyo.example",
];

pub(super) fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(super) struct World {
    pub(super) federation: Arc<Federation>,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) now: OffsetDateTime,
}

impl World {
    pub(super) fn new() -> Self {
        let witness = |(seed, name): (u8, &&str)| (td(name), key(seed).public());
        let federation = Federation {
            origin: "federation.example/intercloud".to_owned(),
            log_key: key(1).public(),
            registrar: KeySet {
                keys: vec![key(2).public(), key(3).public()],
                threshold: 1,
            },
            witnesses: Witnesses {
                quorum: 3,
                keys: (10..).zip(&WITNESSES).map(witness).collect(),
            },
        };
        Self {
            federation: Arc::new(federation),
            entries: Vec::new(),
            now: NOW,
        }
    }

    /// A world in which these sites are admitted and have published.
    pub(super) fn with(sites: &[&Site]) -> Self {
        let mut world = Self::new();
        for site in sites {
            world.log(&site.genesis());
            world.log(&site.admission(AdmissionStatus::Admitted));
            world.log(&site.bundle(1));
        }
        world
    }

    pub(super) fn log(&mut self, envelope: &Envelope) {
        self.entries.push(envelope.to_bytes());
    }

    pub(super) fn view(&self) -> View {
        View::new(self.federation.clone())
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for entry in &self.entries {
            assert!(tree.append(entry));
        }
        tree
    }

    /// The checkpoint of all entries, cosigned now by the first `cosigners` witnesses.
    pub(super) fn checkpoint(&self, cosigners: usize) -> Vec<u8> {
        self.checkpoint_at(cosigners, self.now)
    }

    pub(super) fn checkpoint_at(&self, cosigners: usize, time: OffsetDateTime) -> Vec<u8> {
        let origin = &self.federation.origin;
        let mut checkpoint = SignedCheckpoint::sign(origin, self.tree().root(), &key(1));
        for (seed, name) in (10..).zip(WITNESSES).take(cosigners) {
            checkpoint.cosign(&td(name), &key(seed), time);
        }
        checkpoint.to_text().into_bytes()
    }

    /// What a site sees that reads this log with these notes.
    pub(super) fn read(
        &self,
        view: &View,
        checkpoint: Option<&[u8]>,
        pending: Option<&[u8]>,
    ) -> Result<View, UpdateError> {
        let mut extension = view.extend(checkpoint, pending, true, self.now)?;
        while let Some(index) = extension.wants() {
            match self.entries.get(index as usize) {
                Some(entry) => extension.push(entry)?,
                None => break,
            }
        }
        extension.finish()
    }

    /// The same, with all witnesses behind the newest checkpoint.
    pub(super) fn sync(&self, view: &View) -> Result<View, UpdateError> {
        self.read(view, Some(&self.checkpoint(4)), None)
    }

    pub(super) fn members(&self) -> BTreeMap<TrustDomain, Member> {
        let view = self.sync(&self.view()).unwrap();
        members(view.state(), &Local::default(), self.now)
    }

    /// Why a site does not count; `None` when it does.
    pub(super) fn reason(&self, name: &str) -> Option<Reason> {
        self.members()[&td(name)].standing.clone().err()
    }

    /// The sequence of the bundle that counts.
    pub(super) fn sequence(&self, name: &str) -> u64 {
        let standing = self.members()[&td(name)].standing.clone();
        standing
            .unwrap_or_else(|reason| panic!("{name}: {reason}"))
            .sequence
    }

    /// Why the newest entry does not count; `None` when it does.
    pub(super) fn refusal(&self) -> Option<String> {
        let view = self.sync(&self.view()).unwrap();
        let last = self.entries.len() as u64 - 1;
        let refused = view.state().refused();
        let refused = refused.filter(|refused| refused.index == last).last();
        refused.map(|refused| refused.reason.to_string())
    }
}

pub(super) struct Site {
    pub(super) name: &'static str,
    seed: u8,
    authority: TestAuthority,
}

impl Site {
    pub(super) fn new(name: &'static str, seed: u8) -> Self {
        Self {
            name,
            seed,
            authority: TestAuthority::new(name),
        }
    }

    /// Two root keys a version.
    pub(super) fn root_keys(&self, version: u8) -> [SigningKey; 2] {
        [
            key(self.seed + 20 * version),
            key(self.seed + 20 * version + 1),
        ]
    }

    pub(super) fn online(&self) -> SigningKey {
        key(self.seed + 10)
    }

    pub(super) fn recovery(&self) -> SigningKey {
        key(self.seed + 11)
    }

    pub(super) fn root(&self, version: u8, prev: Option<Digest>) -> SiteRoot {
        SiteRoot {
            trust_domain: td(self.name),
            version: version.into(),
            prev,
            root: KeySet {
                keys: self
                    .root_keys(version)
                    .iter()
                    .map(SigningKey::public)
                    .collect(),
                threshold: 2,
            },
            online_keys: vec![self.online().public()],
            recovery_keys: vec![self.recovery().public()],
            expires: NOW + Duration::days(365),
        }
    }

    pub(super) fn genesis(&self) -> Envelope {
        let keys = self.root_keys(1);
        sign(
            Statement::SiteRoot(self.root(1, None)),
            &[&keys[0], &keys[1]],
        )
    }

    /// Version 2, signed by these keys.
    pub(super) fn second(&self, root: SiteRoot, keys: &[&SigningKey]) -> Envelope {
        sign(Statement::SiteRoot(root), keys)
    }

    pub(super) fn identity(&self) -> Digest {
        self.genesis().digest()
    }

    pub(super) fn admission(&self, status: AdmissionStatus) -> Envelope {
        self.admission_at(status, NOW - Duration::hours(1))
    }

    pub(super) fn admission_at(&self, status: AdmissionStatus, issued: OffsetDateTime) -> Envelope {
        let admission = Admission {
            trust_domain: td(self.name),
            genesis: self.identity(),
            status,
            scope: vec![],
            issued,
            expires: NOW + Duration::days(365),
        };
        sign(Statement::Admission(admission), &[&key(2)])
    }

    pub(super) fn statement(&self, sequence: u64) -> BundleStatement {
        let bundle = Bundle {
            x509_authorities: vec![self.authority.certificate()],
            sequence: Some(sequence),
            ..Bundle::empty(td(self.name))
        };
        BundleStatement {
            trust_domain: td(self.name),
            genesis: self.identity(),
            root_version: 1,
            sequence,
            bundle: serde_json::from_str(&bundle.to_document()).unwrap(),
            bundle_endpoint: None,
            gateways: vec![format!("gw.{}:8443", self.name)],
            services: BTreeMap::from([("broker".to_owned(), "kafka".to_owned())]),
            issued: NOW - Duration::hours(1),
            expires: NOW + Duration::days(7),
        }
    }

    pub(super) fn bundle(&self, sequence: u64) -> Envelope {
        sign(
            Statement::Bundle(self.statement(sequence)),
            &[&self.online()],
        )
    }

    pub(super) fn withdrawal(&self, keys: &[&SigningKey]) -> Envelope {
        let withdrawal = Withdrawal {
            trust_domain: td(self.name),
            genesis: self.identity(),
            reason: "the machine room burnt".to_owned(),
        };
        sign(Statement::Withdrawal(withdrawal), keys)
    }
}

pub(super) fn sign(statement: Statement, keys: &[&SigningKey]) -> Envelope {
    Envelope::sign(statement, keys).unwrap()
}
