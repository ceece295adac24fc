//! Where trust in a peer starts and how it goes on, for a file and for https_spiffe.

use renkei_spiffe::SpiffeId;

use super::*;

fn endpoint_id() -> SpiffeId {
    SpiffeId::parse("spiffe://tokyo.example/renkei/server").unwrap()
}

fn spiffe_source(endpoint: &WebServer, bootstrap: PathBuf) -> BundleSource {
    BundleSource::HttpsSpiffe {
        url: endpoint.url(),
        endpoint_id: endpoint_id(),
        bootstrap,
    }
}

const PATH: &str = "/renkei/server";

#[tokio::test]
async fn a_file_is_read_again_at_every_refresh() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let path = lab.write("tokyo.json", &bundle_of(&ca, 1).to_document());
    let mut peer = lab.peer(BundleSource::File(path.clone()));
    peer.refresh().await.unwrap();
    assert_eq!(lab.published().unwrap().sequence, Some(1));
    let newer = tokyo_bundle(2);
    lab.write("tokyo.json", &newer.to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published(), Some(newer.clone()));
    fs::remove_file(&path).unwrap();
    let error = peer.refresh().await.unwrap_err();
    assert!(error.to_string().contains("tokyo.json"), "{error}");
    assert_eq!(lab.published(), Some(newer));
}

#[tokio::test]
async fn a_missing_bootstrap_file_is_told_and_its_coming_is_noticed() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let endpoint = WebServer::with_svid(&ca, PATH, ok_document(&bundle_of(&ca, 5))).await;
    let path = lab.folder.path().join("bootstrap.json");
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    let error = peer.refresh().await.unwrap_err();
    assert_eq!(error.label(), "no_bootstrap");
    let text = error.to_string();
    assert!(
        text.contains("bootstrap.json") && text.contains("renkei bundle show"),
        "{text}"
    );

    lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published().unwrap().sequence, Some(5));
}

#[tokio::test]
async fn the_bootstrap_bundle_counts_while_the_endpoint_is_down() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let endpoint = WebServer::answering(vec![]).await;
    let path = lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    peer.refresh().await.unwrap_err();
    assert_eq!(lab.published(), Some(bundle_of(&ca, 4)));
}

#[tokio::test]
async fn an_endpoint_of_another_ca_or_another_name_is_refused_and_said_why() {
    let lab = Lab::new().await;
    let (ca, other) = (
        TestAuthority::new("tokyo.example"),
        TestAuthority::new("tokyo.example"),
    );
    let path = lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());

    let forged = ok_document(&bundle_of(&other, 9));
    let endpoint = WebServer::with_svid(&other, PATH, forged.clone()).await;
    let error = lab
        .peer(spiffe_source(&endpoint, path.clone()))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "untrusted_ca", "{error}");
    assert!(error.to_string().contains("bootstrap file"), "{error}");

    let endpoint = WebServer::with_svid(&ca, "/collector", forged.clone()).await;
    let error = lab
        .peer(spiffe_source(&endpoint, path.clone()))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "unexpected_peer", "{error}");

    let stranger = TestAuthority::new("kyushu.example");
    let endpoint = WebServer::with_svid(&stranger, PATH, forged).await;
    let error = lab
        .peer(spiffe_source(&endpoint, path))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "unknown_trust_domain", "{error}");
    assert_eq!(lab.published(), Some(bundle_of(&ca, 4)));
}

#[tokio::test]
async fn the_endpoint_is_verified_by_the_last_bundle_fetched_not_by_the_bootstrap_file() {
    let lab = Lab::new().await;
    let (first, second) = (
        TestAuthority::new("tokyo.example"),
        TestAuthority::new("tokyo.example"),
    );
    let path = lab.write("bootstrap.json", &bundle_of(&first, 1).to_document());
    let rotated = bundle_of(&second, 2);
    let endpoint = WebServer::with_svid(&first, PATH, ok_document(&rotated)).await;
    lab.peer(spiffe_source(&endpoint, path.clone()))
        .refresh()
        .await
        .unwrap();
    assert_eq!(lab.published(), Some(rotated.clone()));

    // After a restart: the cache counts, and the old CA's word does not any longer.
    let mut peer = lab.peer(spiffe_source(&endpoint, path.clone()));
    peer.known = lab.known().await;
    assert_eq!(peer.refresh().await.unwrap_err().label(), "untrusted_ca");
    let endpoint = WebServer::with_svid(&second, PATH, ok_document(&rotated)).await;
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    peer.known = lab.known().await;
    peer.refresh().await.unwrap();
}

#[tokio::test]
async fn a_new_bootstrap_file_starts_trust_anew_after_a_peer_lost_its_ca() {
    let lab = Lab::new().await;
    let (lost, new) = (
        TestAuthority::new("tokyo.example"),
        TestAuthority::new("tokyo.example"),
    );
    let path = lab.write("bootstrap.json", &bundle_of(&lost, 40).to_document());
    let endpoint = WebServer::with_svid(&new, PATH, ok_document(&bundle_of(&new, 1))).await;
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    assert_eq!(peer.refresh().await.unwrap_err().label(), "untrusted_ca");

    lab.write("bootstrap.json", &bundle_of(&new, 1).to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published(), Some(bundle_of(&new, 1)));
}

#[tokio::test]
async fn an_older_copy_in_the_bootstrap_file_takes_nothing_back() {
    let lab = Lab::new().await;
    let (first, second) = (
        TestAuthority::new("tokyo.example"),
        TestAuthority::new("tokyo.example"),
    );
    let mut both = bundle_of(&first, 2);
    both.x509_authorities.push(second.certificate());
    let endpoint = WebServer::with_svid(&first, PATH, ok_document(&both)).await;
    let path = lab.write("bootstrap.json", &both.to_document());
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    peer.refresh().await.unwrap();
    lab.write("bootstrap.json", &bundle_of(&first, 1).to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published(), Some(both));
}

#[tokio::test]
async fn unchanged_bundles_wake_nobody() {
    let lab = Lab::new().await;
    let path = lab.write("tokyo.json", &tokyo_bundle(1).to_document());
    let mut peer = lab.peer(BundleSource::File(path));
    peer.refresh().await.unwrap();
    let mut follower: watch::Receiver<Arc<BundleSet>> = lab.context.bundles.subscribe();
    follower.mark_unchanged();
    peer.refresh().await.unwrap();
    assert!(!follower.has_changed().unwrap());
}

#[tokio::test]
async fn an_empty_bootstrap_file_is_told_at_first_and_ends_trust_later() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let endpoint = WebServer::with_svid(&ca, PATH, ok_document(&bundle_of(&ca, 4))).await;
    let path = lab.write("bootstrap.json", r#"{"keys":[]}"#);
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    let error = peer.refresh().await.unwrap_err();
    assert_eq!(error.label(), "empty_bootstrap");
    let text = error.to_string();
    assert!(text.contains("bootstrap.json has no X.509"), "{text}");
    assert_eq!(lab.published(), None);

    lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published(), Some(bundle_of(&ca, 4)));

    lab.write("bootstrap.json", r#"{"keys":[]}"#);
    assert_eq!(peer.refresh().await.unwrap_err().label(), "untrusted_ca");
    assert!(lab.published().unwrap().x509_authorities.is_empty());
    lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());
    peer.refresh().await.unwrap();
    assert_eq!(lab.published(), Some(bundle_of(&ca, 4)));
}

#[tokio::test]
async fn a_link_that_was_down_until_its_last_bundle_expired_says_so() {
    let mut lab = Lab::new().await;
    let (known, new) = (
        TestAuthority::new("tokyo.example"),
        TestAuthority::new("tokyo.example"),
    );
    let path = lab.write("bootstrap.json", &bundle_of(&known, 4).to_document());
    let endpoint = WebServer::with_svid(&new, PATH, ok_document(&bundle_of(&new, 5))).await;
    let before = lab.peer(spiffe_source(&endpoint, path.clone()));
    let error = refresh_dropped(before).await;
    assert_eq!(error.label(), "untrusted_ca", "{error}");

    // The authorities of these tests live for one more day.
    lab.set_clock(OffsetDateTime::now_utc() + time::Duration::days(2));
    let error = refresh_dropped(lab.peer(spiffe_source(&endpoint, path.clone()))).await;
    assert_eq!(error.label(), "bundle_ended", "{error}");
    let text = error.to_string();
    for words in ["tokyo.example", "expired at", "bootstrap.json"] {
        assert!(text.contains(words), "{text}");
    }

    lab.write("bootstrap.json", &bundle_of(&new, 5).to_document());
    let mut peer = lab.peer(spiffe_source(&endpoint, path));
    peer.refresh().await.unwrap();
}

/// A refresh that fails, by a loop that ends with it.
async fn refresh_dropped(mut peer: PeerLoop) -> PeerFetchError {
    peer.refresh().await.unwrap_err()
}

#[tokio::test]
async fn status_and_metrics_say_when_a_peers_bundle_expires() {
    let lab = Lab::new().await;
    let bundle = tokyo_bundle(1);
    let path = lab.write("tokyo.json", &bundle.to_document());
    let source = BundleSource::File(path);
    lab.context.states.start(&tokyo(), &source);
    let mut peer = lab.peer(source);
    peer.refresh().await.unwrap();
    let end = bundle.end().unwrap().not_after;
    assert_eq!(lab.context.states.all()[0].bundle_end, Some(end));
}

#[tokio::test]
async fn a_redirect_of_https_web_is_followed_to_a_host_with_a_certificate_for_it() {
    let lab = Lab::new().await;
    let bundle = tokyo_bundle(3);
    let target = WebServer::answering(ok_document(&bundle)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = target.url().to_string();
        let first = WebServer::answering(redirect(status, &location)).await;
        let roots = format!("{}{}", first.certificate_pem, target.certificate_pem);
        let roots = lab.write("roots.pem", &roots);
        let mut peer = lab.peer(web_source(first.address, Some(roots)));
        peer.refresh().await.unwrap();
        assert_eq!(lab.published(), Some(bundle.clone()), "{status}");
        // Not trusted: nobody vouches for the new host.
        let alone = first.source(lab.folder.path());
        let error = lab.peer(alone).refresh().await.unwrap_err();
        assert_eq!(error.label(), "handshake", "{status}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_of_https_spiffe_is_followed_to_the_same_spiffe_id_alone() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let bootstrap = lab.write("bootstrap.json", &bundle_of(&ca, 4).to_document());
    let document = ok_document(&bundle_of(&ca, 5));
    for (path, label) in [("/collector", Some("unexpected_peer")), (PATH, None)] {
        let target = WebServer::with_svid(&ca, path, document.clone()).await;
        let moved = redirect(307, target.url().as_str());
        let first = WebServer::with_svid(&ca, PATH, moved).await;
        let mut peer = lab.peer(spiffe_source(&first, bootstrap.clone()));
        let refused = peer.refresh().await.err().map(|error| error.label());
        assert_eq!(refused, label);
    }
    assert_eq!(lab.published().unwrap().sequence, Some(5));
    // A certificate of the web is no SVID.
    let web = WebServer::answering(document).await;
    let first = WebServer::with_svid(&ca, PATH, redirect(307, web.url().as_str())).await;
    let error = lab.peer(spiffe_source(&first, bootstrap)).refresh().await;
    assert_eq!(error.unwrap_err().label(), "bad_svid");
}

#[tokio::test]
async fn a_failed_fetch_is_repeated_at_the_next_interval_once_the_link_is_established() {
    let lab = Lab::new().await;
    let ca = TestAuthority::new("tokyo.example");
    let minutes = |count| Duration::from_mins(count);
    let hour = Bundle {
        refresh_hint: Some(minutes(50)),
        ..bundle_of(&ca, 1)
    };
    let path = lab.write("bootstrap.json", &hour.to_document());
    let down = WebServer::with_svid(&ca, PATH, Vec::new()).await;
    let up = WebServer::with_svid(&ca, PATH, ok_document(&hour)).await;
    let mut peer = lab.peer(spiffe_source(&down, path.clone()));
    // Nothing has been fetched yet: it is tried again soon.
    assert!(peer.round().await < minutes(1));
    peer.set_source(spiffe_source(&up, path.clone()));
    assert!(peer.round().await > minutes(40));
    peer.set_source(spiffe_source(&down, path));
    for _ in 0..3 {
        assert!(peer.round().await > minutes(40));
    }
}
