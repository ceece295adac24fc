//! What managers do with agents: look at them, ban and delete them, and let new ones join.

use std::time::Duration;

use renkei_api::{
    node::EntryId,
    spire::api::{
        server::agent::v1::{
            CreateJoinTokenRequest, ListAgentsRequest, ListAgentsResponse, list_agents_request,
        },
        types::{Agent, AgentMask, JoinToken, Spiffeid},
    },
    status::EntryKind,
};
use renkei_site::Placement;
use renkei_spiffe::SpiffeId;
use time::{OffsetDateTime, macros::format_description};
use tonic::Status;

use super::{Shared, convert, entry_form, pages::page, refusal::kept, selectors::BySelectors};
use crate::{
    TokenError,
    nodes::{self, TOKEN_PATH},
    store::{AgentRow, Attributes, Registration},
};

/// As for tokens of the command line.
const LONGEST_TOKEN: Duration = Duration::from_hours(30 * 24);

/// What a list of agents is limited to.
pub(super) struct Filter {
    attestation_type: String,
    selectors: Option<BySelectors>,
    is_banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<OffsetDateTime>,
}

impl Filter {
    pub(super) fn parse(filter: Option<list_agents_request::Filter>) -> Result<Self, Status> {
        let filter = filter.unwrap_or_default();
        let expires_before = match filter.by_expires_before.as_str() {
            "" => None,
            text => Some(go_time(text).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "{:?} is not a time like 2006-01-02 15:04:05 -0700 -07",
                    text.chars().take(64).collect::<String>()
                ))
            })?),
        };
        let selectors = BySelectors::parse(filter.by_selector_match);
        Ok(Self {
            attestation_type: filter.by_attestation_type,
            selectors: selectors.map_err(|fault| {
                Status::invalid_argument(format!("malformed selectors filter: {fault}"))
            })?,
            is_banned: filter.by_banned,
            can_reattest: filter.by_can_reattest,
            expires_before,
        })
    }

    fn takes(&self, row: &AgentRow) -> bool {
        (self.attestation_type.is_empty() || self.attestation_type == row.attestor)
            && self.is_banned.is_none_or(|wanted| wanted == row.banned)
            && self.can_reattest.is_none_or(|wanted| wanted == can_reattest(row))
            && self.expires_before.is_none_or(|end| row.not_after < end)
            // No attestor gives selectors yet.
            && self.selectors.as_ref().is_none_or(|wanted| wanted.takes(&[]))
    }
}

/// A time in the form that `spire-server agent list -expiresBefore` has.
fn go_time(text: &str) -> Option<OffsetDateTime> {
    let mut words = text.split(' ');
    let text = format!("{} {} {}", words.next()?, words.next()?, words.next()?);
    let form = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
    );
    OffsetDateTime::parse(&text, form).ok()
}

/// A join token is good once.
fn can_reattest(row: &AgentRow) -> bool {
    row.attestor != nodes::JOIN_TOKEN
}

fn message(row: &AgentRow, mask: Option<AgentMask>) -> Agent {
    let mask = mask.unwrap_or(AgentMask {
        attestation_type: true,
        x509svid_serial_number: true,
        x509svid_expires_at: true,
        selectors: true,
        banned: true,
        can_reattest: true,
        agent_version: true,
    });
    let mut agent = Agent {
        id: Some(convert::spiffe_id(&row.id)),
        ..Agent::default()
    };
    if mask.attestation_type {
        agent.attestation_type.clone_from(&row.attestor);
    }
    // A banned agent has no SVID that is good.
    if mask.x509svid_serial_number && !row.banned {
        agent.x509svid_serial_number = decimal(&row.serial);
    }
    if mask.x509svid_expires_at {
        agent.x509svid_expires_at = row.not_after.unix_timestamp();
    }
    if mask.banned {
        agent.banned = row.banned;
    }
    if mask.can_reattest {
        agent.can_reattest = can_reattest(row);
    }
    if mask.agent_version {
        agent.agent_version.clone_from(&row.release);
    }
    agent
}

/// SPIRE prints serial numbers in decimal digits.
fn decimal(serial: &str) -> String {
    u128::from_str_radix(serial, 16).map_or_else(|_| serial.to_owned(), |value| value.to_string())
}

pub(super) fn count(shared: &Shared, filter: &Filter) -> i32 {
    let all = shared.parts.nodes.all();
    let count = all.iter().filter(|row| filter.takes(row)).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn list(
    shared: &Shared,
    request: ListAgentsRequest,
) -> Result<ListAgentsResponse, Status> {
    let filter = Filter::parse(request.filter)?;
    let all = shared.parts.nodes.all().into_iter();
    let all = all.filter(|row| filter.takes(row));
    let wanted = (request.page_size, request.page_token.as_str());
    let (rows, next_page_token) = page(all, |row| row.id.to_string(), wanted)?;
    Ok(ListAgentsResponse {
        agents: rows
            .iter()
            .map(|row| message(row, request.output_mask))
            .collect(),
        next_page_token,
    })
}

pub(super) fn get(
    shared: &Shared,
    id: Option<Spiffeid>,
    mask: Option<AgentMask>,
) -> Result<Agent, Status> {
    let row = known(shared, id)?;
    Ok(message(&row, mask))
}

fn known(shared: &Shared, id: Option<Spiffeid>) -> Result<AgentRow, Status> {
    let id = convert::own_id(id, &shared.parts.trust_domain);
    let id = id.map_err(|fault| Status::invalid_argument(format!("invalid agent ID: {fault}")))?;
    let row = shared.parts.nodes.get(&id);
    row.ok_or_else(|| Status::not_found("agent not found"))
}

pub(super) async fn ban(shared: &Shared, id: Option<Spiffeid>) -> Result<(), Status> {
    let row = known(shared, id)?;
    let now = (shared.parts.clock)();
    shared.parts.nodes.ban(&row.id, now).await.map_err(kept)?;
    tracing::warn!(node = %row.id, "a node was banned");
    Ok(())
}

/// The alias that was made with its token goes with it.
pub(super) async fn delete(shared: &Shared, id: Option<Spiffeid>) -> Result<(), Status> {
    let row = known(shared, id)?;
    let parts = &shared.parts;
    let own = vec![format!("spiffe_id:{}", row.id)];
    let removed = parts.entries.edit((parts.clock)(), |draft| {
        let is_alias = |entry: &&Registration| {
            entry.attributes.parent.as_ref() == Some(&row.id) && entry.selectors == own
        };
        let aliases = draft.of_api().filter(is_alias);
        let aliases: Vec<EntryId> = aliases.map(|entry| entry.id.clone()).collect();
        aliases.iter().for_each(|id| draft.remove(id));
    });
    removed.await.map_err(kept)?;
    parts.nodes.remove(&row.id).await.map_err(kept)?;
    tracing::info!(node = %row.id, "a node was deleted: it must join again");
    Ok(())
}

/// A token for a SPIRE agent, and an alias for the agent if the caller names one.
pub(super) async fn create_token(
    shared: &Shared,
    request: CreateJoinTokenRequest,
) -> Result<JoinToken, Status> {
    if !shared.listens {
        return Err(Status::failed_precondition(
            TokenError::NoServer.to_string(),
        ));
    }
    let parts = &shared.parts;
    let life = u64::try_from(request.ttl).ok().filter(|ttl| *ttl > 0);
    let life = life.map(Duration::from_secs);
    let life =
        life.ok_or_else(|| Status::invalid_argument("ttl is required, you must provide one"))?;
    if life > LONGEST_TOKEN {
        return Err(Status::invalid_argument(
            "a join token lives for 30 days at most",
        ));
    }
    let alias = match request.agent_id {
        None => None,
        some => Some(
            entry_form::workload_id(some, &parts.trust_domain)
                .map_err(|fault| Status::invalid_argument(format!("invalid agent ID: {fault}")))?,
        ),
    };
    let now = (parts.clock)();
    let tokens = parts.nodes.join_token();
    let made = tokens.for_agent(Some(request.token), life, now).await;
    let (value, ends_at) = made.map_err(|error| match error {
        TokenError::Store(error) => kept(error),
        error => Status::invalid_argument(error.to_string()),
    })?;
    if let Some(alias) = alias {
        let path = format!("{TOKEN_PATH}{value}");
        let agent = SpiffeId::with_path(parts.trust_domain.clone(), &path);
        let agent = agent.map_err(|fault| Status::invalid_argument(fault.to_string()))?;
        make_alias(shared, agent, alias, now).await?;
    }
    Ok(JoinToken {
        value,
        expires_at: ends_at.unix_timestamp(),
    })
}

async fn make_alias(
    shared: &Shared,
    agent: SpiffeId,
    alias: SpiffeId,
    now: OffsetDateTime,
) -> Result<(), Status> {
    let parts = &shared.parts;
    let id = entry_form::new_id(parts.provider.secure_random)?;
    let entry = Registration {
        id,
        spiffe_id: alias,
        kind: EntryKind::Workload,
        hint: String::new(),
        is_default: false,
        selectors: vec![format!("spiffe_id:{agent}")],
        on: Placement::Everywhere,
        attributes: Attributes {
            parent: Some(agent),
            ..Attributes::default()
        },
    };
    let made = parts.entries.edit(now, |draft| {
        let has_place = draft.has_place();
        if has_place {
            draft.put(entry);
        }
        has_place
    });
    match made.await.map_err(kept)? {
        true => Ok(()),
        false => Err(entry_form::too_many()),
    }
}
