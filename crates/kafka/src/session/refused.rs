//! The part of a session that answers requests which are not carried, in the broker's place.

use std::sync::Arc;

use super::{KafkaSession, Rest, Then, api_versions_0, governed::Asked};
use crate::{
    cutter::{Cutter, LENGTH},
    error::SessionError,
    form::{Form, UNSUPPORTED_VERSION},
    limits::MAX_REWRITTEN,
    rights::Denial,
};

impl KafkaSession {
    /// Answers a request with an error of its own form; `None` asks for more of it.
    pub(super) fn refuse(
        &mut self,
        cut: &mut Cutter<'_>,
        asked: Asked,
    ) -> Result<Option<Rest>, SessionError> {
        let (api, version, length) = (asked.api, asked.version, asked.length);
        let form = Form::find(api, version)
            .filter(|form| asked.answered && (!form.needs_request() || length <= MAX_REWRITTEN));
        let Some(form) = form else {
            return Ok(self.doom(api.key, version));
        };
        let content = cut.rest().get(LENGTH..).unwrap_or_default();
        let content = content.get(..length).unwrap_or(content);
        if form.needs_request() && content.len() < length {
            self.collect_request(length);
            return Ok(None);
        }
        let answer = form
            .refuse(
                (api, version, asked.correlation),
                content,
                UNSUPPORTED_VERSION,
            )
            .map_err(|fault| asked.malformed(fault))?;
        self.denials.push(Denial::unsupported(api, version));
        self.await_answer(asked.correlation, Then::Replace(Arc::new(answer)))?;
        let left = cut.replace(LENGTH + length, api_versions_0(asked.correlation));
        Ok(Some(Rest::Discard(left)))
    }
}
