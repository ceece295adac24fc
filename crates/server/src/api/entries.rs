//! The entries that the calling node may ask for. What others may is not found here.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use renkei_api::spire::api::{
    server::entry::v1::{
        EntryRevision, GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse,
        SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, entry_server::Entry,
    },
    types::{Entry as EntryMessage, EntryMask},
};
use renkei_spiffe::SpiffeId;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Shared, callers::AgentCaller, convert};
use crate::{entries::EntryHolder, nodes, store::Registered};

/// Entries or revisions in one message, as SPIRE has it.
const PAGE: usize = 500;

pub(super) struct Service(Arc<Shared>);

/// The entries of one node at one moment.
struct Held {
    parent: SpiffeId,
    federates_with: Vec<String>,
    entries: Vec<Registered>,
}

impl Held {
    fn message(&self, known: &Registered, mask: &EntryMask) -> Option<EntryMessage> {
        convert::entry(known, &self.parent, &self.federates_with, mask)
    }

    fn all(&self, mask: &EntryMask) -> Vec<EntryMessage> {
        let entries = self.entries.iter();
        entries
            .filter_map(|known| self.message(known, mask))
            .collect()
    }
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn held(&self, caller: &AgentCaller) -> Held {
        let parts = &self.0.parts;
        let holder = nodes::holder(caller.id());
        let mut entries = parts.entries.held_by(&holder);
        if holder == EntryHolder::Agent {
            // Such an agent takes no entry without selectors.
            entries.retain(|known| !known.entry.selectors.is_empty());
        }
        let bundles = parts.bundles.snapshot();
        let others = bundles.iter().map(|bundle| &bundle.trust_domain);
        let others = others.filter(|name| **name != parts.trust_domain);
        Held {
            parent: caller.id().clone(),
            federates_with: others.map(ToString::to_string).collect(),
            entries,
        }
    }
}

#[tonic::async_trait]
impl Entry for Service {
    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let held = self.held(&AgentCaller::of(&request)?);
        let mask = request.into_inner().output_mask;
        let entries = held.all(&mask.unwrap_or_else(convert::whole_entry));
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    /// Few entries are sent at once. Of many, the revisions are sent first, and then the entries
    /// that the node asks for.
    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<BoxStream<SyncAuthorizedEntriesResponse>>, Status> {
        let held = self.held(&AgentCaller::of(&request)?);
        let mut asked = request.into_inner();
        let Some(first) = asked.message().await? else {
            return Err(Status::invalid_argument("the output mask comes first"));
        };
        if !first.ids.is_empty() {
            return Err(Status::invalid_argument(
                "the first request has an output mask and no IDs",
            ));
        }
        let mask = first.output_mask.unwrap_or_else(convert::whole_entry);
        if held.entries.len() <= PAGE {
            let whole = SyncAuthorizedEntriesResponse {
                entries: held.all(&mask),
                ..SyncAuthorizedEntriesResponse::default()
            };
            let answer = stream::once(async move { Ok(whole) });
            return Ok(Response::new(answer.boxed()));
        }
        let revisions = stream::iter(revisions(&held.entries).into_iter().map(Ok));
        let by_id = held.entries.iter().cloned();
        let by_id = by_id
            .map(|known| (known.entry.id.to_string(), known))
            .collect();
        let later = stream::unfold((asked, held, by_id), move |state| answer(state, mask));
        Ok(Response::new(revisions.chain(later).boxed()))
    }
}

fn revisions(entries: &[Registered]) -> Vec<SyncAuthorizedEntriesResponse> {
    let revision = |known: &Registered| EntryRevision {
        id: known.entry.id.to_string(),
        revision_number: convert::revision(known),
        created_at: known.since.unix_timestamp(),
    };
    let pages = entries.chunks(PAGE);
    let last = pages.len().saturating_sub(1);
    pages
        .enumerate()
        .map(|(page, entries)| SyncAuthorizedEntriesResponse {
            entry_revisions: entries.iter().map(revision).collect(),
            entries: Vec::new(),
            more: page < last,
        })
        .collect()
}

type Asking = (
    Streaming<SyncAuthorizedEntriesRequest>,
    Held,
    BTreeMap<String, Registered>,
);

async fn answer(
    (mut asked, held, by_id): Asking,
    mask: EntryMask,
) -> Option<(Result<SyncAuthorizedEntriesResponse, Status>, Asking)> {
    let request = match asked.message().await {
        Ok(request) => request?,
        Err(status) => return Some((Err(status), (asked, held, by_id))),
    };
    if request.ids.len() > PAGE {
        let text = format!("at most {PAGE} entries can be asked for at once");
        return Some((Err(Status::invalid_argument(text)), (asked, held, by_id)));
    }
    let known = request.ids.iter().filter_map(|id| by_id.get(id));
    let entries = known.filter_map(|known| held.message(known, &mask));
    let response = SyncAuthorizedEntriesResponse {
        entries: entries.collect(),
        ..SyncAuthorizedEntriesResponse::default()
    };
    Some((Ok(response), (asked, held, by_id)))
}
