//! The loops as they run, and as the site file changes.

use renkei_site::Site;

use super::*;
use crate::{
    federation::MemberPeer,
    fixtures::{part_with, site_with},
};

struct Loops {
    part: watch::Sender<Arc<ServerPart>>,
    members: watch::Sender<Members>,
    bundles: watch::Receiver<Arc<BundleSet>>,
    peers: Arc<Peers>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Loops {
    async fn start(lab: &Lab, part: Arc<ServerPart>) -> Self {
        let context = &lab.context;
        let members = watch::Sender::new(Members::default());
        let peers = Peers::open(
            &part,
            context.store.clone(),
            provider(),
            context.bundles.clone(),
            members.subscribe(),
            ServerMetrics::default(),
            Surroundings {
                clock: context.clock.clone(),
                tasks: Supervisor::default(),
                state: context.state.clone(),
            },
        )
        .await
        .unwrap();
        let (peers, part) = (Arc::new(peers), watch::Sender::new(part));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (peers, part, stop) = (peers.clone(), part.subscribe(), stop.clone());
            async move { peers.run(part, stop).await }
        });
        Self {
            part,
            members,
            bundles: context.bundles.subscribe(),
            peers,
            stop,
            task,
        }
    }

    /// Waits until what is published satisfies `wanted`.
    async fn until(&mut self, wanted: impl Fn(&BundleSet) -> bool) {
        let found = self.bundles.wait_for(|all| wanted(all));
        tokio::time::timeout(Duration::from_secs(120), found)
            .await
            .expect("published")
            .unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn peers_part(lines: &[String]) -> Arc<ServerPart> {
    Arc::new(peers_site(lines).server_part(1))
}

fn peers_site(lines: &[String]) -> Arc<Site> {
    let peers: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    site_with(&format!(
        "lifetimes: {{bundle_refresh: 1s}}\npeers:\n{peers}"
    ))
}

fn sequence(all: &BundleSet) -> Option<u64> {
    all.get(&tokyo()).and_then(|bundle| bundle.sequence)
}

#[tokio::test]
async fn a_peer_that_hangs_delays_nobody_and_status_says_how_each_of_them_is() {
    let lab = Lab::new().await;
    let hanging = WebServer::start(hang).await;
    let roots = hanging.roots_file(lab.folder.path());
    let file = lab.write("tokyo.json", &tokyo_bundle(1).to_document());
    let site = peers_part(&[
        format!(
            "a.example: {{bundle: {}, web_roots: {}}}",
            hanging.url(),
            roots.display()
        ),
        format!(
            "b.example: {{bundle: {}}}",
            lab.folder.path().join("absent.json").display()
        ),
        format!("tokyo.example: {{bundle: {}}}", file.display()),
    ]);
    let mut loops = Loops::start(&lab, site).await;
    loops.until(|all| sequence(all) == Some(1)).await;
    lab.write("tokyo.json", &tokyo_bundle(2).to_document());
    loops.until(|all| sequence(all) == Some(2)).await;

    let status = loops.peers.status();
    let of = |name: &str| {
        status
            .iter()
            .find(|p| p.trust_domain.as_str() == name)
            .unwrap()
    };
    assert_eq!(of("a.example").last_success, None);
    assert!(
        of("b.example")
            .last_error
            .as_ref()
            .unwrap()
            .contains("absent.json")
    );
    let good = of("tokyo.example");
    assert_eq!(
        (good.sequence, good.authorities, &good.last_error),
        (Some(2), 1, &None)
    );
    assert!(good.last_success.is_some() && good.profile == "file");
    loops.stop().await;
}

/// An operator writes the new bundle to the same path and runs `renkei apply`.
#[tokio::test]
async fn a_site_file_that_is_applied_again_has_its_bundle_files_read_again() {
    let lab = Lab::new().await;
    // Read again after minutes, unless something hastens it.
    let bundle = |sequence| Bundle {
        refresh_hint: None,
        ..tokyo_bundle(sequence)
    };
    let file = lab.write("tokyo.json", &bundle(1).to_document());
    let site = site_with(&format!(
        "peers:\n  tokyo.example: {{bundle: {}}}",
        file.display()
    ));
    let mut loops = Loops::start(&lab, Arc::new(site.server_part(1))).await;
    loops.until(|all| sequence(all) == Some(1)).await;
    lab.write("tokyo.json", &bundle(2).to_document());
    loops.part.send_replace(Arc::new(site.server_part(2)));
    loops.peers.read_files_again();
    loops.until(|all| sequence(all) == Some(2)).await;
    loops.stop().await;
}

#[tokio::test]
async fn peers_come_change_and_go_with_the_site_file() {
    let lab = Lab::new().await;
    let mut loops = Loops::start(&lab, part_with("")).await;
    let one = lab.write("one.json", &tokyo_bundle(1).to_document());
    let two = lab.write("two.json", &tokyo_bundle(2).to_document());
    let peer =
        |path: &PathBuf| peers_part(&[format!("tokyo.example: {{bundle: {}}}", path.display())]);

    loops.part.send_replace(peer(&one));
    loops.until(|all| sequence(all) == Some(1)).await;
    loops.part.send_replace(peer(&two));
    loops.until(|all| sequence(all) == Some(2)).await;

    loops.part.send_replace(part_with(""));
    loops.until(|all| all.get(&tokyo()).is_none()).await;
    // Put in again it starts anew, so an older sequence is no fall.
    loops.part.send_replace(peer(&one));
    loops.until(|all| sequence(all) == Some(1)).await;
    loops.stop().await;
}

#[tokio::test]
async fn a_restart_publishes_the_cached_bundle_before_anything_is_fetched() {
    let lab = Lab::new().await;
    let good = tokyo_bundle(9);
    let path = lab.write("tokyo.json", &good.to_document());
    lab.peer(BundleSource::File(path.clone()))
        .refresh()
        .await
        .unwrap();
    lab.context.bundles.remove(&tokyo());
    fs::remove_file(&path).unwrap();

    let site = peers_part(&[format!("tokyo.example: {{bundle: {}}}", path.display())]);
    let loops = Loops::start(&lab, site).await;
    assert_eq!(lab.published(), Some(good));
    loops.stop().await;

    Loops::start(&lab, part_with("")).await.stop().await;
    assert!(
        lab.known().await.is_none(),
        "whoever is no peer any longer is forgotten"
    );
}

#[tokio::test]
async fn members_of_a_federation_are_published_once_the_site_is_linked_with_them() {
    let lab = Lab::new().await;
    let site = peers_site(&[]);
    let unlinked = peers_part(&[]);
    let mut loops = Loops::start(&lab, unlinked.clone()).await;
    let verified = |sequence| {
        let peer = MemberPeer {
            bundle: tokyo_bundle(sequence),
            gateway: None,
        };
        Members::new([(tokyo(), peer)].into())
    };
    let linked = site.with_members([(&tokyo(), &None)]);
    let linked = Arc::new(linked.server_part(2));
    loops.members.send_replace(verified(1));
    loops.part.send_replace(linked);
    loops.until(|all| sequence(all) == Some(1)).await;
    loops.members.send_replace(verified(2));
    loops.until(|all| sequence(all) == Some(2)).await;
    let status = loops.peers.status();
    assert_eq!(status[0].profile, "federation");
    assert_eq!(status[0].authorities, 1);
    // A member that falls out is unknown at once, whatever the site says yet.
    loops.members.send_replace(Members::default());
    loops.until(|all| all.get(&tokyo()).is_none()).await;
    loops.members.send_replace(verified(3));
    loops.until(|all| sequence(all) == Some(3)).await;
    loops.part.send_replace(unlinked);
    loops.until(|all| all.get(&tokyo()).is_none()).await;
    assert!(loops.peers.status().is_empty());
    loops.stop().await;
}

#[tokio::test]
async fn an_empty_bundle_is_trust_in_nothing_and_outlives_a_restart() {
    let lab = Lab::new().await;
    let good = tokyo_bundle(5);
    let path = lab.write("tokyo.json", &good.to_document());
    let site = peers_part(&[format!("tokyo.example: {{bundle: {}}}", path.display())]);
    let mut loops = Loops::start(&lab, site.clone()).await;
    let has = |all: &BundleSet| {
        let bundle = all.get(&tokyo());
        bundle.map(|bundle| bundle.x509_authorities.len())
    };
    loops.until(|all| has(all) == Some(1)).await;
    for empty in [
        r#"{"keys":[]}"#,
        r#"{"keys":[],"spiffe_sequence":7}"#,
        r#"{"keys":[{"use":"later","kty":"EC"}],"spiffe_sequence":9}"#,
    ] {
        lab.write("tokyo.json", empty);
        loops.until(|all| has(all) == Some(0)).await;
        // In use first, stored a moment later.
        let stored = async {
            loop {
                let bundle = lab.known().await.unwrap().bundle;
                if bundle.x509_authorities.is_empty() {
                    return bundle.sequence.unwrap();
                }
            }
        };
        let stored = tokio::time::timeout(Duration::from_secs(120), stored);
        let sequence = stored.await.unwrap();
        loops.stop().await;
        lab.context.bundles.remove(&tokyo());
        loops = Loops::start(&lab, site.clone()).await;
        assert_eq!(has(&loops.bundles.borrow()), Some(0), "{empty}");
        lab.write("tokyo.json", &tokyo_bundle(sequence + 1).to_document());
        loops.until(|all| has(all) == Some(1)).await;
    }
    loops.stop().await;
}

/// Runs statements on the database, beside the process that has it open.
async fn sql(lab: &Lab, statements: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let database = lab.folder.path().join("state/renkei.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::raw_sql(statements).execute(&mut connection).await;
    done.unwrap();
    connection.close().await.unwrap();
}

/// A full disk stops nothing: a CA that a peer has withdrawn is not trusted any more.
#[tokio::test]
async fn a_bundle_that_cannot_be_stored_is_in_use_and_is_stored_later() {
    let lab = Lab::new().await;
    let path = lab.write("tokyo.json", &tokyo_bundle(1).to_document());
    let site = peers_part(&[format!("tokyo.example: {{bundle: {}}}", path.display())]);
    let mut loops = Loops::start(&lab, site.clone()).await;
    loops.until(|all| sequence(all) == Some(1)).await;
    let full = "CREATE TRIGGER disk_full BEFORE UPDATE ON peer_bundles \
                BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    sql(&lab, full).await;
    let second = tokyo_bundle(2);
    lab.write("tokyo.json", &second.to_document());
    loops.until(|all| sequence(all) == Some(2)).await;
    let said = |loops: &Loops| {
        let status = loops.peers.status().remove(0);
        (status.sequence, status.last_error)
    };
    let told = async {
        while said(&loops).1.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), told)
        .await
        .unwrap();
    let (sequence_shown, error) = said(&loops);
    let error = error.unwrap();
    assert_eq!(sequence_shown, Some(2));
    assert!(
        error.contains("not stored") && error.contains("disk is full"),
        "{error}"
    );
    assert_eq!(lab.known().await.unwrap().bundle.sequence, Some(1));
    // The same document is stored as soon as that is possible.
    sql(&lab, "DROP TRIGGER disk_full").await;
    let stored = async {
        while lab.known().await.unwrap().bundle.sequence != Some(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), stored)
        .await
        .unwrap();
    let shown = async {
        while said(&loops).1.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), shown)
        .await
        .unwrap();
    assert_eq!(lab.published(), Some(second));
    loops.stop().await;
}
