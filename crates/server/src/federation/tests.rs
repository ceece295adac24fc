//! The files of a site in a federation: its keys, its memory as a witness, and its copy of the log.

use std::{path::Path, sync::Arc};

use renkei_federation::{
    Envelope, Federation, KeySet, SignedCheckpoint, SigningKey, SiteRoot, Statement, TrustDomain,
    View, Witnesses, log::Tree,
};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    MirrorError, MirrorReader, OwnError, SiteKeys, log_cache::LogCache, new_key, witness::Witness,
    witness_key,
};
use crate::fixtures::{own as own_name, provider};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn root(online: &SigningKey) -> SiteRoot {
    SiteRoot {
        trust_domain: own_name(),
        version: 1,
        prev: None,
        root: KeySet {
            keys: vec![key(1).public()],
            threshold: 1,
        },
        online_keys: vec![online.public()],
        recovery_keys: vec![],
        expires: NOW + Duration::days(365),
    }
}

fn signed(root: SiteRoot) -> Envelope {
    Envelope::sign(Statement::SiteRoot(root), &[&key(1)]).unwrap()
}

#[test]
fn a_site_that_has_joined_comes_back_with_its_keys_and_follows_its_root() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    assert!(SiteKeys::open(state, &own_name()).unwrap().is_none());
    let genesis = signed(root(&key(2)));
    SiteKeys::begin(state, &genesis, &key(2), &key(3)).unwrap();
    let own = SiteKeys::open(state, &own_name()).unwrap().unwrap();
    assert_eq!(own.genesis(), genesis.digest());
    assert_eq!(witness_key(state).unwrap(), Some(key(3).public()));
    let again = SiteKeys::begin(state, &genesis, &key(2), &key(3));
    assert!(matches!(again, Err(OwnError::Joined { .. })));
    let next = SiteRoot {
        version: 2,
        prev: Some(genesis.digest()),
        ..root(&key(4))
    };
    own.follow(&signed(next), Some(&key(4))).unwrap();
    let own = SiteKeys::open(state, &own_name()).unwrap().unwrap();
    assert_eq!((own.genesis(), own.head().version), (genesis.digest(), 2));
    let said = own.sign(signed(root(&key(2))).statement().clone()).unwrap();
    assert_eq!(
        said.signers(&[key(4).public()]).len(),
        1,
        "by the new online key"
    );
    let other = TrustDomain::parse("tokyo.example").unwrap();
    assert!(matches!(
        SiteKeys::open(state, &other),
        Err(OwnError::Foreign { .. })
    ));
}

struct World {
    federation: Arc<Federation>,
    entries: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        Self {
            federation: Arc::new(Federation {
                origin: "federation.example/intercloud".to_owned(),
                log_key: key(9).public(),
                registrar: KeySet {
                    keys: vec![key(8).public()],
                    threshold: 1,
                },
                witnesses: Witnesses {
                    quorum: 1,
                    keys: [(own_name(), key(3).public())].into(),
                },
            }),
            entries: vec![b"one".to_vec(), b"two".to_vec()],
        }
    }

    /// As a registry would lay it out, cosigned by the only witness.
    fn write(&self, folder: &Path) {
        let mut tree = Tree::default();
        assert!(self.entries.iter().all(|entry| tree.append(entry)));
        for file in tree.take_files() {
            let path = folder.join(file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.bytes).unwrap();
        }
        let mut note = SignedCheckpoint::sign(&self.federation.origin, tree.root(), &key(9));
        note.cosign(&own_name(), &key(3), NOW);
        std::fs::write(folder.join("checkpoint"), note.to_text()).unwrap();
    }

    async fn read(&self, folder: &Path, view: &View) -> Result<View, MirrorError> {
        let source = MirrorReader::folder(folder);
        source
            .extend(view, true, NOW, None)
            .await
            .map(|(view, _)| view)
    }

    async fn view(&self) -> View {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        let nothing = View::new(self.federation.clone());
        self.read(folder.path(), &nothing).await.unwrap()
    }
}

#[tokio::test]
async fn a_witness_remembers_and_without_its_memory_it_does_not_sign() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path();
    Witness::begin(folder, &key(3)).unwrap();
    let witness = Witness::open(folder).unwrap().unwrap();
    let mut world = World::new();
    let hour = NOW + Duration::hours(2);
    let view = world.view().await;
    let fresh = witness.cosign(&own_name(), &view, NOW + Duration::minutes(59));
    assert!(fresh.unwrap().is_none(), "it has cosigned within the hour");
    let note = witness.cosign(&own_name(), &view, hour).unwrap().unwrap();
    let times = note.cosigned_by(&world.federation, hour);
    assert_eq!(times[&own_name()], hour);
    // Another history, even though this site's copy of the log was lost in between.
    world.entries[0] = b"another".to_vec();
    world.entries.push(b"three".to_vec());
    let other = world.view().await;
    let refused = witness.cosign(&own_name(), &other, hour).unwrap_err();
    assert!(
        refused.to_string().contains("changed its history"),
        "{refused}"
    );
    // A log that is shorter than what was cosigned is waited for.
    world.entries.truncate(1);
    let shorter = world.view().await;
    assert!(
        witness
            .cosign(&own_name(), &shorter, hour)
            .unwrap()
            .is_none()
    );
    std::fs::remove_file(folder.join("witness.json")).unwrap();
    let refused = witness.cosign(&own_name(), &view, hour).unwrap_err();
    assert!(refused.to_string().contains("must not sign"), "{refused}");
}

#[tokio::test]
async fn the_last_good_state_survives_a_mirror_that_lies_and_a_restart() {
    let (state, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::new();
    world.entries = (0..300_u32).map(|n| n.to_string().into_bytes()).collect();
    world.write(mirror.path());
    let copy = LogCache::of(state.path(), &world.federation);
    let nothing = View::new(world.federation.clone());
    let source = MirrorReader::folder(mirror.path());
    let read = source.extend(&nothing, true, NOW, Some(&copy)).await;
    let (mut view, _) = read.unwrap();
    copy.commit(&mut view).unwrap();
    // The mirror grows past a file's end, and the new entries are not those it has signed for.
    let honest = world.entries.clone();
    world
        .entries
        .extend((0..300_u32).map(|n| format!("new {n}").into_bytes()));
    world.write(mirror.path());
    let lie = mirror.path().join("tile/entries/001");
    let mut bytes = std::fs::read(&lie).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&lie, bytes).unwrap();
    let error = source
        .extend(&view, true, NOW, Some(&copy))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("do not add up"), "{error}");
    // After a restart, with nothing but the copy: stale is no matter, it was fresh when taken.
    let year = NOW + Duration::days(365);
    let kept = MirrorReader::folder(copy.path());
    let (again, size) = kept.extend(&nothing, false, year, None).await.unwrap();
    assert_eq!((again.size(), size), (300, 300));
    assert_eq!(again.root_at(300), view.root_at(300));
    assert_eq!(honest.len(), 300);
}

#[tokio::test]
async fn a_mirror_without_a_log_or_with_parts_missing_is_told() {
    let mirror = tempfile::tempdir().unwrap();
    let world = World::new();
    let nothing = View::new(world.federation.clone());
    let none = world.read(mirror.path(), &nothing).await.unwrap_err();
    assert!(matches!(none, MirrorError::NoCheckpoint), "{none}");
    world.write(mirror.path());
    std::fs::remove_dir_all(mirror.path().join("tile")).unwrap();
    let missing = world.read(mirror.path(), &nothing).await.unwrap_err();
    assert!(
        missing.to_string().contains("000.p/2 is missing"),
        "{missing}"
    );
    let key = new_key(&provider()).unwrap();
    assert!(!key.public().to_string().is_empty());
}
