//! Certificates from the server, over whatever connection there is to it now.

use renkei_api::{
    issue::{CertificateIssuer, IssueError, IssueFuture, SvidRequest},
    spire::api::server::svid::v1::{
        BatchNewX509svidRequest, BatchNewX509svidResponse, NewX509svidParams,
        batch_new_x509svid_response, svid_client::SvidClient,
    },
};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};

use super::attest::chain;

/// Asks the server for the certificates of the node's entries.
#[derive(Debug)]
pub(super) struct ServerIssuer(watch::Sender<Result<Channel, String>>);

impl ServerIssuer {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Err("not connected yet".to_owned())))
    }

    /// From now on requests go over this connection.
    pub(super) fn use_channel(&self, channel: Channel) {
        let _ = self.0.send_replace(Ok(channel));
    }

    /// The connection, or why there is none.
    pub(super) fn channel(&self) -> Result<Channel, String> {
        self.0.borrow().clone()
    }

    /// There is no connection, for this reason.
    pub(super) fn away(&self, reason: String) {
        let _ = self.0.send_replace(Err(reason));
    }
}

impl CertificateIssuer for ServerIssuer {
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_> {
        let channel = self.channel();
        Box::pin(async move {
            let channel = channel.map_err(IssueError::Unavailable)?;
            let params = NewX509svidParams {
                entry_id: request.entry.to_string(),
                csr: request.csr,
            };
            let batch = BatchNewX509svidRequest {
                params: vec![params],
            };
            let answer = SvidClient::new(channel).batch_new_x509svid(batch).await;
            read(answer.map_err(failed)?.into_inner())
        })
    }
}

fn read(answer: BatchNewX509svidResponse) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let unclear = || IssueError::Unavailable("the answer has no result".to_owned());
    let batch_new_x509svid_response::Result { status, svid } =
        answer.results.into_iter().next().ok_or_else(unclear)?;
    match status {
        Some(status) if status.code != 0 => Err(failed(Status::new(
            Code::from_i32(status.code),
            status.message,
        ))),
        _ => Ok(chain(svid.ok_or_else(unclear)?)),
    }
}

fn failed(status: Status) -> IssueError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition => IssueError::Refused(message),
        _ => IssueError::Unavailable(message),
    }
}
