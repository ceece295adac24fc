//! Which workloads the process at the other end of a connection is.

use renkei_api::node::AgentPart;
use renkei_grpc::Peer;
use renkei_runtime::{
    attest::Attestors,
    process::{AttestError, Process},
};
use renkei_spiffe::SpiffeId;

/// A workload that a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entitlement {
    pub(super) workload: String,
    pub(super) id: SpiffeId,
}

/// Every entry whose selectors all match the process as it is now, ordered by its ID. Blocks on
/// files and the user database.
pub(super) fn entitlements(
    peer: &Peer,
    part: &AgentPart,
    attestors: &Attestors,
) -> Result<Vec<Entitlement>, CallerRefusal> {
    let process = peer.process().map_err(CallerRefusal::not_attested)?;
    let selectors = part.workloads().flat_map(|entry| &entry.selectors);
    let examined = attestors
        .examine(process, selectors)
        .map_err(|error| CallerRefusal::not_attested(&error))?;
    let mut reasons = Vec::new();
    let mut entitlements = Vec::new();
    for entry in part.workloads() {
        match examined.matches(&entry.selectors) {
            Ok(()) => entitlements.push(Entitlement {
                workload: entry.hint.clone(),
                id: entry.spiffe_id.clone(),
            }),
            Err(mismatch) => reasons.push(format!("{}: {mismatch}", entry.hint)),
        }
    }
    if entitlements.is_empty() {
        Err(CallerRefusal::no_match(process, &reasons))
    } else {
        Ok(entitlements)
    }
}

/// Why a caller gets no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallerRefusal {
    /// The process has ended.
    Ended(String),
    /// The kernel does not let the process be examined.
    NotAttested(String),
    /// It is no workload.
    NoMatch {
        /// For the caller: about itself only.
        caller: String,
        /// For the log: what each workload asks for.
        log: String,
    },
}

impl CallerRefusal {
    fn not_attested(error: &AttestError) -> Self {
        match error {
            AttestError::Gone(_) => Self::Ended(error.to_string()),
            error => Self::NotAttested(error.to_string()),
        }
    }

    fn no_match(process: &Process, reasons: &[String]) -> Self {
        const LOGGED: usize = 8;
        let shown = reasons.get(..LOGGED).unwrap_or(reasons).join("; ");
        let more = reasons.len().saturating_sub(LOGGED);
        let process = format!("process {} of user ID {}", process.pid(), process.uid());
        Self::NoMatch {
            caller: format!("no identity issued: {process} is no workload"),
            log: match (reasons.len(), more) {
                (0, _) => format!("{process}: this site has no workloads"),
                (_, 0) => format!("{process}: {shown}"),
                _ => format!("{process}: {shown}; and {more} more workloads"),
            },
        }
    }
}
