//! Entries are made, changed and deleted. Each item of a batch has a status of its own; the batch
//! is one transaction. Entries of the site file are changed there.

use std::{collections::VecDeque, sync::Arc};

use renkei_api::{
    node::EntryId,
    spire::api::types::{Entry, EntryMask, Status as ItemStatus},
};
use tonic::{Code, Status};

use super::{
    Shared, convert,
    entry_form::{self, Form},
    refusal::kept,
    registrations::View,
};
use crate::{entries::Draft, store::EntrySource};

/// Entries in one request.
const BATCH: usize = 1_000;

/// What became of one item.
pub(super) enum Outcome {
    Done(EntryId),
    /// An equal entry exists.
    Exists(EntryId),
    Refused(Code, String),
}

type Item = (ItemStatus, Option<Entry>);

fn refused(text: impl Into<String>) -> Outcome {
    Outcome::Refused(Code::InvalidArgument, text.into())
}

fn check_batch(count: usize) -> Result<(), Status> {
    match count > BATCH {
        true => Err(Status::invalid_argument(format!(
            "a batch has {BATCH} entries at most, not {count}"
        ))),
        false => Ok(()),
    }
}

/// The statuses, and the entries as they are now.
fn items(shared: &Shared, outcomes: Vec<Outcome>, mask: Option<&EntryMask>) -> Vec<Item> {
    let view = View::of(shared);
    let message = |id: &EntryId| {
        let known = shared.parts.entries.get(id)?;
        view.message(&known, mask)
    };
    let item = |outcome: Outcome| match outcome {
        Outcome::Done(id) => (convert::status(Code::Ok, "OK"), message(&id)),
        Outcome::Exists(id) => (
            convert::status(Code::AlreadyExists, "similar entry already exists"),
            message(&id),
        ),
        Outcome::Refused(code, text) => (convert::status(code, text), None),
    };
    outcomes.into_iter().map(item).collect()
}

pub(super) async fn create(
    shared: &Arc<Shared>,
    entries: Vec<Entry>,
    mask: Option<&EntryMask>,
) -> Result<Vec<Item>, Status> {
    check_batch(entries.len())?;
    let parts = &shared.parts;
    let random = parts.provider.secure_random;
    let new = entries.iter().map(|_| entry_form::new_id(random));
    let mut new: VecDeque<EntryId> = new.collect::<Result<_, Status>>()?;
    let view = View::of(shared);
    let form = Form {
        trust_domain: &parts.trust_domain,
        known: &view.peers,
    };
    let outcomes = parts.entries.edit((parts.clock)(), |draft| {
        let made = entries.into_iter().map(|entry| {
            let id = match (entry.id.as_str(), new.pop_front()) {
                ("", Some(id)) => Ok(id),
                (text, _) => entry_form::chosen_id(text),
            };
            match id.and_then(|id| form.parse(id, entry)) {
                Ok(entry) => create_one(draft, entry),
                Err(fault) => refused(format!("failed to convert entry: {fault}")),
            }
        });
        made.collect::<Vec<_>>()
    });
    Ok(items(shared, outcomes.await.map_err(kept)?, mask))
}

fn create_one(draft: &mut Draft, entry: crate::store::Registration) -> Outcome {
    if let Some(equal) = draft.equal_to(&entry) {
        return Outcome::Exists(equal.clone());
    }
    let id = entry.id.clone();
    if draft.get(&id).is_some() {
        return Outcome::Exists(id);
    }
    if !draft.has_place() {
        let status = entry_form::too_many();
        return Outcome::Refused(status.code(), status.message().to_owned());
    }
    draft.put(entry);
    Outcome::Done(id)
}

pub(super) async fn update(
    shared: &Arc<Shared>,
    entries: Vec<Entry>,
    input: Option<EntryMask>,
    output: Option<&EntryMask>,
) -> Result<Vec<Item>, Status> {
    check_batch(entries.len())?;
    let parts = &shared.parts;
    let input = input.unwrap_or_else(convert::whole_entry);
    let view = View::of(shared);
    let form = Form {
        trust_domain: &parts.trust_domain,
        known: &view.peers,
    };
    let outcomes = parts.entries.edit((parts.clock)(), |draft| {
        let changed = entries
            .into_iter()
            .map(|entry| update_one(draft, &form, entry, &input));
        changed.collect::<Vec<_>>()
    });
    Ok(items(shared, outcomes.await.map_err(kept)?, output))
}

fn update_one(draft: &mut Draft, form: &Form<'_>, message: Entry, mask: &EntryMask) -> Outcome {
    let id = match of_api(draft, &message.id) {
        Ok(id) => id,
        Err(refusal) => return refusal,
    };
    let Some(before) = draft.get(&id).map(|(entry, _)| entry.clone()) else {
        return Outcome::Refused(Code::NotFound, "entry not found".to_owned());
    };
    let entry = match form.change(before, message, mask) {
        Ok(entry) => entry,
        Err(fault) => return refused(format!("failed to convert entry: {fault}")),
    };
    match draft.equal_to(&entry) {
        Some(other) if *other != id => {
            let text = format!("the entry {other} has the same ID, parent and selectors");
            Outcome::Refused(Code::AlreadyExists, text)
        }
        _ => {
            draft.put(entry);
            Outcome::Done(id)
        }
    }
}

/// The ID of an entry that callers may change.
fn of_api(draft: &Draft, id: &str) -> Result<EntryId, Outcome> {
    if id.is_empty() {
        return Err(refused("missing entry ID"));
    }
    let known = convert::entry_id(id).and_then(|id| {
        let (_, source) = draft.get(&id)?;
        Some((id, source))
    });
    match known {
        None => Err(Outcome::Refused(
            Code::NotFound,
            "entry not found".to_owned(),
        )),
        Some((id, source)) if *source == EntrySource::API => Ok(id),
        Some((id, source)) => {
            let text =
                format!("the entry {id} is of the site {source}: change it there, and apply");
            Err(Outcome::Refused(Code::FailedPrecondition, text))
        }
    }
}

/// The statuses, with the IDs as they were given.
pub(super) async fn delete(
    shared: &Shared,
    ids: Vec<String>,
) -> Result<Vec<(ItemStatus, String)>, Status> {
    check_batch(ids.len())?;
    let parts = &shared.parts;
    let outcomes = parts.entries.edit((parts.clock)(), |draft| {
        let deleted = ids.iter().map(|id| match of_api(draft, id) {
            Ok(id) => {
                draft.remove(&id);
                Outcome::Done(id)
            }
            Err(refusal) => refusal,
        });
        deleted.collect::<Vec<_>>()
    });
    let outcomes = outcomes.await.map_err(kept)?;
    let status = |outcome: Outcome| match outcome {
        Outcome::Done(_) | Outcome::Exists(_) => convert::status(Code::Ok, "OK"),
        Outcome::Refused(code, text) => convert::status(code, text),
    };
    Ok(outcomes.into_iter().map(status).zip(ids).collect())
}
