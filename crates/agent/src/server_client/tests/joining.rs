use std::sync::Arc;

use renkei_api::node::{CaPin, JoinSecret, NodeToken};
use renkei_site::HostPort;
use renkei_testkit::free_address;
use rustls_pki_types::CertificateDer;

use super::server::TestServer;
use crate::{
    server_client::{ConnectError, JoinError, Joined, join},
    testing::{id, provider, within},
};

async fn joins(server: &TestServer, token: &NodeToken) -> Result<Joined, JoinError> {
    within(join(&server.address(), token, &provider())).await
}

#[tokio::test]
async fn a_token_makes_a_node_of_a_machine_once() {
    let server = TestServer::start().await;
    let joined = joins(&server, &server.token()).await.unwrap();
    assert_eq!(joined.name, "store");
    assert_eq!(*joined.svid.id(), id("renkei/node/store"));
    let ca = server.state.signer.certificate();
    assert_eq!(joined.bundle.x509_authorities, [ca]);

    let again = joins(&server, &server.token()).await.unwrap_err();
    let sentence = "the server refuses this node: the token has been used already";
    assert_eq!(again.to_string(), sentence);
    assert!(again.hint().contains("renkei node token"), "{again:?}");
}

#[tokio::test]
async fn a_server_that_the_token_does_not_mean_gets_no_secret() {
    let server = TestServer::start().await;
    let other = NodeToken {
        ca: CaPin::of(&CertificateDer::from(b"another CA".to_vec())),
        ..server.token()
    };
    let refused = joins(&server, &other).await.unwrap_err();
    let expected = matches!(refused, JoinError::Connect(ConnectError::OtherCa(_)));
    assert!(expected, "{refused:?}");

    // A workload of the site is not its server, whatever CA it has.
    *server.state.own_id.lock().unwrap() = id("collector");
    let refused = joins(&server, &server.token()).await.unwrap_err();
    assert!(
        refused.to_string().contains("osaka.example/collector"),
        "{refused}"
    );

    // The token is as good as before.
    *server.state.own_id.lock().unwrap() = id("spire/server");
    joins(&server, &server.token()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_node_does_not_become_one() {
    let server = TestServer::start().await;
    let forged = NodeToken {
        secret: JoinSecret::new([8; 32]),
        ..server.token()
    };
    let refused = joins(&server, &forged).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused(_)), "{refused:?}");

    *server.state.node_id.lock().unwrap() = id("spire/agent/join_token/x");
    let refused = joins(&server, &server.token()).await.unwrap_err();
    assert!(matches!(refused, JoinError::NotANode(_)), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_its_address() {
    let server = TestServer::start().await;
    let nobody: HostPort = free_address().into();
    let refused = within(join(&nobody, &server.token(), &Arc::clone(&provider()))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(&nobody.to_string()), "{refused}");
}
