//! The running site at the other end of the control socket.

use std::path::Path;

use bytes::Bytes;
use miette::miette;
use renkei_api::{
    control::{Applied, BundleDocument, IssuedToken, NodeAnswer, Request},
    status::SiteStatus,
};
use renkei_runtime::control::{CallError, Client};
use renkei_spiffe::TrustDomain;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::place;

/// Asks the site that runs with a state folder.
pub(crate) struct SiteClient(Client);

impl SiteClient {
    pub(crate) fn new(state: &Path) -> Self {
        Self(Client::new(place::control_socket(state)))
    }

    pub(crate) async fn status(&self) -> Result<SiteStatus, CallError> {
        self.ask(&Request::Status).await
    }

    /// The status with every field that the site sends, for programs.
    pub(crate) async fn status_document(&self) -> Result<Value, CallError> {
        self.ask(&Request::Status).await
    }

    pub(crate) async fn apply(&self) -> Result<Applied, CallError> {
        self.ask(&Request::Apply).await
    }

    /// The bundle of a peer, or the site's own, as a document.
    pub(crate) async fn bundle(&self, of: Option<TrustDomain>) -> Result<String, CallError> {
        let answer: BundleDocument = self.ask(&Request::Bundle(of)).await?;
        Ok(answer.document)
    }

    pub(crate) async fn node_token(
        &self,
        name: &str,
        seconds: u64,
    ) -> Result<IssuedToken, CallError> {
        let node = name.to_owned();
        self.ask(&Request::NodeToken { node, seconds }).await
    }

    pub(crate) async fn agent_token(&self, seconds: u64) -> Result<IssuedToken, CallError> {
        self.ask(&Request::AgentToken { seconds }).await
    }

    pub(crate) async fn ban_node(&self, name: &str) -> Result<(), CallError> {
        let answer = self.ask(&Request::BanNode(name.to_owned())).await;
        answer.map(|_: NodeAnswer| ())
    }

    /// Whether there was such a node.
    pub(crate) async fn remove_node(&self, name: &str) -> Result<bool, CallError> {
        let answer = self.ask(&Request::RemoveNode(name.to_owned())).await;
        answer.map(|answer: NodeAnswer| answer.was_known)
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, CallError> {
        let (method, path) = (request.method(), request.path());
        let answer = self.0.call(method, &path, Bytes::new()).await?;
        serde_json::from_value(answer).map_err(|error| CallError::BadAnswer {
            path: self.0.path().to_owned(),
            reason: error.to_string(),
        })
    }
}

/// A failed call with its hint.
pub(crate) fn explain(error: CallError) -> miette::Report {
    match error.hint() {
        Some(hint) => miette!(help = hint, "{error}"),
        None => miette!("{error}"),
    }
}
