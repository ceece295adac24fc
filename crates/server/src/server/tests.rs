use bytes::Bytes;
use renkei_api::{issue::SvidRequest, node::EntryId};
use renkei_testkit::free_address;
use rustls_pki_types::CertificateDer;
use time::{Duration as Span, OffsetDateTime, macros::datetime};

use super::*;
use crate::SignError;
use crate::fixtures::{TestClock, id, part_with, provider, request, svid};

const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

const COLLECTOR: &str = "file.workload.collector";

async fn sign(
    server: &Server,
    entry: &str,
    csr: &[u8],
) -> Result<Vec<CertificateDer<'static>>, SignError> {
    let (entry, csr) = (EntryId::parse(entry).unwrap(), csr.to_vec());
    server.sign(&SvidRequest { entry, csr }).await
}

/// Waits until the agent is told of an entry.
async fn until_entry(server: &Server, id: &str) {
    let mut part = server.agent_part();
    let has = |part: &Arc<AgentPart>| part.entries.iter().any(|entry| entry.id.as_str() == id);
    part.wait_for(has).await.unwrap();
}

struct Started {
    server: Server,
    part: watch::Sender<Arc<ServerPart>>,
    clock: TestClock,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Started {
    async fn start(folder: &std::path::Path, part: Arc<ServerPart>) -> Self {
        Self::at(START, folder, part).await
    }

    async fn at(now: OffsetDateTime, folder: &std::path::Path, part: Arc<ServerPart>) -> Self {
        let clock = TestClock::now_is(now);
        let part = watch::Sender::new(part);
        let server = Server::open(ServerSettings {
            state: folder.to_owned(),
            part: part.subscribe(),
            provider: provider(),
            metrics: ServerMetrics::default(),
            clock: clock.clock(),
            system: None,
            tasks: Supervisor::default(),
            nodes: watch::channel(Arc::default()).1,
        })
        .await
        .unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.run(stop).await }
        });
        Self {
            server,
            part,
            clock,
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.server.close().await;
    }
}

#[tokio::test]
async fn only_what_has_an_entry_is_issued_and_the_file_makes_entries() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    let (key, der) = request();
    for (entry, known) in [
        ("file.workload.collector", "collector"),
        ("file.service.broker", "broker"),
        ("file.server", "renkei/server"),
    ] {
        let chain = sign(&started.server, entry, &der).await.unwrap();
        assert_eq!(
            svid(chain, &key).id(),
            &id(&format!("osaka.example/{known}"))
        );
    }
    for unknown in [
        "file.workload.stranger",
        "file.workload.broker",
        "collector",
    ] {
        let refused = sign(&started.server, unknown, &der).await.unwrap_err();
        assert!(
            matches!(refused, SignError::UnknownEntry(_)),
            "{unknown}: {refused}"
        );
    }
    let refused = sign(&started.server, COLLECTOR, b"garbage").await;
    assert!(matches!(refused.unwrap_err(), SignError::Request(_)));

    started
        .part
        .send_replace(part_with("  stranger: {selectors: [unix:uid:1001]}"));
    until_entry(&started.server, "file.workload.stranger").await;
    let chain = sign(&started.server, "file.workload.stranger", &der).await;
    assert_eq!(svid(chain.unwrap(), &key).id(), &id("stranger"));
    started.stop().await;
}

#[tokio::test]
async fn a_workload_may_have_the_longest_name() {
    let folder = tempfile::tempdir().unwrap();
    let name = "n".repeat(255);
    let part = part_with(&format!("  {name}: {{selectors: [unix:uid:1]}}"));
    for _ in 0..2 {
        let started = Started::start(folder.path(), part.clone()).await;
        let (key, der) = request();
        let entry = format!("file.workload.{name}");
        let chain = sign(&started.server, &entry, &der).await.unwrap();
        assert_eq!(svid(chain, &key).id(), &id(&name));
        started.stop().await;
    }
}

#[tokio::test]
async fn a_removed_entry_ends_though_the_database_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = "  stranger: {selectors: [unix:uid:1001]}";
    let started = Started::start(folder.path(), part_with(stranger)).await;
    let mut entries = started.server.entries_state();
    started.server.0.store.close().await;
    let mut part = ServerPart::clone(&part_with("  new: {selectors: [unix:uid:1002]}"));
    part.version = 2;
    started.part.send_replace(Arc::new(part));
    let state = entries.wait_for(|state| state.version == 2).await.unwrap();
    assert!(state.failed.is_some(), "{state:?}");
    drop(state);
    let (_, der) = request();
    for gone in ["file.workload.stranger", "file.workload.new"] {
        let refused = sign(&started.server, gone, &der).await.unwrap_err();
        assert!(matches!(refused, SignError::UnknownEntry(_)), "{refused}");
    }
    sign(&started.server, COLLECTOR, &der).await.unwrap();
    started.stop().await;
}

#[tokio::test]
async fn a_removed_entry_ends_while_another_change_waits_for_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = "  stranger: {selectors: [unix:uid:1001]}";
    let started = Started::start(folder.path(), part_with(stranger)).await;
    let database =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("renkei.db"));
    let pool = sqlx::SqlitePool::connect_with(database).await.unwrap();
    let held = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let more = |version, more: &str| {
        let mut part = ServerPart::clone(&part_with(more));
        part.version = version;
        Arc::new(part)
    };
    let added = format!("{stranger}\n  new: {{selectors: [unix:uid:1002]}}");
    started.part.send_replace(more(2, &added));
    // The write of the addition has begun once the task has run.
    tokio::task::yield_now().await;
    started.part.send_replace(more(3, ""));
    let mut agent = started.server.agent_part();
    let is_gone = |part: &Arc<AgentPart>| {
        let mut ids = part.entries.iter().map(|entry| entry.id.as_str());
        ids.all(|id| id != "file.workload.stranger")
    };
    agent.wait_for(is_gone).await.unwrap();
    let state = started.server.entries_state().borrow().clone();
    assert!(state.version == 1 || state.failed.is_some(), "{state:?}");
    held.rollback().await.unwrap();
    let mut state = started.server.entries_state();
    let stored = |state: &EntriesState| state.version == 3 && state.failed.is_none();
    state.wait_for(stored).await.unwrap();
    let part = started.server.agent_part().borrow().clone();
    let ids = part.entries.iter().map(|entry| entry.id.as_str());
    let all = ["file.server", "file.service.broker", COLLECTOR];
    assert_eq!(ids.collect::<Vec<_>>(), all);
    started.stop().await;
}

#[tokio::test]
async fn a_round_that_changes_nothing_wakes_no_reader_of_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    let document = started.server.0.document.subscribe();
    assert!(started.server.0.next_round().await);
    assert!(!document.has_changed().unwrap());
    started.stop().await;
}

#[tokio::test]
async fn status_tells_authorities_entries_and_their_age_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    sign(&started.server, COLLECTOR, &request().1)
        .await
        .unwrap();
    let before = started.server.status().await.unwrap();
    started.stop().await;

    let started = Started::start(folder.path(), part_with("")).await;
    started.clock.advance(Span::minutes(30));
    let after = started.server.status().await.unwrap();
    assert_eq!(after.bundle_sequence, before.bundle_sequence);
    assert_eq!(after.authorities[0].id, before.authorities[0].id);
    assert_eq!(after.valid_svids, 1);
    let json = serde_json::to_value(&after).unwrap();
    assert_eq!(json["authorities"][0]["state"], "active");
    assert_eq!(json["authorities"][0]["not_after"], "2026-11-24T12:00:00Z");
    let collector = json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["id"] == "spiffe://osaka.example/collector")
        .unwrap();
    assert_eq!(collector["selectors"][0], "unix:uid:1000");
    assert_eq!(collector["since"], "2026-11-23T12:00:00Z");
    started.stop().await;
}

#[tokio::test]
async fn an_ended_ca_is_replaced_when_the_next_svid_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    let mut bundles = started.server.bundles();
    let before = bundles.borrow_and_update().clone();
    // As after a long sleep of the machine: no timer has run yet.
    started.clock.advance(Span::hours(30));
    // A request waits for the rotation, and a busy machine may need longer than it does.
    while let Err(error) = sign(&started.server, COLLECTOR, &request().1).await {
        assert!(matches!(error, SignError::AuthorityEnded { .. }), "{error}");
    }
    let after = bundles.borrow().clone();
    let sequence = |all: &BundleSet| all.get(id("x").trust_domain()).unwrap().sequence;
    assert!(sequence(&after) > sequence(&before));
    assert!(started.server.bundle_document().contains("spiffe_sequence"));
    started.stop().await;
}

#[tokio::test]
async fn a_request_wakes_the_rotation_and_does_not_rotate_itself() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::now_is(START);
    let part = watch::Sender::new(part_with(""));
    let server = Server::open(ServerSettings {
        state: folder.path().to_owned(),
        part: part.subscribe(),
        provider: provider(),
        metrics: ServerMetrics::default(),
        clock: clock.clock(),
        system: None,
        tasks: Supervisor::default(),
        nodes: watch::channel(Arc::default()).1,
    })
    .await
    .unwrap();
    // The next CA is due, and the one that signs is valid.
    clock.advance(Span::hours(13));
    sign(&server, COLLECTOR, &request().1).await.unwrap();
    assert_eq!(server.status().await.unwrap().authorities.len(), 1);

    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.run(stop).await }
    });
    let own = crate::fixtures::own();
    let both = |all: &Arc<BundleSet>| all.get(&own).unwrap().x509_authorities.len() == 2;
    server.bundles().wait_for(both).await.unwrap();
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_rotation_that_fails_is_tried_again_ever_more_rarely() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    started.server.0.store.close().await;
    // The next CA is due, and cannot be stored.
    started.clock.advance(Span::hours(13));
    tokio::time::pause();
    let rounds = started.server.0.rounds.subscribe();
    let before = *rounds.borrow();
    tokio::time::sleep(Duration::from_mins(10)).await;
    let tried = *rounds.borrow() - before;
    assert!((10..=50).contains(&tried), "{tried} rounds in 10 minutes");
    started.stop().await;
}

#[tokio::test]
async fn a_changed_lifetime_reaches_the_agent_and_the_ca() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("")).await;
    let mut part = started.server.agent_part();
    let before = part.borrow_and_update().clone();
    assert_eq!(before.svid_lifetime, Duration::from_hours(1));
    let changed = "lifetimes: {x509_svid: 10m, ca: 12h}";
    started.part.send_replace(part_with(changed));
    let is_changed = |part: &Arc<AgentPart>| part.svid_lifetime == Duration::from_mins(10);
    let after = part.wait_for(is_changed).await.unwrap().clone();
    assert!(after.version > before.version);
    let mut bundles = started.server.bundles();
    let own = crate::fixtures::own();
    let both = |all: &Arc<BundleSet>| all.get(&own).unwrap().x509_authorities.len() == 2;
    bundles.wait_for(both).await.unwrap();
    started.stop().await;
}

#[tokio::test]
async fn the_document_in_the_folder_is_the_one_served() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::start(folder.path(), part_with("lifetimes: {bundle_refresh: 7s}")).await;
    let served = started.server.bundle_document();
    assert_eq!(stored_bundle_document(folder.path()).await.unwrap(), served);
    let json: serde_json::Value = serde_json::from_str(&served).unwrap();
    assert_eq!(json["spiffe_refresh_hint"], 7);
    started.stop().await;
    assert_eq!(stored_bundle_document(folder.path()).await.unwrap(), served);
}

/// Two sites as the binary puts them together: SVIDs by their own CAs, bundles over https_spiffe.
struct Linked {
    started: Started,
    gateway: tokio::task::JoinHandle<()>,
}

impl Linked {
    async fn start(folder: &std::path::Path, own: &str, peer: &str, ports: (u16, u16)) -> Self {
        let (own_port, peer_port) = ports;
        let text = format!(
            "site: {own}
trust_domain: {own}.example
gateway: {{listen: 127.0.0.1:{own_port}, advertise: 127.0.0.1:{own_port}}}
lifetimes: {{bundle_refresh: 1s}}
peers:
  {peer}.example:
    bundle: https://127.0.0.1:{peer_port}/
    bootstrap: {}
",
            folder.join(format!("{peer}.json")).display()
        );
        let site = renkei_site::parse("site.yaml", &text).unwrap();
        let id = site.server_id.clone();
        let part = Arc::new(site.server_part(1));
        let started = Started::at(OffsetDateTime::now_utc(), &folder.join(own), part).await;
        let (key, der) = request();
        let chain = sign(&started.server, "file.server", &der).await.unwrap();
        let mut identities = Identities::default();
        identities.svids.insert(id, svid(chain, &key));
        let gateway = tokio::spawn(accept(own_port, started.server.endpoint(), identities));
        Self { started, gateway }
    }

    async fn until_sequence(&self, peer: &str, wanted: u64) {
        let peer = TrustDomain::parse(&format!("{peer}.example")).unwrap();
        let mut bundles = self.started.server.bundles();
        let found = bundles.wait_for(|all| {
            all.get(&peer)
                .and_then(|bundle| bundle.sequence)
                .is_some_and(|s| s >= wanted)
        });
        tokio::time::timeout(Duration::from_secs(120), found)
            .await
            .expect("fetched")
            .unwrap();
    }

    async fn stop(self) {
        self.gateway.abort();
        self.started.stop().await;
    }
}

async fn accept(port: u16, endpoint: SpiffeEndpoint, identities: Identities) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .unwrap();
    let identities = watch::Sender::new(Arc::new(identities)).subscribe();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let _ = endpoint.serve(tcp, Bytes::new(), &identities).await;
    }
}

#[tokio::test]
async fn two_sites_exchange_bundles_and_follow_each_others_rotation_in_any_order_of_start() {
    let folder = tempfile::tempdir().unwrap();
    let ports = (free_address().port(), free_address().port());
    let osaka = Linked::start(folder.path(), "osaka", "tokyo", ports).await;
    // Tokyo starts later, and its bundle is put in place later still.
    let tokyo = Linked::start(folder.path(), "tokyo", "osaka", (ports.1, ports.0)).await;
    for (name, site) in [("osaka", &osaka), ("tokyo", &tokyo)] {
        let document = site.started.server.bundle_document();
        std::fs::write(folder.path().join(format!("{name}.json")), document).unwrap();
    }
    osaka.until_sequence("tokyo", 1).await;
    tokyo.until_sequence("osaka", 1).await;

    tokyo.started.clock.advance(Span::hours(13));
    let (_, der) = request();
    let server = &tokyo.started.server;
    let mut bundles = server.bundles();
    // Asking wakes the rotation, and does not wait for it.
    sign(server, "file.server", &der).await.unwrap();
    let own = TrustDomain::parse("tokyo.example").unwrap();
    let both = |all: &Arc<BundleSet>| all.get(&own).unwrap().x509_authorities.len() == 2;
    bundles.wait_for(both).await.unwrap();
    let prepared = server.status().await.unwrap();
    assert_eq!(prepared.authorities.len(), 2);
    osaka
        .until_sequence("tokyo", prepared.bundle_sequence)
        .await;
    osaka.stop().await;
    tokyo.stop().await;
}

#[tokio::test]
async fn a_loop_that_panics_is_started_again_and_readiness_says_which() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use renkei_runtime::readiness::Readiness;

    let folder = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let broken = broken.clone();
        Arc::new(move || {
            assert!(!broken.load(Ordering::SeqCst), "no time");
            OffsetDateTime::now_utc()
        })
    };
    let readiness = Readiness::new();
    readiness.condition("listeners").set_ready();
    let part = watch::Sender::new(part_with(""));
    let server = Server::open(ServerSettings {
        state: folder.path().to_owned(),
        part: part.subscribe(),
        provider: provider(),
        metrics: ServerMetrics::default(),
        clock,
        system: None,
        tasks: Supervisor::new(readiness.clone()),
        nodes: watch::channel(Arc::default()).1,
    })
    .await
    .unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.run(stop).await }
    });
    broken.store(true, Ordering::SeqCst);
    part.send_replace(part_with("  other: {selectors: [unix:uid:1001]}"));
    let mut seen = readiness.snapshot();
    while seen.missing().count() < 2 {
        seen = readiness.changed_from(&seen).await;
    }
    for task in ["task ca rotation", "task entries"] {
        let why = seen.conditions[task].clone().unwrap();
        assert!(why.contains("it panicked: no time"), "{task}: {why}");
    }
    broken.store(false, Ordering::SeqCst);
    readiness.wait_ready().await;
    until_entry(&server, "file.workload.other").await;
    sign(&server, "file.workload.other", &request().1)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap();
}
