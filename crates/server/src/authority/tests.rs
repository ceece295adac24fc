mod late;

use std::{fs, process::Command};

use rcgen::KeyPair;
use renkei_spiffe::{BundleSet, PeerError, SvidCertificate, verify_peer};
use time::{Duration as Span, macros::datetime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::{
    fixtures::{id, own, provider, request, svid},
    store::{KeyFileError, SqliteStore},
};

const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
const LIFETIMES: CaLifetimes = CaLifetimes {
    ca: Duration::from_hours(24),
    refresh_hint: Duration::from_mins(5),
};
const HOUR: Duration = Duration::from_hours(1);

async fn open(folder: &std::path::Path, now: OffsetDateTime) -> Result<Authority, AuthorityError> {
    Ok(open_store(folder, now).await?.1)
}

async fn open_store(
    folder: &std::path::Path,
    now: OffsetDateTime,
) -> Result<(Arc<SqliteStore>, Authority), AuthorityError> {
    let store = Arc::new(SqliteStore::open(folder, &own()).await?);
    let kept = (
        store.clone() as Arc<dyn DataStore>,
        Arc::new(store.keys().clone()) as _,
    );
    let authority = Authority::open(kept, own(), &provider(), LIFETIMES, now).await?;
    Ok((store, authority))
}

async fn fresh() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(folder.path(), START).await.unwrap();
    (folder, authority)
}

fn states(authority: &Authority) -> Vec<&'static str> {
    authority
        .authorities()
        .iter()
        .map(|ca| ca.state.as_str())
        .collect()
}

fn verify(
    chain: &[CertificateDer<'_>],
    bundle: Bundle,
    now: OffsetDateTime,
) -> Result<SpiffeId, PeerError> {
    let bundles: BundleSet = [Arc::new(bundle)].into_iter().collect();
    verify_peer(
        chain,
        &bundles,
        now,
        &provider().signature_verification_algorithms,
    )
}

#[tokio::test]
async fn an_issued_svid_is_what_the_standard_asks_for_and_nothing_of_the_request() {
    let (_folder, authority) = fresh().await;
    let (key, der) = request();
    let signed = authority.sign(&id("collector"), &der, HOUR, START).unwrap();
    let svid = svid(vec![signed.certificate.clone()], &key);
    assert_eq!(svid.id(), &id("collector"));
    assert_eq!(svid.not_before(), START - Span::seconds(10));
    assert_eq!(svid.not_after(), START + Span::hours(1));
    assert_eq!(svid.serial(), signed.record.serial);
    assert_eq!(
        verify(svid.chain(), authority.bundle(), START),
        Ok(id("collector"))
    );

    let (_, parsed) = X509Certificate::from_der(&signed.certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        names.value.general_names.len(),
        1,
        "no name of the request got through"
    );
    assert!(!parsed.is_ca());
}

#[tokio::test]
async fn an_svid_never_outlives_its_ca() {
    let (_folder, authority) = fresh().await;
    let (_, der) = request();
    let week = Duration::from_hours(24 * 7);
    let signed = authority.sign(&id("collector"), &der, week, START).unwrap();
    assert_eq!(signed.record.not_after, START + Span::hours(24));
}

#[tokio::test]
async fn a_wrong_clock_or_an_ended_ca_is_told_instead_of_issuing() {
    let (_folder, authority) = fresh().await;
    let (_, der) = request();
    let sign = |now| {
        authority
            .sign(&id("collector"), &der, HOUR, now)
            .unwrap_err()
    };
    let behind = sign(START - Span::hours(1));
    assert!(matches!(behind, SignError::ClockBehind { .. }));
    assert!(behind.to_string().contains("clock is wrong"), "{behind}");
    assert!(matches!(
        sign(START + Span::hours(24)),
        SignError::AuthorityEnded { .. }
    ));
}

#[tokio::test]
async fn a_restart_keeps_the_ca_and_the_sequence() {
    let (folder, authority) = fresh().await;
    let before = authority.bundle();
    assert_eq!(before.sequence, Some(1));
    drop(authority);
    let after = open(folder.path(), START + Span::hours(1)).await.unwrap();
    assert_eq!(after.bundle(), before);
    let (key, der) = request();
    let now = START + Span::hours(1);
    let signed = after.sign(&id("collector"), &der, HOUR, now).unwrap();
    let svid = svid(vec![signed.certificate], &key);
    assert_eq!(verify(svid.chain(), before, now), Ok(id("collector")));
}

#[tokio::test]
async fn the_next_ca_is_published_before_it_signs_and_the_old_one_stays_until_it_ends() {
    let (folder, authority) = fresh().await;
    let (key, der) = request();
    let old = authority
        .sign(&id("collector"), &der, Duration::from_hours(24), START)
        .unwrap();
    let old = svid(vec![old.certificate], &key);

    let at = |hours: i64| START + Span::hours(hours);
    assert!(!authority.rotate(LIFETIMES, at(11)).await.unwrap());
    assert_eq!(
        (states(&authority), authority.bundle().sequence),
        (vec!["active"], Some(1))
    );

    assert!(authority.rotate(LIFETIMES, at(12)).await.unwrap());
    assert_eq!(states(&authority), ["active", "prepared"]);
    assert_eq!(authority.bundle().sequence, Some(2));
    let first = authority.authorities()[0].id.clone();
    assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2);

    assert!(!authority.rotate(LIFETIMES, at(19)).await.unwrap());
    assert!(authority.rotate(LIFETIMES, at(20)).await.unwrap());
    assert_eq!(states(&authority), ["old", "active"]);
    assert_eq!(
        authority.bundle().sequence,
        Some(2),
        "peers know both already"
    );
    let key = folder.path().join("keys").join(format!("{first}.pem"));
    assert!(key.exists(), "it signs again when the clock goes back");

    let new = authority
        .sign(&id("collector"), &der, HOUR, at(20))
        .unwrap();
    assert_eq!(
        verify(&[new.certificate], authority.bundle(), at(20)),
        Ok(id("collector"))
    );
    assert_eq!(
        verify(old.chain(), authority.bundle(), at(20)),
        Ok(id("collector"))
    );

    assert!(authority.rotate(LIFETIMES, at(24)).await.unwrap());
    assert!(authority.authorities().iter().all(|ca| ca.id != first));
    assert!(!key.exists(), "the key of a CA that has ended is gone");
    assert_eq!(
        authority.bundle().sequence,
        Some(4),
        "one CA left, and the next one came"
    );
    let refused = verify(old.chain(), authority.bundle(), at(23)).unwrap_err();
    assert_eq!(refused.label(), "untrusted_ca");
}

#[tokio::test]
async fn another_lifetime_has_the_next_ca_made_at_once() {
    let (_folder, authority) = fresh().await;
    let at = |minutes: i64| START + Span::minutes(minutes);
    let week = CaLifetimes {
        ca: Duration::from_hours(24 * 7),
        ..LIFETIMES
    };
    let day = Span::days(1);
    assert!(authority.rotate(week, at(1)).await.unwrap());
    assert_eq!(states(&authority), ["active", "prepared"]);
    // Peers get to know it before it signs.
    assert!(!authority.rotate(week, at(15)).await.unwrap());
    assert!(authority.next_step() <= at(16));
    assert!(authority.rotate(week, at(16)).await.unwrap());
    assert_eq!(states(&authority), ["old", "active"]);
    let ends: Vec<_> = authority
        .authorities()
        .iter()
        .map(|ca| ca.not_after)
        .collect();
    assert_eq!(ends, [START + day, at(1) + 7 * day]);
    assert!(!authority.rotate(week, at(17)).await.unwrap());
    // A change of mind: what was prepared never signs.
    authority.rotate(LIFETIMES, at(20)).await.unwrap();
    authority.rotate(week, at(21)).await.unwrap();
    assert_eq!(states(&authority), ["old", "active", "old"]);
    assert!(!authority.rotate(week, at(60)).await.unwrap());
    let three = CaLifetimes {
        ca: Duration::from_hours(3),
        ..LIFETIMES
    };
    authority.rotate(LIFETIMES, at(61)).await.unwrap();
    authority.rotate(three, at(62)).await.unwrap();
    authority.rotate(three, at(78)).await.unwrap();
    let (_, der) = request();
    let signed = authority.sign(&id("collector"), &der, 24 * HOUR, at(78));
    assert_eq!(signed.unwrap().record.not_after, at(62) + Span::hours(3));
}

#[tokio::test]
async fn a_ca_prepared_late_is_published_for_a_while_before_it_signs() {
    let (_folder, authority) = fresh().await;
    // The host slept from before the half of the CA's life until after five sixths of it.
    let late = START + Span::hours(20) + Span::minutes(30);
    authority.rotate(LIFETIMES, late).await.unwrap();
    assert_eq!(states(&authority), ["active", "prepared"]);
    authority
        .rotate(LIFETIMES, late + Span::minutes(14))
        .await
        .unwrap();
    assert_eq!(states(&authority), ["active", "prepared"]);
    authority
        .rotate(LIFETIMES, late + Span::minutes(15))
        .await
        .unwrap();
    assert_eq!(states(&authority), ["old", "active"]);
}

#[tokio::test]
async fn a_site_that_was_off_for_a_week_starts_with_a_new_ca_and_a_higher_sequence() {
    let (folder, authority) = fresh().await;
    let before = authority.bundle().sequence;
    drop(authority);
    let later = START + Span::days(7);
    let authority = open(folder.path(), later).await.unwrap();
    assert_eq!(states(&authority), ["active"]);
    assert!(authority.bundle().sequence > before);
    let (_, der) = request();
    authority.sign(&id("collector"), &der, HOUR, later).unwrap();
}

#[tokio::test]
async fn a_lost_exposed_or_foreign_key_stops_the_start_and_names_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, authority) = fresh().await;
    let name = authority.authorities()[0].key_file.clone().unwrap();
    drop(authority);
    let path = folder.path().join("keys").join(&name);
    let good = fs::read(&path).unwrap();
    let refusal = async || match open(folder.path(), START).await {
        Err(AuthorityError::Key(error)) => error,
        other => panic!("opened: {}", other.is_ok()),
    };

    fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(refusal().await, KeyFileError::Mismatch { .. }));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(refusal().await, KeyFileError::Exposed { .. }));
    fs::remove_file(&path).unwrap();
    let missing = refusal().await;
    assert!(matches!(missing, KeyFileError::Missing { .. }));
    assert!(missing.to_string().contains(&name), "{missing}");

    fs::write(&path, good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    open(folder.path(), START).await.unwrap();
}

#[tokio::test]
async fn the_bundle_is_read_from_the_folder_while_a_server_has_it_open() {
    let (folder, authority) = fresh().await;
    authority
        .rotate(LIFETIMES, START + Span::hours(12))
        .await
        .unwrap();
    let reader = SqliteStore::open_read_only(folder.path()).await.unwrap();
    assert_eq!(stored_bundle(&reader).await.unwrap(), authority.bundle());
}

/// The text that OpenSSL, which nobody here wrote, prints for a certificate.
fn openssl_text(certificate: &CertificateDer<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.der");
    fs::write(&file, certificate).unwrap();
    let output = Command::new("openssl")
        .args(["x509", "-inform", "DER", "-noout", "-text", "-in"])
        .arg(&file)
        .output()
        .expect("openssl is needed for this test; scripts/test installs it");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn openssl_reads_the_certificates_as_the_standard_wants_them() {
    let (_folder, authority) = fresh().await;
    let ca = openssl_text(&authority.authorities()[0].certificate);
    for part in [
        "URI:spiffe://osaka.example\n",
        "X509v3 Basic Constraints: critical\n                CA:TRUE",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "ASN1 OID: prime256v1",
        "Not Before: Nov 23 11:59:50 2026 GMT",
        "Not After : Nov 24 12:00:00 2026 GMT",
    ] {
        assert!(ca.contains(part), "{part:?} is not in\n{ca}");
    }
    let (_, der) = request();
    let signed = authority.sign(&id("collector"), &der, HOUR, START).unwrap();
    let leaf = openssl_text(&signed.certificate);
    for part in [
        "URI:spiffe://osaka.example/collector\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(leaf.contains(part), "{part:?} is not in\n{leaf}");
    }
}

#[tokio::test]
async fn serials_are_positive_and_never_the_same() {
    let (_folder, authority) = fresh().await;
    let (_, der) = request();
    let serials: std::collections::BTreeSet<String> = (0..100)
        .map(|_| authority.sign(&id("collector"), &der, HOUR, START).unwrap())
        .map(|signed| {
            SvidCertificate::parse_leaf(&signed.certificate)
                .unwrap()
                .serial
        })
        .collect();
    assert_eq!(serials.len(), 100);
    assert!(serials.iter().all(|serial| serial.len() == 32));
}

#[tokio::test]
async fn nothing_that_ended_is_deleted_while_the_clock_is_not_settled() {
    let (folder, authority) = fresh().await;
    let first = authority.authorities()[0].id.clone();
    let far = Reading {
        now: START + Span::days(4_000),
        ended: None,
    };
    authority.rotate(LIFETIMES, far).await.unwrap();
    assert_eq!(states(&authority), ["old", "active"]);
    let key = folder.path().join("keys").join(format!("{first}.pem"));
    assert!(key.exists());
    assert!(!authority.is_due(far), "it does not turn for ever");

    // The clock goes back: the first CA signs again, and what it signs is trusted.
    let back = START + Span::hours(1);
    assert!(authority.rotate(LIFETIMES, back).await.unwrap());
    assert_eq!(states(&authority), ["active", "old"]);
    let (_, der) = request();
    let signed = authority.sign(&id("collector"), &der, HOUR, back).unwrap();
    let old = Bundle {
        x509_authorities: vec![authority.authorities()[0].certificate.clone()],
        ..authority.bundle()
    };
    assert_eq!(authority.authorities()[0].id, first);
    assert_eq!(
        verify(&[signed.certificate], old, back),
        Ok(id("collector"))
    );
    drop(authority);
    let again = open(folder.path(), back).await.unwrap();
    assert_eq!(states(&again), ["active", "old"]);
}

/// After a restart of the machine with a clock that is 2 days ahead.
#[tokio::test]
async fn a_ca_that_could_still_be_valid_is_kept_and_signs_again() {
    let (folder, authority) = fresh().await;
    let first = authority.authorities()[0].id.clone();
    let now = START + Span::days(2);
    let ahead = Reading {
        now,
        ended: Some(now - Span::days(7)),
    };
    authority.rotate(LIFETIMES, ahead).await.unwrap();
    assert_eq!(states(&authority), ["old", "active"]);
    assert!(!authority.is_due(ahead), "it does not turn for ever");
    let key = folder.path().join("keys").join(format!("{first}.pem"));
    assert!(key.exists());
    let back = Reading {
        now: START + Span::minutes(6),
        ended: None,
    };
    authority.rotate(LIFETIMES, back).await.unwrap();
    assert_eq!(states(&authority), ["active", "old"]);
    assert_eq!(authority.authorities()[0].id, first);

    // If it was the right time, the old CA goes a week after its end.
    authority.rotate(LIFETIMES, ahead).await.unwrap();
    let now = START + Span::days(9);
    let later = Reading {
        now,
        ended: Some(now - Span::days(7)),
    };
    authority.rotate(LIFETIMES, later).await.unwrap();
    let ids: Vec<_> = authority
        .authorities()
        .into_iter()
        .map(|ca| ca.id)
        .collect();
    assert!(!ids.contains(&first), "{ids:?}");
    assert!(!key.exists());
}

#[tokio::test]
async fn a_ca_from_the_future_is_replaced_when_there_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let future = open(folder.path(), START + Span::days(4_000))
        .await
        .unwrap();
    let first = future.authorities()[0].id.clone();
    assert!(future.rotate(LIFETIMES, START).await.unwrap());
    let (_, der) = request();
    future.sign(&id("collector"), &der, HOUR, START).unwrap();
    assert!(future.authorities().iter().any(|ca| ca.id == first));
    // One that was prepared by such a clock is not waited for either.
    let (_folder, authority) = fresh().await;
    authority
        .rotate(LIFETIMES, START + Span::hours(12))
        .await
        .unwrap();
    let prepared = authority.authorities()[1].id.clone();
    let early = START + Span::hours(5);
    assert!(!authority.rotate(LIFETIMES, early).await.unwrap());
    assert_eq!(authority.authorities()[1].id, prepared);
}

#[tokio::test]
async fn keys_without_their_database_or_a_database_without_its_ca_stop_the_start() {
    type Loss = fn(&std::path::Path);
    const NO_CA: Loss = |database| sql(database, "DELETE FROM authorities");
    let losses: [(&str, Loss); 6] = [
        ("gone", |database| fs::remove_file(database).unwrap()),
        ("no byte", |database| fs::write(database, "").unwrap()),
        ("no tables", |database| {
            fs::remove_file(database).unwrap();
            sql(database, "CREATE TABLE a (b); DROP TABLE a");
        }),
        ("no rows", |database| {
            sql(
                database,
                "DELETE FROM authorities; DELETE FROM trust_domain; UPDATE bundle SET sequence = 0",
            );
        }),
        ("no CA", NO_CA),
        ("no CA that signs", |database| {
            sql(database, "UPDATE authorities SET state = 'old'");
        }),
    ];
    for (what, lose) in losses {
        let folder = tempfile::tempdir().unwrap();
        let (store, authority) = open_store(folder.path(), START).await.unwrap();
        store.close().await;
        drop((store, authority));
        lose(&folder.path().join("renkei.db"));
        let keys = || fs::read_dir(folder.path().join("keys")).unwrap().count();
        let before = keys();
        // Also at the second attempt: the first one has made nothing that passes for a database.
        for _ in 0..2 {
            let error = match open(folder.path(), START).await {
                Ok(_) => panic!("{what}: a new CA was made"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains("renkei.db"), "{what}: {error}");
            assert!(error.contains("restore"), "{what}: {error}");
            assert!(
                error.contains("move the state folder away"),
                "{what}: {error}"
            );
        }
        assert_eq!(keys(), before, "{what}");
    }
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_before_its_ca_was_on_record_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    store.keys().write("cut-off.pem", &key).unwrap();
    store.close().await;
    drop(store);
    open(folder.path(), START).await.unwrap();
}

/// With the means of the store itself; every test machine has them.
fn sql(database: &std::path::Path, statements: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true);
    let work = async move {
        use sqlx::{ConnectOptions, Connection};
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(statements)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    };
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work);
    })
    .join()
    .unwrap();
}

#[tokio::test]
async fn a_ca_that_is_certainly_not_stored_leaves_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let (store, authority) = open_store(folder.path(), START).await.unwrap();
    let keys = || fs::read_dir(folder.path().join("keys")).unwrap().count();
    let half = START + Span::hours(13);
    sql(
        &folder.path().join("renkei.db"),
        "CREATE TRIGGER refuse BEFORE INSERT ON authorities
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
    );
    authority.rotate(LIFETIMES, half).await.unwrap_err();
    assert_eq!(keys(), 1, "that of the CA which signs");
    // What the store has cannot be read.
    store.close().await;
    authority.rotate(LIFETIMES, half).await.unwrap_err();
    assert_eq!(keys(), 1, "and so nothing is made");
}
