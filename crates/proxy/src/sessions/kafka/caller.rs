//! The caller's side: clients are shown local addresses in place of the brokers' names.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use renkei_kafka::{Denial, Endpoint, KafkaSession, SessionError};
use renkei_spiffe::SpiffeId;

use super::{Denials, HeldMemory, next, room::Room};
use crate::relay::{self, Next, Side};

/// What the caller's side keeps from one connection to the next.
#[derive(Debug)]
pub(crate) struct CallerState {
    pub(crate) denials: Denials,
    memory: Arc<HeldMemory>,
}

impl CallerState {
    /// `memory` is what all sessions together may collect, in bytes.
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            denials: Denials::default(),
            memory: HeldMemory::new(memory),
        }
    }
}

/// The local listeners for the brokers of one cluster.
pub(crate) trait LocalBrokers: Send {
    /// The address at which a client reaches a broker. Nothing if there is no listener for it.
    fn endpoint(&mut self, node: i32) -> Option<Endpoint>;

    /// A request was answered here, with an error.
    fn denied(&mut self, denial: Denial);

    /// The connection is closed because of what the client sent.
    fn ended(&mut self, error: &SessionError);
}

/// Shows a client local addresses in place of the brokers' names.
pub(crate) struct CallerSession<B> {
    session: KafkaSession,
    room: Room,
    brokers: B,
}

impl<B: LocalBrokers> CallerSession<B> {
    pub(crate) fn new(brokers: B, caller: &SpiffeId, state: &CallerState) -> Self {
        Self {
            session: KafkaSession::new(),
            room: Room::new(&state.memory, Some(caller)),
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
        let Self {
            session,
            room,
            brokers,
        } = self;
        let mut local = |node: i32, _: &str, _: u16| brokers.endpoint(node);
        let advanced = match from {
            Side::App => session.client_to_broker(received, out),
            Side::Wan => session.broker_to_client(received, &mut local, out),
        };
        room.advanced(from, received, session);
        for denial in session.take_denials() {
            brokers.denied(denial);
        }
        let (next, end) = next(session, advanced)?;
        if let Some(error) = end {
            brokers.ended(&error);
        }
        Ok(next)
    }

    fn poll_room(&mut self, from: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.room.poll(from, (&self.session, Side::App), cx)
    }
}
