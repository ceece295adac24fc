//! The caller's side: clients are shown local addresses in place of the brokers' names.

use std::io;

use bytes::{Bytes, BytesMut};
use renkei_kafka::{Endpoint, KafkaSession};

use super::broken;
use crate::relay::{self, Next, Side};

/// The local listeners for the brokers of one cluster.
pub(crate) trait LocalBrokers: Send {
    /// The address at which a client reaches a broker. Nothing if there is no listener for it.
    fn endpoint(&mut self, node: i32) -> Option<Endpoint>;
}

/// Shows a client local addresses in place of the brokers' names.
pub(crate) struct CallerSession<B> {
    session: KafkaSession,
    brokers: B,
}

impl<B: LocalBrokers> CallerSession<B> {
    pub(crate) fn new(brokers: B) -> Self {
        Self {
            session: KafkaSession::new(),
            brokers,
        }
    }
}

impl<B: LocalBrokers> relay::Session for CallerSession<B> {
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next> {
        let Self { session, brokers } = self;
        let mut local = |node: i32, _: &str, _: u16| brokers.endpoint(node);
        match from {
            Side::App => session.client_to_broker(received, out),
            Side::Wan => session.broker_to_client(received, &mut local, out),
        }
        .map(|()| Next::More)
        .map_err(broken)
    }
}
