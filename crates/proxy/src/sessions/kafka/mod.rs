//! Kafka through the mesh. A Kafka client asks one broker for the addresses of all, and then
//! dials those; so the addresses in the answers are exchanged on the way, twice:
//!
//! ```text
//!  client             caller's proxy                callee's proxy            broker 7
//!     ◀─ 127.0.0.1:40001 ──┤◀─ n7.broker.hokkaido.example ─┤◀─ kafka-7.internal:9092 ─┤
//!     ── 127.0.0.1:40001 ─▶├── SNI n7.broker.hokkaido… ───▶├── kafka-7.internal:9092 ▶│
//! ```
//!
//! - The callee's proxy knows that a service speaks Kafka (the site file says so), and the
//!   caller's learns it by the choice of ALPN. It keeps the brokers' real addresses to itself and gives out
//!   names under which its gateway knows them.
//! - The caller's proxy opens one local listener per broker, on the address family and IP of the
//!   workload's own listener, attested just like it.
//!
//! A caller whose proxy is no Renkei is given those names all the same: real addresses do not
//! leave the site.

mod callee;
mod caller;
mod denials;
mod room;

use std::{io, sync::Arc};

use bytes::Bytes;
use renkei_kafka::{KafkaSession, SessionError};

use crate::relay::Next;

pub(crate) use callee::{Broker, BrokerTables, CalleeSession};
pub(crate) use caller::{CallerSession, CallerState, LocalBrokers};
pub(crate) use denials::Denials;
pub(crate) use room::HeldMemory;

/// What the callee's side keeps from one connection to the next.
#[derive(Debug)]
pub(crate) struct CalleeState {
    pub(crate) brokers: BrokerTables,
    pub(crate) denials: Denials,
    pub(crate) memory: Arc<HeldMemory>,
}

impl CalleeState {
    /// `memory` is what all sessions together may collect, in bytes.
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            brokers: BrokerTables::default(),
            denials: Denials::default(),
            memory: HeldMemory::new(memory),
        }
    }
}

/// Brokers of one cluster that are followed; the number comes from another institution.
pub(crate) const MAX_BROKERS: usize = 256;

/// The server name of one broker of a service, `None` being any of them.
pub(crate) fn server_name(service_sni: &str, node: Option<i32>) -> String {
    match node {
        Some(node) => format!("n{node}.{service_sni}"),
        None => service_sni.to_owned(),
    }
}

/// The reverse of [`server_name`] for a broker.
pub(crate) fn parse_server_name(sni: &str) -> Option<(i32, &str)> {
    let (node, service) = sni.split_once('.')?;
    let digits = node.strip_prefix(['n', 'N'])?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())
        .flatten()
        .map(|node| (node, service))
}

/// What a client of TLS gets: a record with the fatal alert `handshake_failure` (RFC 8446, sections
/// 5.1 and 6.2), which its library shows.
const TLS_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];

/// Whether a connection continues after a step of its session, and why not.
fn next(
    session: &KafkaSession,
    advanced: Result<(), SessionError>,
) -> io::Result<(Next, Option<SessionError>)> {
    match (advanced, session.end()) {
        (Err(error @ SessionError::ClientSpeaksTls), _) => {
            Ok((Next::Refuse(Bytes::from_static(TLS_ALERT)), Some(error)))
        }
        (Err(error), _) => Err(broken(error)),
        (Ok(()), Some(error)) => Ok((Next::Close, Some(error.clone()))),
        (Ok(()), None) => Ok((Next::More, None)),
    }
}

/// A session that cannot continue is a broken connection.
fn broken(error: SessionError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The reverse of it: why a connection broke, if it was a session.
pub(crate) fn session_error(error: &io::Error) -> Option<&SessionError> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_of_brokers_read_back() {
        let name = server_name("broker.hokkaido.example", Some(7));
        assert_eq!(name, "n7.broker.hokkaido.example");
        assert_eq!(
            parse_server_name(&name),
            Some((7, "broker.hokkaido.example"))
        );
        for other in [
            "broker.hokkaido.example",
            "n.x",
            "n-1.x",
            "n99999999999.x",
            "n7",
            "nx7.y",
        ] {
            assert_eq!(parse_server_name(other), None, "{other}");
        }
    }
}
