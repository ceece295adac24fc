//! Whether the server wants nothing more of this node. SPIRE's servers give the reason of
//! PERMISSION_DENIED in the details of the status.

use prost::Message;
use renkei_api::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use tonic::{Code, Status};

const TYPE: &str = "spire.api.types.PermissionDeniedDetails";

/// `google.rpc.Status`, which gRPC carries in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<prost_types::Any>,
}

/// Whether the node was banned or removed. An SVID that is out of date is no such reason.
pub(super) fn is_shut_out(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
        && matches!(
            reason(status),
            Some(Reason::AgentBanned | Reason::AgentNotAttested)
        )
}

fn reason(status: &Status) -> Option<Reason> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let is_reason = |any: &&prost_types::Any| any.type_url.rsplit('/').next() == Some(TYPE);
    let any = details.iter().find(is_reason)?;
    let details = PermissionDeniedDetails::decode(any.value.as_slice()).ok()?;
    Reason::try_from(details.reason).ok()
}

/// As a server says it.
#[cfg(test)]
pub(super) fn denied(reason: Reason) -> Status {
    let details = PermissionDeniedDetails {
        reason: reason.into(),
    };
    let status = RpcStatus {
        code: Code::PermissionDenied.into(),
        message: "denied".to_owned(),
        details: vec![prost_types::Any {
            type_url: format!("type.googleapis.com/{TYPE}"),
            value: details.encode_to_vec(),
        }],
    };
    let details = status.encode_to_vec().into();
    Status::with_details(Code::PermissionDenied, "denied", details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_told_from_an_svid_that_is_out_of_date() {
        for reason in [Reason::AgentBanned, Reason::AgentNotAttested] {
            assert!(is_shut_out(&denied(reason)), "{reason:?}");
        }
        for reason in [
            Reason::AgentExpired,
            Reason::AgentNotActive,
            Reason::Unknown,
        ] {
            assert!(!is_shut_out(&denied(reason)), "{reason:?}");
        }
        assert!(!is_shut_out(&Status::permission_denied("no details")));
        let garbage = Status::with_details(Code::PermissionDenied, "", b"\xff\xff".to_vec().into());
        assert!(!is_shut_out(&garbage));
    }
}
