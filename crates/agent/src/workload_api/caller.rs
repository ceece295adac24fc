//! Which workloads the process at the other end of a connection is.

use std::sync::Arc;

use renkei_api::node::{AgentPart, Entry};
use renkei_grpc::Peer;
use renkei_runtime::{
    attest::{Attestors, SelectorIndex},
    process::{AttestError, Process},
};
use renkei_spiffe::SpiffeId;

/// A workload that a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entitlement {
    pub(super) hint: String,
    pub(super) id: SpiffeId,
}

/// The entries of a part, to be found by their selectors.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) part: Arc<AgentPart>,
    index: SelectorIndex,
}

impl Indexed {
    pub(super) fn new(part: Arc<AgentPart>) -> Self {
        let lists = part.entries.iter();
        let index = SelectorIndex::new(lists.map(|entry| entry.selectors.as_slice()));
        Self { part, index }
    }

    /// Every entry whose selectors all match the process as it is now: the default identities
    /// first, and otherwise in the order of their IDs. Blocks on files and the user database.
    pub(super) fn entitlements(
        &self,
        peer: &Peer,
        attestors: &Attestors,
    ) -> Result<Vec<Entitlement>, CallerRefusal> {
        let process = peer.process().map_err(CallerRefusal::not_attested)?;
        let unattested = |error: AttestError| CallerRefusal::not_attested(&error);
        let found = attestors.candidates(process, &self.index);
        let found = found.map_err(unattested)?.into_iter();
        let candidates: Vec<&Entry> = found.filter_map(|at| self.part.entries.get(at)).collect();
        let selectors = candidates.iter().flat_map(|entry| &entry.selectors);
        let examined = attestors.examine(process, selectors).map_err(unattested)?;
        let mut matching = candidates;
        matching.retain(|entry| examined.matches(&entry.selectors).is_ok());
        if matching.is_empty() {
            return Err(self.no_match(process, attestors));
        }
        matching.sort_by_key(|entry| !entry.is_default);
        let entitlement = |entry: &Entry| Entitlement {
            hint: entry.hint.clone(),
            id: entry.spiffe_id.clone(),
        };
        Ok(matching.into_iter().map(entitlement).collect())
    }

    /// Says of the first few workloads why the process is none of them.
    fn no_match(&self, process: &Process, attestors: &Attestors) -> CallerRefusal {
        const LOGGED: usize = 8;
        let shown: Vec<&Entry> = self.part.workloads().take(LOGGED).collect();
        let more = self.part.workloads().skip(LOGGED).count();
        let selectors = shown.iter().flat_map(|entry| &entry.selectors);
        let examined = match attestors.examine(process, selectors) {
            Ok(examined) => examined,
            Err(error) => return CallerRefusal::not_attested(&error),
        };
        let reason = |entry: &&Entry| {
            let mismatch = examined.matches(&entry.selectors).err()?;
            Some(format!("{}: {mismatch}", entry.name()))
        };
        let reasons: Vec<String> = shown.iter().filter_map(reason).collect();
        let process = format!("process {} of user ID {}", process.pid(), process.uid());
        let reasons = reasons.join("; ");
        CallerRefusal::NoMatch {
            caller: format!("no identity issued: {process} is no workload"),
            log: match (shown.is_empty(), more) {
                (true, _) => format!("{process}: this site has no workloads"),
                (_, 0) => format!("{process}: {reasons}"),
                _ => format!("{process}: {reasons}; and {more} more workloads"),
            },
        }
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
}
