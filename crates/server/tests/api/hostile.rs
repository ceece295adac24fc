//! Clients that mean harm, and clients with faults: what they send is refused with a reason, uses up
//! no token, and keeps no one else out.

use std::{net::Ipv4Addr, process::Command};

use rcgen::{CertificateParams, KeyPair, SanType};
use renkei_api::spire::api::{
    server::{
        agent::v1::{AttestAgentRequest, agent_client::AgentClient, attest_agent_request::Step},
        svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::Status as ItemStatus,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use super::lab::{Lab, attest, csr, id, x509_svid};

/// Requests with an RSA key of 1,024 bits and with a curve of 224 bits.
fn weak_requests() -> Vec<Vec<u8>> {
    let kinds: [&[&str]; 2] = [
        &["-newkey", "rsa:1024"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"],
    ];
    let made = kinds.iter().map(|kind| {
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-nodes", "-subj", "/CN=weak"]);
        command.args(["-keyout", "/dev/null", "-outform", "DER"]);
        let made = command.args(*kind).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        made.stdout
    });
    made.collect()
}

/// Requests for certificates that no one may sign.
fn bad_requests() -> Vec<Vec<u8>> {
    let good = csr(&KeyPair::generate().unwrap());
    let mut forged = good.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let mut bad = weak_requests();
    bad.extend([
        Vec::new(),
        b"garbage".to_vec(),
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        vec![0x30; 60_000],
        good[..good.len() / 2].to_vec(),
        [good.as_slice(), &[0]].concat(),
        forged,
    ]);
    bad
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Status>) -> Status {
    answer.unwrap_err()
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_uses_up_no_token() {
    let lab = Lab::start().await;
    let secret = lab.node_secret("store").await;
    let channel = lab.stranger().await;
    for bad in bad_requests() {
        let first = bad.iter().take(8).copied().collect::<Vec<u8>>();
        let status = denied(attest(channel.clone(), "join_token", &secret, bad).await);
        assert_eq!(status.code(), Code::InvalidArgument, "{first:?}: {status}");
        assert!(!status.message().contains(&secret), "{status}");
    }
    // What is larger than a message may be ends with its request.
    let huge = attest(channel, "join_token", &secret, vec![0; 8 << 20]).await;
    denied(huge);
    lab.attest(&secret).await.unwrap();
}

#[tokio::test]
async fn a_node_gets_its_own_id_whatever_its_request_asks_for() {
    let lab = Lab::start().await;
    let (secret, key) = (lab.node_secret("store").await, KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec!["hokkaido.example".to_owned()]).unwrap();
    let other = "spiffe://hokkaido.example/spire/server".try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(other));
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let svid = attest(lab.stranger().await, "join_token", &secret, request).await;
    let svid = x509_svid(svid.unwrap(), &key);
    assert_eq!(svid.id(), &id("renkei/node/store"));
}

#[tokio::test]
async fn forged_tokens_and_steps_out_of_order_are_refused() {
    let lab = Lab::start().await;
    let secret = lab.node_secret("store").await;
    let upper = secret.to_uppercase();
    let longer = format!("{secret}x");
    let long = "x".repeat(10_000);
    let forged = [
        "",
        " ",
        "\0",
        "é",
        "store",
        "spiffe://hokkaido.example/spire/server",
    ];
    let near = [upper.as_str(), &longer, &secret[1..], &long];
    for token in forged.into_iter().chain(near) {
        if token == secret {
            continue;
        }
        let request = csr(&KeyPair::generate().unwrap());
        let answer = attest(lab.stranger().await, "join_token", token, request).await;
        assert_eq!(denied(answer).code(), Code::InvalidArgument, "{token:?}");
    }
    for step in [
        None,
        Some(Step::ChallengeResponse(b"out of order".to_vec())),
    ] {
        let request = futures_util::stream::iter([AttestAgentRequest { step }]);
        let mut client = AgentClient::new(lab.stranger().await);
        let status = denied(client.attest_agent(request).await.map(|_| ()));
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    lab.attest(&secret).await.unwrap();
}

async fn batch(channel: Channel, params: Vec<NewX509svidParams>) -> Result<Vec<i32>, Status> {
    let mut client = SvidClient::new(channel);
    let request = BatchNewX509svidRequest { params };
    let answer = client.batch_new_x509svid(request).await?.into_inner();
    let code = |status: Option<ItemStatus>| status.map_or(0, |status| status.code);
    let results = answer.results.into_iter();
    Ok(results.map(|result| code(result.status)).collect())
}

#[tokio::test]
async fn one_bad_request_of_a_batch_spoils_no_other() {
    let lab = Lab::start().await;
    let store = lab.join("store").await;
    let channel = store.channel(&lab).await;
    let good = csr(&KeyPair::generate().unwrap());
    let mine = "file.workload.anywhere".to_owned();
    let params = |entry: &str, csr: &[u8]| NewX509svidParams {
        entry_id: entry.to_owned(),
        csr: csr.to_vec(),
    };
    let bad = bad_requests();
    let mut wanted: Vec<_> = bad.iter().map(|csr| params(&mine, csr)).collect();
    wanted.push(params(&mine, &good));
    for foreign in ["file.workload.there", "file.service.web", "", "../x", "\0"] {
        wanted.push(params(foreign, &good));
    }
    let codes = batch(channel.clone(), wanted).await.unwrap();
    let (of_bad, rest) = codes.split_at(bad.len());
    assert!(
        of_bad
            .iter()
            .all(|code| *code == i32::from(Code::InvalidArgument)),
        "{codes:?}"
    );
    assert_eq!(rest[0], i32::from(Code::Ok), "{codes:?}");
    assert!(
        rest[1..]
            .iter()
            .all(|code| *code == i32::from(Code::NotFound)),
        "{codes:?}"
    );
    for number in [0, 501] {
        let many = vec![params(&mine, &good); number];
        let status = denied(batch(channel.clone(), many).await);
        assert_eq!(status.code(), Code::InvalidArgument, "{number}");
    }
}

/// 10,000 attestations at once: half from one address, half from fifty others.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_attestations_is_refused_and_keeps_no_node_out() {
    let lab = Lab::start().await;
    let secret = lab.node_secret("store").await;
    let request = csr(&KeyPair::generate().unwrap());
    let mut clients = vec![(lab.stranger().await, 5_000)];
    for host in 1..=50 {
        let from = Ipv4Addr::new(127, 0, 9, host);
        clients.push((lab.client_from(None, from).await.unwrap(), 100));
    }
    let mut asked = JoinSet::new();
    for (channel, number) in clients {
        for at in 0..number {
            let (channel, request) = (channel.clone(), request.clone());
            asked.spawn(async move {
                let token = format!("forged-{at}");
                let answer = attest(channel, "join_token", &token, request).await;
                denied(answer).code()
            });
        }
    }
    // A node that comes from elsewhere joins meanwhile.
    let channel = lab.client_from(None, Ipv4Addr::new(127, 0, 8, 1)).await;
    let joined = attest(channel.unwrap(), "join_token", &secret, request).await;
    joined.unwrap();
    let codes = asked.join_all().await;
    assert_eq!(codes.len(), 10_000);
    let count = |code| codes.iter().filter(|found| **found == code).count();
    let (forged, too_many) = (count(Code::InvalidArgument), count(Code::ResourceExhausted));
    assert_eq!(forged + too_many, 10_000, "{codes:?}");
    assert!(too_many > 0 && forged >= 50, "{forged} {too_many}");
}
