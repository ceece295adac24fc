//! One client connection to one broker.
//!
//! ```text
//!                 frame that passes            frame that passes
//!                ┌──────────────┐             ┌──────────────┐
//!                ▼              │             ▼              │
//!  requests:  ┌──────┐ head  ┌──────┐      ┌──────┐        ┌──────┐  :answers
//!  client ──▶ │ HEAD │──────▶│ BODY │ ──▶  │ HEAD │───────▶│ BODY │ ──▶ client
//!             └──────┘ known └──────┘      └──────┘        └──────┘
//!              │    │    slices of the      │  │  ▲ rewritten │
//!              │    │    input, uncopied    │  │  │           ▼
//!              │    │                       │  │ ┌─────────┐ slices
//!              │    └─ queue of awaited ───▶│  └▶│ COLLECT │
//!              │       answers, in order    │    └─────────┘ Metadata, FindCoordinator,
//!              ▼                            ▼                DescribeCluster, Produce 10+,
//!            error                        error              ApiVersions
//!
//!  SASL without headers, inside HEAD of the requests:
//!  REQUESTS ──SaslHandshake v0──▶ HANDSHAKE ──answer 0──▶ TOKENS(n) ──n tokens──▶ REQUESTS
//!                                     └────other answer─────────────────────────▶ REQUESTS
//! ```
//!
//! A broker answers in the order of requests. A Produce request with acks=0 has no answer, so
//! nothing is awaited for it; brokers that answer it all the same exist, and as no client expects
//! that, the answer is dropped.

mod answers;
mod governed;
mod refused;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use renkei_access::TopicRights;

use self::governed::Asked;
use crate::acl::{self, Amendment};
use crate::api;
use crate::cutter::{Cutter, LENGTH, frame_length};
use crate::error::{Party, SessionError};
use crate::limits::MAX_REWRITTEN;
use crate::request::{Beginning, Detail, Head};
use crate::rewrite::{Answer, Endpoints};
use crate::rights::Denial;
use crate::sasl::{self, Sasl};

/// Bytes of an answer's correlation id.
const CORRELATION: usize = 4;

/// The most requests that may await an answer: librdkafka's own default limit.
const MAX_IN_FLIGHT: usize = 1_000_000;

/// So many requests without an answer are remembered, should the broker answer nevertheless.
const REMEMBERED_SILENT: usize = 1024;

/// A Kafka connection being carried. See the [crate's documentation](crate).
///
/// Both directions take a buffer that the caller keeps appending to. What can be judged is taken
/// out of it; what cannot stays, so the caller must always be ready to read more into the same
/// buffer. What is to be sent comes out as slices in order; after an error too, before closing.
#[derive(Debug, Default)]
pub struct KafkaSession {
    requests: Rest,
    answers: Rest,
    awaited: VecDeque<Awaited>,
    silent: VecDeque<i32>,
    sasl: Sasl,
    /// Topic rights, if they are in force.
    rights: Option<Arc<TopicRights>>,
    denials: Vec<Denial>,
    /// Bytes of own answers that wait for their turn.
    held: usize,
    /// What the client sent last, if it has no answer: the only possible answer is the end of the
    /// connection, and of what it sends after it, nothing is taken.
    doomed: Option<SessionError>,
    /// Requests and answers judged so far.
    judged: (u64, u64),
    /// What is collected of them.
    collected: (Option<Collected>, Option<Collected>),
}

/// A request or an answer that is collected because all of it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Its number on this connection, in its direction.
    pub number: u64,
    /// Its length in bytes.
    pub length: usize,
}

/// What becomes of the rest of a frame whose head has been judged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    #[default]
    None,
    Pass(usize),
    Discard(usize),
}

impl Rest {
    /// Takes along what has arrived; says whether the frame is through.
    fn advance(&mut self, cut: &mut Cutter<'_>) -> bool {
        *self = match *self {
            Self::None => Self::None,
            Self::Pass(count) => match cut.pass(count) {
                0 => Self::None,
                left => Self::Pass(left),
            },
            Self::Discard(count) => match cut.discard(count) {
                0 => Self::None,
                left => Self::Discard(left),
            },
        };
        *self == Self::None
    }
}

#[derive(Debug, Clone)]
struct Awaited {
    correlation: i32,
    then: Then,
}

/// What becomes of an answer.
#[derive(Debug, Clone)]
enum Then {
    Pass,
    Rewrite(Answer),
    /// Topic rights leave something out of it, or add to it.
    Amend(Arc<Amendment>),
    /// It answers a request that stood for another; this is that one's answer.
    Replace(Arc<Bytes>),
    /// A SaslHandshake of version 0; so many tokens follow if the broker agrees.
    SaslHandshake(u8),
    /// An answer without a header.
    SaslToken,
    /// An answer that no client expects.
    Drop,
}

impl Then {
    /// Bytes that are kept until the answer comes.
    fn held(&self) -> usize {
        match self {
            Self::Amend(amendment) => amendment.held(),
            Self::Replace(answer) => answer.len(),
            _ => 0,
        }
    }
}

impl KafkaSession {
    /// A session at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a caller that may do only what `rights` say.
    pub fn with_rights(rights: Arc<TopicRights>) -> Self {
        Self {
            rights: Some(rights),
            ..Self::default()
        }
    }

    /// What was denied since the last time, as far as it is reported one by one.
    pub fn take_denials(&mut self) -> Vec<Denial> {
        std::mem::take(&mut self.denials)
    }

    /// Takes what the client has sent out of `input` and puts what the broker shall see in `out`.
    pub fn client_to_broker(
        &mut self,
        input: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> Result<(), SessionError> {
        let mut cut = Cutter::new(input, out);
        self.collected.0 = None;
        let result = self.requests(&mut cut);
        cut.flush();
        result
    }

    /// Takes what the broker has sent out of `input` and puts what the client shall see in `out`.
    pub fn broker_to_client(
        &mut self,
        input: &mut BytesMut,
        endpoints: &mut dyn Endpoints,
        out: &mut Vec<Bytes>,
    ) -> Result<(), SessionError> {
        let mut cut = Cutter::new(input, out);
        self.collected.1 = None;
        let result = self.answers(&mut cut, endpoints);
        cut.flush();
        result
    }

    /// Whether nothing is under way: no answer awaited and no frame half sent. A proxy that drains
    /// may close such a connection, once its buffers are empty, without losing anything.
    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty()
            && self.requests == Rest::None
            && self.answers == Rest::None
            && self.sasl == Sasl::Requests
    }

    /// Why nothing is left but to close the connection, if it is so: a request that cannot be
    /// answered was denied, as a whole or in part, and everything before it is answered. Brokers do
    /// the same with a Produce request with acks=0 (`KafkaApis.handleProduceRequest`): they append
    /// what is allowed, then close without a word.
    pub fn end(&self) -> Option<&SessionError> {
        let answered = self.awaited.is_empty() && self.answers == Rest::None;
        self.doomed.as_ref().filter(|_| answered)
    }

    /// The request that is collected, if one is.
    pub fn collected_request(&self) -> Option<Collected> {
        self.collected.0
    }

    /// The answer that is collected to be rewritten, if one is.
    pub fn collected_answer(&self) -> Option<Collected> {
        self.collected.1
    }

    /// Bytes of own answers that wait until those before them have come.
    pub fn held(&self) -> usize {
        self.held
    }

    fn requests(&mut self, cut: &mut Cutter<'_>) -> Result<(), SessionError> {
        while self.requests.advance(cut) {
            match self.request(cut)? {
                Some(rest) => {
                    self.requests = rest;
                    self.judged.0 += 1;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Judges the request at hand; `None` asks for more of it.
    fn request(&mut self, cut: &mut Cutter<'_>) -> Result<Option<Rest>, SessionError> {
        if self.doomed.is_some() {
            return Ok(Some(Rest::Discard(usize::MAX)));
        }
        if self.sasl == Sasl::Handshake && !cut.rest().is_empty() {
            return Err(SessionError::SaslOutOfTurn);
        }
        let Some(length) = frame_length(cut.rest(), Party::Client)? else {
            return Ok(None);
        };
        if let Sasl::Tokens(left) = self.sasl {
            self.await_answer(0, Then::SaslToken)?;
            self.sasl = after_token(left);
            return Ok(Some(Rest::Pass(LENGTH + length)));
        }
        let head = match Head::parse(cut.rest(), length)? {
            None => return Ok(None),
            Some(Beginning::Unknown { key, version }) => return Ok(self.doom(key, version)),
            Some(Beginning::Known(head)) => head,
        };
        let asked = Asked {
            api: head.api,
            version: head.version,
            correlation: head.correlation,
            length,
            answered: head.detail != Detail::NoAcks,
        };
        match self.rights {
            Some(_) => match acl::find(head.api.key).filter(|governed| governed.carries(&head)) {
                None => return self.refuse(cut, asked),
                Some(governed) if !governed.is_free() => {
                    return self.governed(cut, (asked, governed));
                }
                Some(_) => {}
            },
            None if !head.is_carried() => return self.refuse(cut, asked),
            None => {}
        }
        let (correlation, mut rest) = (head.correlation, Rest::Pass(LENGTH + length));
        match head.detail {
            Detail::NoAcks => self.remember_silent(correlation),
            Detail::SaslTokens(mechanism) => {
                let Some(rounds) = sasl::rounds(mechanism) else {
                    return self.refuse(cut, asked);
                };
                self.await_answer(correlation, Then::SaslHandshake(rounds))?;
                self.sasl = Sasl::Handshake;
            }
            Detail::FutureApiVersions => {
                self.await_answer(correlation, Then::Rewrite(Answer::FutureApiVersions))?;
                rest = Rest::Discard(cut.replace(LENGTH + length, api_versions_0(correlation)));
            }
            Detail::None => {
                let answer = Answer::of(head.api.key, head.version);
                self.await_answer(correlation, answer.map_or(Then::Pass, Then::Rewrite))?;
            }
        }
        Ok(Some(rest))
    }

    /// More of the request at hand is needed.
    fn collect_request(&mut self, length: usize) {
        let number = self.judged.0;
        let length = LENGTH + length;
        self.collected.0 = Some(Collected { number, length });
    }

    /// More of the answer at hand is needed.
    fn collect_answer(&mut self, length: usize) {
        let number = self.judged.1;
        let length = LENGTH + length;
        self.collected.1 = Some(Collected { number, length });
    }

    /// Closes the connection behind the answers that are awaited.
    fn doom(&mut self, key: i16, version: i16) -> Option<Rest> {
        self.doomed = Some(SessionError::UnsupportedRequest { key, version });
        Some(Rest::None)
    }

    fn await_answer(&mut self, correlation: i32, then: Then) -> Result<(), SessionError> {
        self.held = self.held.saturating_add(then.held());
        if self.awaited.len() >= MAX_IN_FLIGHT || self.held > MAX_REWRITTEN {
            return Err(SessionError::InFlight);
        }
        self.awaited.push_back(Awaited { correlation, then });
        Ok(())
    }

    fn remember_silent(&mut self, correlation: i32) {
        if self.silent.len() == REMEMBERED_SILENT {
            self.silent.pop_front();
        }
        self.silent.push_back(correlation);
    }
}

/// What follows a token of SASL, of which so many were expected.
fn after_token(expected: u8) -> Sasl {
    match expected {
        2.. => Sasl::Tokens(expected - 1),
        _ => Sasl::Requests,
    }
}

/// The ApiVersions request of version 0, which every broker understands, without a client id.
fn api_versions_0(correlation: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(10);
    frame.put_i16(api::API_VERSIONS);
    frame.put_i16(0);
    frame.put_i32(correlation);
    frame.put_i16(-1);
    frame.freeze()
}
