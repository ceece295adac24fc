//! What a running site's server answers about its nodes.

use std::time::Duration;

use http::StatusCode;
use renkei_api::control::{IssuedToken, NodeAnswer};
use renkei_runtime::control::ControlError;
use renkei_server::{NodeError, Server, TokenError};

use crate::identity::Plane;

/// A token that lives longer lies around for too long.
const LONGEST: Duration = Duration::from_hours(30 * 24);

pub(super) async fn node_token(
    plane: &Plane,
    node: &str,
    seconds: u64,
) -> Result<IssuedToken, ControlError> {
    let made = server(plane)?.node_token(node, life(seconds)?).await;
    let (token, expires_at) = made.map_err(no_token)?;
    let token = token.to_string();
    Ok(IssuedToken { token, expires_at })
}

pub(super) async fn agent_token(plane: &Plane, seconds: u64) -> Result<IssuedToken, ControlError> {
    let made = server(plane)?.agent_token(life(seconds)?).await;
    let (token, expires_at) = made.map_err(no_token)?;
    Ok(IssuedToken { token, expires_at })
}

pub(super) async fn ban(plane: &Plane, name: &str) -> Result<NodeAnswer, ControlError> {
    server(plane)?.ban_node(name).await.map_err(not_done)?;
    tracing::info!(name, "a node is banned");
    Ok(NodeAnswer { was_known: true })
}

pub(super) async fn remove(plane: &Plane, name: &str) -> Result<NodeAnswer, ControlError> {
    let was_known = server(plane)?.remove_node(name).await.map_err(not_done)?;
    tracing::info!(name, was_known, "a node is removed");
    Ok(NodeAnswer { was_known })
}

fn server(plane: &Plane) -> Result<&Server, ControlError> {
    plane.own_server().ok_or_else(|| {
        ControlError::bad_request("this site has no server of its own (--workload-api)")
            .with_hint("ask the server that its identities come from")
    })
}

fn life(seconds: u64) -> Result<Duration, ControlError> {
    let life = Duration::from_secs(seconds);
    match (Duration::from_secs(1)..=LONGEST).contains(&life) {
        true => Ok(life),
        false => Err(ControlError::bad_request(
            "a token lives from 1 second to 30 days",
        )),
    }
}

fn no_token(error: TokenError) -> ControlError {
    let text = error.to_string();
    match error {
        TokenError::UnknownNode(_) => ControlError::new(StatusCode::NOT_FOUND, text),
        TokenError::NoServer => ControlError::new(StatusCode::CONFLICT, text).with_hint(
            "add `server: {listen: 0.0.0.0:8081, advertise: HOST:8081}` to the site file, and \
             start the site again",
        ),
        _ => ControlError::new(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

fn not_done(error: NodeError) -> ControlError {
    let status = match error {
        NodeError::Name { .. } => StatusCode::BAD_REQUEST,
        NodeError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    ControlError::new(status, error.to_string())
}
