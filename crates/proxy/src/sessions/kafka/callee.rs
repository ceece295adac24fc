//! The callee's side: the brokers' real addresses are learnt from the answers that pass, and
//! replaced by names that mean something to this gateway alone.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{self, Poll},
};

use bytes::{Bytes, BytesMut};
use renkei_kafka::{Endpoint, KafkaSession, SessionError};
use renkei_site::{HostPort, Service};
use renkei_spiffe::SpiffeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CalleeState, MAX_BROKERS, next, room::Room, server_name};
use crate::{
    context::Context,
    identity::Direction,
    relay::{self, Next, Session as _, Side},
    sockets::PlainStream,
};

/// Given out with a broker's name. Callers dial by name only, but clients insist on a port.
const NAMED_PORT: u16 = 9092;

/// A Metadata request of version 1 for no topics: the brokers alone. Length, kind, version,
/// correlation ID, no client ID, no topics.
const METADATA_REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];

/// The real addresses of brokers, by service and node ID.
#[derive(Debug, Default)]
pub(crate) struct BrokerTables(Mutex<HashMap<String, BTreeMap<i32, HostPort>>>);

/// What is known of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broker {
    /// Its address, by its own account.
    At {
        /// The address that it gives.
        address: HostPort,
        /// No other broker is known.
        alone: bool,
    },
    /// Others are known.
    Unknown,
    /// Nothing is known of this cluster.
    Unheard,
}

impl BrokerTables {
    /// What is known of a broker.
    pub(crate) fn find(&self, service: &str, node: i32) -> Broker {
        let tables = self.tables();
        let Some(table) = tables.get(service) else {
            return Broker::Unheard;
        };
        match table.get(&node) {
            Some(address) => Broker::At {
                address: address.clone(),
                alone: table.len() == 1,
            },
            None => Broker::Unknown,
        }
    }

    /// Forgets everything: services may have moved.
    pub(crate) fn forget(&self) {
        self.tables().clear();
    }

    fn note(&self, service: &str, node: i32, host: &str, port: u16) {
        let text = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        // A broker that says nothing usable of itself cannot be dialled.
        let Ok(address) = HostPort::parse(&text) else {
            return;
        };
        let mut tables = self.tables();
        let table = tables.entry(service.to_owned()).or_default();
        if table.len() < MAX_BROKERS || table.contains_key(&node) {
            table.insert(node, address);
        }
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<i32, HostPort>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows callers names in place of the brokers' addresses, and lets them do what their topic rights
/// allow.
pub(crate) struct CalleeSession {
    session: KafkaSession,
    room: Room,
    service: String,
    sni: String,
    /// The caller; none when the gateway itself asks.
    caller: Option<SpiffeId>,
    state: Arc<CalleeState>,
    context: Arc<Context>,
}

impl CalleeSession {
    /// `sni` is the service's own server name.
    pub(crate) fn new(
        service: &Service,
        sni: String,
        caller: Option<&SpiffeId>,
        (state, context): (Arc<CalleeState>, Arc<Context>),
    ) -> Self {
        Self {
            session: session(service, caller),
            room: Room::new(&state.memory, caller),
            service: service.name.clone(),
            sni,
            caller: caller.cloned(),
            state,
            context,
        }
    }

    fn tell_denials(&mut self) {
        let Some(caller) = &self.caller else { return };
        let (denials, refusals) = (&self.state.denials, &self.context.refusals);
        for denial in self.session.take_denials() {
            let of = (caller, self.service.as_str());
            denials.record(Direction::Inbound, of, denial, refusals);
        }
    }

    /// The session ends because of a request that could not be answered.
    fn tell_end(&self, error: &SessionError) {
        let Some(caller) = &self.caller else { return };
        let who = caller.short();
        let sentence = format!("the connection of {who} was closed: {error}");
        let (direction, refusals) = (Direction::Inbound, &self.context.refusals);
        refusals.record(direction, &self.service, who, error.label(), sentence);
    }

    /// Asks a broker, over a connection that was made for this, which brokers there are.
    pub(crate) async fn learn(mut self, mut broker: PlainStream) -> io::Result<()> {
        let mut request = BytesMut::from(&METADATA_REQUEST[..]);
        let mut out = Vec::new();
        self.advance(Side::Wan, &mut request, &mut out)?;
        for bytes in out.drain(..) {
            broker.write_all(&bytes).await?;
        }
        let mut answer = BytesMut::new();
        while out.is_empty() {
            if broker.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.advance(Side::App, &mut answer, &mut out)?;
        }
        Ok(())
    }
}

impl relay::Session for CalleeSession {
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next> {
        let (service, sni, brokers) = (&self.service, &self.sni, &self.state.brokers);
        let mut named = |node: i32, host: &str, port: u16| {
            brokers.note(service, node, host, port);
            Some(Endpoint {
                host: server_name(sni, Some(node)),
                port: NAMED_PORT,
            })
        };
        let advanced = match from {
            Side::Wan => self.session.client_to_broker(received, out),
            Side::App => self.session.broker_to_client(received, &mut named, out),
        };
        self.tell_denials();
        self.room.advanced(from, received, &self.session);
        let (next, end) = next(&self.session, advanced)?;
        if let Some(error) = end {
            self.tell_end(&error);
        }
        Ok(next)
    }

    fn poll_room(&mut self, from: Side, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.room.poll(from, (&self.session, Side::Wan), cx)
    }
}

/// The session of a caller, with its rights where the service has topic rights.
fn session(service: &Service, caller: Option<&SpiffeId>) -> KafkaSession {
    match (&service.topics, caller) {
        (Some(topics), Some(caller)) => {
            let rights = topics.get(caller).cloned().unwrap_or_default();
            KafkaSession::with_rights(Arc::new(rights))
        }
        _ => KafkaSession::new(),
    }
}
