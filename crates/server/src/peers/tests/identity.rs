//! Peers that are known by their identity, with real TLS to the server at their address.

use renkei_federation::{
    BundleStatement, Digest, Envelope, KeySet, MAX_RECORD_BYTES, SigningKey, SiteRecord, SiteRoot,
    Statement, Withdrawal,
};
use renkei_site::{BundleWay, HostPort, PinnedIdentity};
use time::Duration as Span;

use super::*;
use crate::federation::import_removal;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// A site whose root keys, online key and recovery key follow from a number.
#[derive(Clone, Copy)]
struct Owner(u8);

impl Owner {
    fn root(self, version: u64, prev: Option<Digest>, online: &SigningKey) -> Envelope {
        let root = SiteRoot {
            trust_domain: tokyo(),
            version,
            prev,
            root: KeySet {
                keys: vec![key(self.0).public()],
                threshold: 1,
            },
            online_keys: vec![online.public()],
            recovery_keys: vec![key(self.0 + 1).public()],
            expires: OffsetDateTime::now_utc() + Span::days(365),
        };
        Envelope::sign(Statement::SiteRoot(root), &[&key(self.0)]).unwrap()
    }
}

/// What such a site has said so far.
struct Said {
    roots: Vec<Envelope>,
    online: SigningKey,
    life: Span,
}

impl Said {
    fn by(owner: Owner) -> Self {
        let online = key(owner.0 + 2);
        Self {
            roots: vec![owner.root(1, None, &online)],
            online,
            life: Span::days(7),
        }
    }

    fn identity(&self) -> Digest {
        self.roots[0].digest()
    }

    fn renew(&mut self, owner: Owner, online: SigningKey) {
        let (version, prev) = (self.roots.len() as u64 + 1, self.roots.last().unwrap());
        let next = owner.root(version, Some(prev.digest()), &online);
        self.roots.push(next);
        self.online = online;
    }

    fn statement(&self, sequence: u64) -> Envelope {
        let now = OffsetDateTime::now_utc();
        let document = tokyo_bundle(sequence).to_document();
        let statement = BundleStatement {
            trust_domain: tokyo(),
            genesis: self.identity(),
            root_version: self.roots.len() as u64,
            sequence,
            bundle: serde_json::from_str(&document).unwrap(),
            bundle_endpoint: None,
            gateways: vec![],
            services: BTreeMap::new(),
            issued: now - Span::hours(1),
            expires: now - Span::hours(1) + self.life,
        };
        Envelope::sign(Statement::Bundle(statement), &[&self.online]).unwrap()
    }

    fn record(&self, sequence: u64) -> Vec<u8> {
        let statements = self.roots.iter().cloned().chain([self.statement(sequence)]);
        SiteRecord::new(statements).unwrap().to_bytes().unwrap()
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A peer with this identity, as after a start of the site.
async fn started(lab: &Lab, identity: Digest) -> PeerLoop {
    let digest = identity.to_string();
    let pinned = PinnedIdentity {
        digest,
        at_least: 1,
    };
    let mut peer = lab.peer(BundleSource::Identity(pinned));
    // No server answers: only what is stored is used.
    peer.set_way("127.0.0.1:1");
    peer.refresh().await.unwrap_err();
    peer
}

/// Asks a server that answers with this.
async fn answered(peer: &mut PeerLoop, reply: Vec<u8>) -> Result<(), PeerFetchError> {
    let server = WebServer::answering(reply).await;
    peer.set_way(&server.address.to_string());
    peer.refresh().await
}

impl PeerLoop {
    fn set_way(&mut self, dial: &str) {
        let dial = HostPort::parse(dial).unwrap();
        let name = tokyo().to_string();
        self.peer.way = Some(BundleWay { dial, name });
    }
}

fn sequence(lab: &Lab) -> Option<u64> {
    lab.published().and_then(|bundle| bundle.sequence)
}

#[tokio::test]
async fn a_peer_is_followed_from_site_root_to_site_root_and_never_back() {
    let (lab, owner) = (Lab::new().await, Owner(10));
    let mut said = Said::by(owner);
    let mut peer = started(&lab, said.identity()).await;
    assert_eq!(sequence(&lab), None);
    answered(&mut peer, ok(&said.record(5))).await.unwrap();
    assert_eq!(sequence(&lab), Some(5));
    let first = said.record(6);
    said.renew(owner, key(99));
    // The number begins again under another online key.
    answered(&mut peer, ok(&said.record(2))).await.unwrap();
    assert_eq!(sequence(&lab), Some(2));

    for peer in [&mut peer, &mut started(&lab, said.identity()).await] {
        assert_eq!(sequence(&lab), Some(2), "as it was stored");
        for (older, words) in [
            (first.clone(), "version 1 of its site root, and version 2"),
            (said.record(1), "the sequence 1, and 2 was seen before"),
            (said.record(2), "another bundle statement 2"),
        ] {
            let refused = answered(peer, ok(&older)).await.unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            assert_eq!(sequence(&lab), Some(2));
        }
    }
    answered(&mut peer, ok(&said.record(3))).await.unwrap();
    assert_eq!(sequence(&lab), Some(3));
}

#[tokio::test]
async fn what_another_party_answers_changes_nothing() {
    let lab = Lab::new().await;
    let said = Said::by(Owner(10));
    let mut peer = started(&lab, said.identity()).await;
    let bundle = tokyo_bundle(9).to_document();
    let long = vec![b'x'; MAX_RECORD_BYTES + 1];
    // Made once: another statement of the same number is refused.
    let good = said.record(4);
    for known in [None, Some(4)] {
        for (reply, label) in [
            (ok(&Said::by(Owner(40)).record(9)), "identity"),
            (ok(bundle.as_bytes()), "no_record"),
            (
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
                "no_record",
            ),
            (redirect(302, "https://127.0.0.1/"), "http"),
            (ok(&long), "too_long"),
            (ok(b"{}"), "record"),
            (ok(b""), "record"),
        ] {
            let refused = answered(&mut peer, reply).await.unwrap_err();
            assert_eq!(refused.label(), label, "{refused}");
            assert_eq!(sequence(&lab), known);
        }
        answered(&mut peer, ok(&good)).await.unwrap();
        assert_eq!(sequence(&lab), Some(4));
    }
}

#[tokio::test]
async fn a_bundle_is_dropped_when_its_statement_expires_and_comes_back_with_the_next() {
    let mut lab = Lab::new().await;
    let mut said = Said::by(Owner(10));
    let mut peer = started(&lab, said.identity()).await;
    answered(&mut peer, ok(&said.record(1))).await.unwrap();
    drop(peer);
    lab.set_clock(OffsetDateTime::now_utc() + Span::days(8));
    let mut peer = started(&lab, said.identity()).await;
    assert_eq!(sequence(&lab), None);
    let expired = answered(&mut peer, ok(&said.record(2))).await.unwrap_err();
    assert_eq!(expired.label(), "not_valid", "{expired}");
    assert!(expired.to_string().contains("expired at"), "{expired}");
    said.life = Span::days(14);
    answered(&mut peer, ok(&said.record(3))).await.unwrap();
    assert_eq!(sequence(&lab), Some(3));
}

#[tokio::test]
async fn an_imported_withdrawal_of_the_right_keys_is_for_ever() {
    let (lab, owner) = (Lab::new().await, Owner(10));
    let said = Said::by(owner);
    let mut peer = started(&lab, said.identity()).await;
    answered(&mut peer, ok(&said.record(1))).await.unwrap();
    let import = |signer: &SigningKey| {
        let withdrawal = Withdrawal {
            trust_domain: tokyo(),
            genesis: said.identity(),
            reason: format!("by {}", signer.public()),
        };
        let envelope = Envelope::sign(Statement::Withdrawal(withdrawal), &[signer]);
        import_removal(&lab.context.state, &envelope.unwrap().to_bytes()).unwrap();
    };
    import(&said.online);
    answered(&mut peer, ok(&said.record(2))).await.unwrap();
    assert_eq!(sequence(&lab), Some(2));
    import(&key(owner.0 + 1));
    let gone = answered(&mut peer, ok(&said.record(3))).await.unwrap_err();
    assert!(gone.to_string().contains("withdrawn"), "{gone}");
    assert_eq!(sequence(&lab), None);
    fs::remove_dir_all(lab.context.state.join("federation")).unwrap();
    let mut peer = started(&lab, said.identity()).await;
    answered(&mut peer, ok(&said.record(4))).await.unwrap_err();
    assert_eq!(sequence(&lab), None);
}
