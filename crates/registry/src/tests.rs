//! What the registry takes, when it signs, and what it does after a restart.

mod witnesses;

use std::{path::Path, sync::Arc};

use renkei_federation::{
    Admission, AdmissionStatus, Digest, Envelope, Federation, KeySet, SignedCheckpoint, SigningKey,
    SiteRoot, Statement, TrustDomain, Witnesses,
};
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{CosignError, FolderError, Log, SubmitError};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-24 12:01 UTC);
const INTERVAL: Duration = Duration::seconds(10);

fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// One witness of two, so that each quorum takes both.
fn federation() -> Arc<Federation> {
    let witnesses = [("osaka.example", 10), ("tokyo.example", 11)];
    Arc::new(Federation {
        origin: "federation.example/intercloud".to_owned(),
        log_key: key(1).public(),
        registrar: KeySet {
            keys: vec![key(2).public()],
            threshold: 1,
        },
        witnesses: Witnesses {
            quorum: 2,
            keys: witnesses
                .map(|(name, seed)| (td(name), key(seed).public()))
                .into(),
        },
    })
}

fn open(folder: &Path) -> Result<Log, FolderError> {
    Log::open(folder, federation(), key(1), INTERVAL, NOW)
}

fn genesis(seed: u8) -> Envelope {
    let root = SiteRoot {
        trust_domain: td("osaka.example"),
        version: 1,
        prev: None,
        root: KeySet {
            keys: vec![key(seed).public()],
            threshold: 1,
        },
        online_keys: vec![key(seed + 1).public()],
        recovery_keys: vec![],
        expires: NOW + Duration::days(365),
    };
    Envelope::sign(Statement::SiteRoot(root), &[&key(seed)]).unwrap()
}

fn admission(genesis: Digest, signer: u8) -> Envelope {
    let admission = Admission {
        trust_domain: td("osaka.example"),
        genesis,
        status: AdmissionStatus::Admitted,
        scope: vec![],
        issued: NOW,
        expires: NOW + Duration::days(365),
    };
    Envelope::sign(Statement::Admission(admission), &[&key(signer)]).unwrap()
}

fn note(folder: &Path, name: &str) -> Option<SignedCheckpoint> {
    let bytes = std::fs::read(folder.join(name)).ok()?;
    Some(SignedCheckpoint::parse(&bytes, &federation()).unwrap())
}

fn size(folder: &Path, name: &str) -> Option<u64> {
    note(folder, name).map(|note| note.root().size)
}

fn cosigned(folder: &Path, seed: u8, name: &str) -> Vec<u8> {
    let mut checkpoint = note(folder, "pending").unwrap();
    checkpoint.cosign(&td(name), &key(seed), NOW);
    checkpoint.to_text().into_bytes()
}

#[test]
fn only_what_sites_would_count_is_taken_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).unwrap();
    let mut submit = |bytes: &[u8]| log.submit(bytes, LATER);
    let genesis = genesis(50);
    assert!(matches!(submit(b"{}"), Err(SubmitError::Envelope(_))));
    let early = submit(&genesis.to_bytes()).unwrap_err();
    let text = early.to_string();
    assert!(
        text.contains(&format!("admit osaka.example {}", genesis.digest())),
        "{text}"
    );
    let forged = submit(&admission(genesis.digest(), 3).to_bytes());
    assert!(matches!(forged, Err(SubmitError::Refused(_))));
    let admission = admission(genesis.digest(), 2).to_bytes();
    assert!(!submit(&admission).unwrap().known);
    assert!(submit(&admission).unwrap().known, "again changes nothing");
    let text = String::from_utf8(admission.clone()).unwrap();
    for number in 0..3 {
        let more = format!("\"signatures\":[{{\"keyid\":\"\",\"sig\":\"AAA{number}\"}},");
        let signed = text.replacen("\"signatures\":[", &more, 1);
        assert_ne!(signed, text);
        let again = submit(signed.as_bytes()).unwrap();
        assert!(
            again.known,
            "with a signature more it is the same statement"
        );
    }
    assert!(!submit(&genesis.to_bytes()).unwrap().known);
    log.tick(LATER + INTERVAL).unwrap();
    assert_eq!(log.size(), 2);
}

#[test]
fn checkpoints_wait_for_their_witnesses_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut log = open(folder).unwrap();
    let genesis = genesis(50);
    log.submit(&admission(genesis.digest(), 2).to_bytes(), NOW)
        .unwrap();
    assert_eq!(size(folder, "pending"), Some(1), "the first is cut at once");
    log.submit(&genesis.to_bytes(), NOW).unwrap();
    assert_eq!(size(folder, "pending"), Some(1), "the next waits");
    log.cosign(&cosigned(folder, 10, "osaka.example"), NOW)
        .unwrap();
    assert_eq!(size(folder, "checkpoint"), None, "one witness is no quorum");
    log.cosign(&cosigned(folder, 11, "tokyo.example"), NOW)
        .unwrap();
    assert_eq!(size(folder, "checkpoint"), Some(1));
    assert_eq!(
        size(folder, "pending"),
        Some(2),
        "the quorum has come, so the next is cut"
    );
    let renewed = Envelope::sign(
        Statement::SiteRoot(SiteRoot {
            version: 2,
            prev: Some(genesis.digest()),
            expires: NOW + Duration::days(700),
            ..match genesis.statement() {
                Statement::SiteRoot(root) => root.clone(),
                _ => unreachable!(),
            }
        }),
        &[&key(50)],
    );
    log.submit(&renewed.unwrap().to_bytes(), NOW + Duration::seconds(9))
        .unwrap();
    assert_eq!(size(folder, "pending"), Some(2));
    log.tick(NOW + INTERVAL).unwrap();
    assert_eq!(
        size(folder, "pending"),
        Some(3),
        "witnesses that are away hold nobody up"
    );
    assert_eq!(size(folder, "checkpoint"), Some(1));
}

#[test]
fn cosignatures_are_of_witnesses_and_of_the_newest_tree() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut log = open(folder).unwrap();
    let empty = cosigned(folder, 10, "osaka.example");
    log.submit(&admission(genesis(50).digest(), 2).to_bytes(), NOW)
        .unwrap();
    let old = log.cosign(&empty, NOW);
    assert!(matches!(
        old,
        Err(CosignError::Outdated { theirs: 0, ours: 1 })
    ));
    let stranger = cosigned(folder, 77, "osaka.example");
    assert!(matches!(
        log.cosign(&stranger, NOW),
        Err(CosignError::Nothing)
    ));
    let good = cosigned(folder, 10, "osaka.example");
    log.cosign(&good, NOW).unwrap();
    assert!(matches!(log.cosign(&good, NOW), Err(CosignError::Nothing)));
    assert!(matches!(
        log.cosign(b"x", NOW),
        Err(CosignError::Checkpoint(_))
    ));
}

/// Does something while this file of the log cannot be written, as on a full disk.
fn without<T>(folder: &Path, name: &str, act: impl FnOnce() -> T) -> T {
    let path = folder.join(name);
    let before = std::fs::read(&path).ok();
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    let done = act();
    std::fs::remove_dir_all(&path).unwrap();
    if let Some(before) = before {
        std::fs::write(&path, before).unwrap();
    }
    done
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut log = open(folder).unwrap();
    let genesis = genesis(50);
    let admission = admission(genesis.digest(), 2).to_bytes();

    // A statement, before the queue and then before the tree.
    let taken = without(folder, ".queue", || log.submit(&admission, NOW));
    assert!(matches!(taken, Err(SubmitError::Folder(_))), "{taken:?}");
    let again = without(folder, "tile/entries/000.p/1", || {
        assert!(log.submit(&admission, NOW).unwrap().known);
        log.tick(NOW)
    });
    assert!(again.is_err());
    assert_eq!(size(folder, "pending"), Some(0));
    log.tick(NOW).unwrap();
    assert_eq!(size(folder, "pending"), Some(1));

    // A tree, before the note that makes it count.
    log.submit(&genesis.to_bytes(), NOW).unwrap();
    without(folder, "pending", || log.tick(LATER).unwrap_err());
    assert_eq!(log.size(), 1);
    log.tick(LATER).unwrap();
    assert_eq!(size(folder, "pending"), Some(2));

    // A cosignature.
    log.cosign(&cosigned(folder, 10, "osaka.example"), NOW)
        .unwrap();
    let last = cosigned(folder, 11, "tokyo.example");
    without(folder, "checkpoint", || log.cosign(&last, NOW).unwrap_err());
    log.cosign(&last, NOW).unwrap();
    assert_eq!(size(folder, "checkpoint"), Some(2));

    drop(log);
    let mut log = open(folder).unwrap();
    assert_eq!(log.size(), 2);
    assert!(log.submit(&admission, NOW).unwrap().known);
    assert!(log.submit(&genesis.to_bytes(), NOW).unwrap().known);
}

#[test]
fn the_log_goes_on_after_a_restart_and_a_damaged_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let genesis = genesis(50);
    {
        let mut log = open(folder).unwrap();
        log.submit(&admission(genesis.digest(), 2).to_bytes(), NOW)
            .unwrap();
        assert!(matches!(open(folder), Err(FolderError::InUse(_))));
    }
    {
        let mut log = open(folder).unwrap();
        assert_eq!(log.size(), 1);
        assert!(
            log.submit(&admission(genesis.digest(), 2).to_bytes(), NOW)
                .unwrap()
                .known
        );
        log.submit(&genesis.to_bytes(), NOW).unwrap();
        assert_eq!(size(folder, "pending"), Some(1), "it waits");
    }
    {
        let mut log = open(folder).unwrap();
        assert!(
            log.submit(&genesis.to_bytes(), NOW).unwrap().known,
            "a promise is kept"
        );
        log.tick(LATER).unwrap();
        assert_eq!(size(folder, "pending"), Some(2));
    }
    assert_eq!(open(folder).unwrap().size(), 2);
    std::fs::write(folder.join("tile/entries/000.p/2"), [0, 1, 7, 0, 1, 7]).unwrap();
    let damaged = open(folder).err().unwrap();
    assert!(damaged.to_string().contains("from a mirror"), "{damaged}");
    let other = Federation {
        log_key: key(9).public(),
        ..(*federation()).clone()
    };
    let foreign = Log::open(folder, Arc::new(other), key(9), INTERVAL, NOW);
    assert!(matches!(
        foreign.err(),
        Some(FolderError::Checkpoint { .. })
    ));
}

#[test]
fn a_folder_that_lost_its_newest_note_does_not_become_another_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).unwrap();
    let taken = admission(genesis(50).digest(), 2).to_bytes();
    log.submit(&taken, LATER).unwrap();
    drop(log);
    std::fs::remove_file(folder.path().join("pending")).unwrap();
    let lost = open(folder.path()).err().unwrap();
    assert!(matches!(lost, FolderError::Lost { .. }), "{lost}");
    let text = lost.to_string();
    assert!(
        text.contains("pending") && text.contains("restore"),
        "{text}"
    );
    assert!(!folder.path().join("pending").exists());
}

#[test]
fn a_clock_that_was_ahead_does_not_hold_up_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).unwrap();
    let ahead = LATER + Duration::days(4_000);
    let genesis = genesis(50);
    let admission = admission(genesis.digest(), 2).to_bytes();
    log.submit(&admission, ahead).unwrap();
    assert_eq!(size(folder.path(), "pending"), Some(1));
    log.submit(&genesis.to_bytes(), LATER).unwrap();
    assert_eq!(size(folder.path(), "pending"), Some(2));
}
