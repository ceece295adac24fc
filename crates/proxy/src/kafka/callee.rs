//! The callee's side: the brokers' real addresses are learnt from the answers that pass, and
//! replaced by names that mean something to this gateway alone.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use renkei_kafka::{Endpoint, Session};
use renkei_site::HostPort;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{MAX_BROKERS, broken, server_name};
use crate::{
    relay::{self, Session as _, Side},
    shared::Shared,
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
        /// The address.
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

/// Shows callers names in place of the brokers' addresses.
pub(crate) struct CalleeSession {
    session: Session,
    service: String,
    sni: String,
    shared: Arc<Shared>,
}

impl CalleeSession {
    /// `sni` is the service's own server name.
    pub(crate) fn new(service: String, sni: String, shared: Arc<Shared>) -> Self {
        Self {
            session: Session::new(),
            service,
            sni,
            shared,
        }
    }

    /// Asks a broker, over a connection that was made for this, which brokers there are.
    pub(crate) async fn learn(mut self, mut broker: TcpStream) -> io::Result<()> {
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
    ) -> io::Result<()> {
        let (service, sni, brokers) = (&self.service, &self.sni, &self.shared.brokers);
        let mut named = |node: i32, host: &str, port: u16| {
            brokers.note(service, node, host, port);
            Some(Endpoint {
                host: server_name(sni, Some(node)),
                port: NAMED_PORT,
            })
        };
        match from {
            Side::Wan => self.session.client_to_broker(received, out),
            Side::App => self.session.broker_to_client(received, &mut named, out),
        }
        .map_err(broken)
    }
}
