//! Refusals in the form that SPIRE's agents understand: they shut down, attest again or wait by
//! the reason in the details.

use prost::Message;
use renkei_api::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use tonic::{Code, Status};

use crate::{StoreError, nodes::NotActive};

const TYPE_URL: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// `google.rpc.Status`, which gRPC carries in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// PERMISSION_DENIED with its reason.
pub(super) fn denied(reason: Reason, text: impl Into<String>) -> Status {
    let message = text.into();
    let details = PermissionDeniedDetails {
        reason: reason.into(),
    };
    let any = prost_types::Any {
        type_url: TYPE_URL.to_owned(),
        value: details.encode_to_vec(),
    };
    let status = RpcStatus {
        code: Code::PermissionDenied.into(),
        message: message.clone(),
        details: vec![any],
    };
    Status::with_details(
        Code::PermissionDenied,
        message,
        status.encode_to_vec().into(),
    )
}

impl From<NotActive> for Status {
    fn from(why: NotActive) -> Self {
        let reason = match why {
            NotActive::NotAttested(_) => Reason::AgentNotAttested,
            NotActive::Replaced(_) => Reason::AgentNotActive,
            NotActive::Banned(_) => Reason::AgentBanned,
            NotActive::Expired(_) => Reason::AgentExpired,
        };
        denied(reason, why.to_string())
    }
}

/// A change that the database did not take. The log says why.
pub(super) fn kept(error: StoreError) -> Status {
    match &error {
        StoreError::ForeignEntry { .. } => Status::failed_precondition(error.to_string()),
        _ => {
            tracing::error!(%error, "a change by the server API is not on record");
            Status::unavailable("the server's database failed; try again later")
        }
    }
}
