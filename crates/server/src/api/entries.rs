//! Entries: those that the calling node may ask for, and all of them for managers.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use renkei_api::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest,
        BatchDeleteEntryResponse, BatchUpdateEntryRequest, BatchUpdateEntryResponse,
        CountEntriesRequest, CountEntriesResponse, EntryRevision, GetAuthorizedEntriesRequest,
        GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest, ListEntriesResponse,
        SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, batch_create_entry_response,
        batch_delete_entry_response, batch_update_entry_response, count_entries_request,
        entry_server::Entry, list_entries_request,
    },
    types::{Entry as EntryMessage, EntryMask},
};
use renkei_spiffe::SpiffeId;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Shared, callers::AgentCaller, convert, entry_changes, registrations};
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
        let attributes = &known.entry.attributes;
        let Some(parent) = &attributes.parent else {
            return convert::entry(known, &self.parent, &self.federates_with, mask);
        };
        let named = attributes.federates_with.iter();
        let named: Vec<String> = named.map(ToString::to_string).collect();
        convert::entry(known, parent, &named, mask)
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
        if matches!(holder, EntryHolder::Agent(_)) {
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

    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = request.into_inner().filter.map(same);
        let count = registrations::count(&self.0, filter)?;
        Ok(Response::new(CountEntriesResponse { count }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        registrations::list(&self.0, request.into_inner()).map(Response::new)
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<EntryMessage>, Status> {
        let GetEntryRequest { id, output_mask } = request.into_inner();
        registrations::get(&self.0, &id, output_mask.as_ref()).map(Response::new)
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let asked = request.into_inner();
        let mask = asked.output_mask.as_ref();
        let items = entry_changes::create(&self.0, asked.entries, mask).await?;
        let results = items.into_iter().map(|(status, entry)| {
            let status = Some(status);
            batch_create_entry_response::Result { status, entry }
        });
        let results = results.collect();
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let asked = request.into_inner();
        let (input, output) = (asked.input_mask, asked.output_mask.as_ref());
        let items = entry_changes::update(&self.0, asked.entries, input, output).await?;
        let results = items.into_iter().map(|(status, entry)| {
            let status = Some(status);
            batch_update_entry_response::Result { status, entry }
        });
        let results = results.collect();
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let items = entry_changes::delete(&self.0, request.into_inner().ids).await?;
        let results = items.into_iter().map(|(status, id)| {
            let status = Some(status);
            batch_delete_entry_response::Result { status, id }
        });
        let results = results.collect();
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }
}

/// The two requests have the same filter.
fn same(filter: count_entries_request::Filter) -> list_entries_request::Filter {
    list_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
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
