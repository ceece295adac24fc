//! The part of a session that topic rights have: requests are judged, and what is denied is
//! answered in its turn.

use std::sync::Arc;

use bytes::Bytes;

use super::{KafkaSession, Rest, Then, api_versions_0};
use crate::acl::{self, Amendment, Governed, Judged, Verdict};
use crate::api::{self, Api};
use crate::cutter::{Cutter, LENGTH};
use crate::error::SessionError;
use crate::limits::MAX_REWRITTEN;
use crate::request::MAX_HEAD;
use crate::rewrite::{Answer, Endpoints, Offer};
use crate::wire::WireFault;

/// A request whose head has been read.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) api: &'static Api,
    pub(super) version: i16,
    pub(super) correlation: i32,
    /// Of its frame, without the length itself.
    pub(super) length: usize,
    /// Whether it has an answer.
    pub(super) answered: bool,
}

impl Asked {
    pub(super) fn malformed(self, fault: WireFault) -> SessionError {
        let api = self.api.name;
        SessionError::MalformedRequest { api, fault }
    }
}

impl KafkaSession {
    /// Judges a request by the caller's rights; `None` asks for more of it.
    pub(super) fn governed(
        &mut self,
        cut: &mut Cutter<'_>,
        (asked, governed): (Asked, &'static Governed),
    ) -> Result<Option<Rest>, SessionError> {
        let rights = self.rights.clone().unwrap_or_default();
        let request = acl::Request {
            governed,
            version: asked.version,
            correlation: asked.correlation,
            rights: &rights,
        };
        let length = asked.length;
        let content = cut.rest().get(LENGTH..).unwrap_or_default();
        let content = content.get(..length).unwrap_or(content);
        if content.len() < length || length > MAX_REWRITTEN {
            let head = content.get(..MAX_HEAD).unwrap_or(content);
            if request.passes_early(head) {
                self.await_if(asked, Then::Pass)?;
                return Ok(Some(Rest::Pass(LENGTH + length)));
            }
            let api = asked.api.name;
            self.collect_request(length);
            return match length > MAX_REWRITTEN && content.len() >= MAX_HEAD {
                true => Err(SessionError::LongRequest { api, length }),
                false => Ok(None),
            };
        }
        let judged = request
            .judge(content)
            .map_err(|fault| asked.malformed(fault))?;
        self.carry_out(cut, asked, judged).map(Some)
    }

    fn carry_out(
        &mut self,
        cut: &mut Cutter<'_>,
        asked: Asked,
        judged: Judged,
    ) -> Result<Rest, SessionError> {
        self.denials.extend(judged.denials);
        if let Some((at, bytes)) = judged.patch {
            cut.patch(at, bytes);
        }
        let malformed = |fault| asked.malformed(fault);
        let whole = LENGTH + asked.length;
        let (then, trim) = match judged.verdict {
            Verdict::Pass => {
                let answer = Answer::of(asked.api.key, asked.version);
                (answer.map_or(Then::Pass, Then::Rewrite), None)
            }
            Verdict::Amend(amendment) => (Then::Amend(Arc::new(amendment)), None),
            Verdict::Trim(trim, amendment) => (Then::Amend(Arc::new(amendment)), Some(trim)),
            Verdict::Answer(answer) => {
                drop(cut.take(whole));
                match asked.answered {
                    true => {
                        self.await_answer(asked.correlation, Then::Replace(Arc::new(answer)))?;
                        cut.put(api_versions_0(asked.correlation));
                    }
                    false => self.doomed = Some(SessionError::DeniedWithoutAcks),
                }
                return Ok(Rest::None);
            }
        };
        self.await_if(asked, then)?;
        if trim.is_none() && judged.upgrade.is_none() {
            return Ok(Rest::Pass(whole));
        }
        if trim.is_some() && !asked.answered {
            self.doomed = Some(SessionError::DeniedWithoutAcks);
        }
        let frame = cut.take(whole);
        let mut slices = match trim {
            Some(trim) => trim.apply(&frame).map_err(malformed)?,
            None => vec![frame],
        };
        if let Some(create) = judged.upgrade {
            slices = vec![acl::upgraded(slices, create).map_err(malformed)?];
        }
        slices.into_iter().for_each(|bytes| cut.put(bytes));
        Ok(Rest::None)
    }

    fn await_if(&mut self, asked: Asked, then: Then) -> Result<(), SessionError> {
        match asked.answered {
            true => self.await_answer(asked.correlation, then),
            false => {
                self.remember_silent(asked.correlation);
                Ok(())
            }
        }
    }

    pub(super) fn filter(
        &self,
        amendment: &Amendment,
        frame: &[u8],
        endpoints: &mut dyn Endpoints,
    ) -> Result<Bytes, SessionError> {
        let frame = match amendment.rewrite() {
            Some(answer) => answer.rewrite(frame, endpoints, self.offer())?,
            None => Bytes::copy_from_slice(frame),
        };
        let rights = self.rights.clone().unwrap_or_default();
        amendment
            .filter(&frame, &rights)
            .map_err(|fault| SessionError::MalformedAnswer {
                api: amendment.api(),
                fault,
            })
    }

    /// What ApiVersions is answered with.
    pub(super) fn offer(&self) -> Offer {
        match self.rights {
            Some(_) => Offer {
                versions: acl::offered,
                feature: acl::carries_feature,
            },
            None => Offer {
                versions: api::carried,
                feature: api::carries_feature,
            },
        }
    }
}
