//! The part of a session that the broker's answers pass.

use super::{CORRELATION, KafkaSession, Rest, Then};
use crate::{
    cutter::{Cutter, LENGTH, frame_length},
    error::{Party, SessionError},
    limits::MAX_REWRITTEN,
    rewrite::Endpoints,
    sasl,
};

impl KafkaSession {
    pub(super) fn answers(
        &mut self,
        cut: &mut Cutter<'_>,
        endpoints: &mut dyn Endpoints,
    ) -> Result<(), SessionError> {
        while self.answers.advance(cut) {
            match self.answer(cut, endpoints)? {
                Some(rest) => {
                    self.answers = rest;
                    self.judged.1 += 1;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Judges the answer at hand; `None` asks for more of it.
    fn answer(
        &mut self,
        cut: &mut Cutter<'_>,
        endpoints: &mut dyn Endpoints,
    ) -> Result<Option<Rest>, SessionError> {
        let Some(length) = frame_length(cut.rest(), Party::Broker)? else {
            return Ok(None);
        };
        let Some(then) = self.due(cut.rest(), length)? else {
            return Ok(None);
        };
        let mut rest = Rest::Pass(LENGTH + length);
        match then {
            Then::Pass | Then::SaslToken => {}
            Then::Drop => return Ok(Some(Rest::Discard(LENGTH + length))),
            Then::SaslHandshake(rounds) => {
                let api = "SaslHandshake";
                let Some(frame) = whole(cut.rest(), length, api)? else {
                    self.collect_answer(length);
                    return Ok(None);
                };
                self.sasl = sasl::agreed(frame, rounds)
                    .map_err(|fault| SessionError::MalformedAnswer { api, fault })?;
            }
            Then::Rewrite(answer) => {
                let Some(frame) = whole(cut.rest(), length, answer.api())? else {
                    self.collect_answer(length);
                    return Ok(None);
                };
                let frame = answer.rewrite(frame, endpoints, self.offer())?;
                rest = Rest::Discard(cut.replace(LENGTH + length, frame));
            }
            Then::Replace(answer) => {
                rest = Rest::Discard(cut.replace(LENGTH + length, (*answer).clone()));
            }
            Then::Amend(amendment) if amendment.needs_whole() => {
                let Some(frame) = whole(cut.rest(), length, amendment.api())? else {
                    self.collect_answer(length);
                    return Ok(None);
                };
                let frame = self.filter(&amendment, frame, endpoints)?;
                rest = Rest::Discard(cut.replace(LENGTH + length, frame));
            }
            Then::Amend(amendment) => {
                let Some((stands_for, beginning)) = amendment.add(cut.rest(), length)? else {
                    return Ok(None);
                };
                cut.replace(stands_for, beginning);
                rest = Rest::Pass((LENGTH + length).saturating_sub(stands_for));
            }
        }
        if let Some(awaited) = self.awaited.pop_front() {
            self.held = self.held.saturating_sub(awaited.then.held());
        }
        Ok(Some(rest))
    }

    /// What the answer at hand is due for: the oldest awaited, or one that is not awaited.
    fn due(&mut self, bytes: &[u8], length: usize) -> Result<Option<Then>, SessionError> {
        let oldest = self.awaited.front().cloned();
        if oldest
            .as_ref()
            .is_some_and(|oldest| matches!(oldest.then, Then::SaslToken))
        {
            return Ok(Some(Then::SaslToken));
        }
        if length < CORRELATION {
            return Err(SessionError::ShortFrame {
                from: Party::Broker,
                length,
            });
        }
        let id = bytes
            .get(LENGTH..)
            .and_then(|frame| frame.first_chunk::<CORRELATION>());
        let Some(got) = id.map(|id| i32::from_be_bytes(*id)) else {
            return Ok(None);
        };
        if let Some(oldest) = oldest.as_ref().filter(|oldest| oldest.correlation == got) {
            return Ok(Some(oldest.then.clone()));
        }
        match self.silent.iter().position(|silent| *silent == got) {
            Some(at) => {
                self.silent.remove(at);
                Ok(Some(Then::Drop))
            }
            None => {
                let awaited = oldest.as_ref().map(|oldest| oldest.correlation);
                Err(SessionError::Correlation { awaited, got })
            }
        }
    }
}

/// The whole frame, once it has arrived, if it is short enough to be collected.
fn whole<'a>(
    bytes: &'a [u8],
    length: usize,
    api: &'static str,
) -> Result<Option<&'a [u8]>, SessionError> {
    if length > MAX_REWRITTEN {
        return Err(SessionError::LongAnswer { api, length });
    }
    Ok(bytes.get(..LENGTH + length))
}
