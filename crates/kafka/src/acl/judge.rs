//! Judging a request by the names in it.

use std::ops::Range;

use bytes::BytesMut;

use super::{
    CREATION_OPTIONAL, Judged, Request, Trim, Verdict,
    answer::Amendment,
    rule::{Each, Rule, Subject},
};
use crate::{
    api,
    cutter::LENGTH,
    form::{
        Form,
        layout::{Seen, Versioned, walk},
        writer::{Part, Values, Writer},
    },
    request,
    rights::{Denial, Right},
    wire::{Reader, WireFault},
};

/// `FETCH_SESSION_ID_NOT_FOUND` of the protocol's error codes: clients begin a new session.
const NO_FETCH_SESSION: i16 = 70;

/// Session 0 with the epoch of requests without a session.
const WITHOUT_SESSION: &[u8] = &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// The ids with which clients fetch, and tools that debug; brokers have others.
const NO_BROKER: [i32; 2] = [-1, -2];

/// Denials of one request that are reported one by one.
const MAX_TOLD: usize = 16;

/// What a list holds, as far as it decides.
#[derive(Debug, Default)]
struct Survey {
    count: u32,
    denied: u32,
    /// All that is allowed may also be created.
    creatable: bool,
    after: usize,
}

/// A lack that concerns everything in a request.
type Blanket<'a> = Option<(Right, &'a [u8])>;

impl Request<'_> {
    /// Whether a Produce request of which only the beginning is there is for one topic, and an
    /// allowed one.
    pub(crate) fn passes_early(&self, content: &[u8]) -> bool {
        let Rule::Each(each) = &self.governed.rule else {
            return false;
        };
        let one_allowed = || {
            let mut body = request::body(content, self.governed.is_flexible(self.version))?;
            let mut seen = Seen::default();
            walk(&mut body, each.list.before, self.version, &mut seen)?;
            let alone = seen.transaction.is_none() && body.array()? == 1;
            Ok::<_, WireFault>(alone && each.right.is_in(self.rights, body.string()?))
        };
        self.governed.api.key == api::PRODUCE && one_allowed().unwrap_or(false)
    }

    /// Judges a whole request, without the frame's length.
    pub(crate) fn judge(&self, content: &[u8]) -> Result<Judged, WireFault> {
        let body = request::body(content, self.governed.is_flexible(self.version))?;
        match &self.governed.rule {
            Rule::Free => Ok(Judged::from(Verdict::Pass)),
            Rule::One(subject) => self.one(body, *subject, content),
            Rule::Each(each) => self.each(body, each),
        }
    }

    fn one(
        &self,
        mut body: Reader<'_>,
        subject: Subject,
        content: &[u8],
    ) -> Result<Judged, WireFault> {
        let (right, name) = match subject {
            Subject::Group => (Right::Group, body.string()?),
            Subject::Coordinator => {
                let name = body.string()?;
                let of_group = self.version < 1 || body.take(1)? == [0];
                match of_group {
                    true => (Right::Group, name),
                    false => (Right::Transaction, name),
                }
            }
            Subject::Producer => match body.nullable_string()? {
                Some(id) => (Right::Transaction, id),
                None => (Right::Sequence, &b""[..]),
            },
        };
        match right.is_in(self.rights, name) {
            true => Ok(Judged::from(Verdict::Pass)),
            false => self.deny(right, name, content),
        }
    }

    /// Answers with one error for all.
    fn deny(&self, right: Right, name: &[u8], content: &[u8]) -> Result<Judged, WireFault> {
        let request = (self.governed.api, self.version, self.correlation);
        let form = Form::find(self.governed.api, self.version).ok_or(WireFault::Oversized)?;
        let answer = form.refuse(request, content, right.error_code())?;
        Ok(Judged {
            denials: vec![Denial::new(right, name)],
            ..Judged::from(Verdict::Answer(answer))
        })
    }

    /// The same by a form of its own.
    fn deny_group(
        &self,
        (right, name): (Right, &[u8]),
        parts: &[Versioned<Part>],
    ) -> Result<Judged, WireFault> {
        let mut writer = self.answer_writer();
        let values = Values {
            error: right.error_code(),
            ..Values::default()
        };
        writer.parts(parts, values)?;
        Ok(Judged {
            denials: vec![Denial::new(right, name)],
            ..Judged::from(Verdict::Answer(writer.frame()?))
        })
    }

    /// For a whole answer in the broker's place.
    fn answer_writer(&self) -> Writer {
        Writer::framed(self.governed.api, self.version, self.correlation)
    }

    fn each(&self, mut body: Reader<'_>, each: &Each) -> Result<Judged, WireFault> {
        let mut seen = Seen::default();
        walk(&mut body, each.list.before, self.version, &mut seen)?;
        if seen
            .fetch_session
            .is_some_and(|(_, epoch)| !matches!(epoch, 0 | -1))
        {
            return self.no_fetch_session(each);
        }
        let mut patch = seen
            .fetch_session
            .map(|(at, _)| (LENGTH + at, WITHOUT_SESSION));
        let blanket = self.blanket(&seen);
        let group_denied = Versioned::of(each.group_denied.as_slice(), self.version).next();
        if let (Some(lack), Some(parts)) = (blanket, group_denied) {
            return self.deny_group(lack, parts);
        }
        let list = body.at();
        let mut count = match each.list.nullable {
            true => body.nullable_array()?,
            false => Some(body.array()?),
        };
        let is_metadata = self.governed.api.key == api::METADATA;
        // In the oldest version an empty list means everything.
        if is_metadata && self.version == 0 && count == Some(0) {
            (count, patch) = (None, Some((LENGTH + list, &[0xff; 4][..])));
        }
        let start = body.clone();
        let survey = self.survey(&mut body, each, count.unwrap_or_default(), blanket)?;
        let mut upgrade = None;
        if is_metadata && self.version < CREATION_OPTIONAL {
            upgrade = Some(survey.creatable);
        } else if is_metadata && body.take(1)? != [0] && !survey.creatable {
            patch = Some((LENGTH + survey.after, &[0]));
        }
        let mut judged = if blanket.is_some()
            || (survey.count > 0 && survey.denied == survey.count && !is_metadata)
        {
            self.answer(start, each, &survey, blanket)?
        } else if survey.denied > 0 {
            self.trim(start, each, &survey, list)?
        } else if is_metadata || count.is_none() {
            Judged::from(Verdict::Amend(self.amendment(
                BytesMut::new(),
                0,
                each.shown.is_some(),
            )))
        } else {
            Judged::from(Verdict::Pass)
        };
        judged.patch = patch;
        judged.upgrade = upgrade;
        Ok(judged)
    }

    /// What keeps a caller from everything in a request.
    fn blanket<'a>(&self, seen: &Seen<'a>) -> Blanket<'a> {
        let group = seen.group.map(|group| (Right::Group, group));
        let transaction = seen.transaction.map(|id| (Right::Transaction, id));
        let replica = seen.replica.filter(|id| !NO_BROKER.contains(id));
        let replica = replica.map(|_| (Right::Replica, &b""[..]));
        group
            .into_iter()
            .chain(transaction)
            .chain(replica)
            .find(|(right, name)| !right.is_in(self.rights, name))
    }

    /// Walks the list, counting.
    fn survey(
        &self,
        body: &mut Reader<'_>,
        each: &Each,
        count: u32,
        blanket: Blanket<'_>,
    ) -> Result<Survey, WireFault> {
        let mut survey = Survey {
            count,
            creatable: count > 0,
            ..Survey::default()
        };
        for _ in 0..count {
            let name = each.list.element(body, self.version)?;
            match blanket.is_none() && each.right.is_in(self.rights, name) {
                true => survey.creatable &= Right::Create.is_in(self.rights, name),
                false => survey.denied += 1,
            }
        }
        survey.after = body.at();
        Ok(survey)
    }

    /// Answers in the broker's place: all is denied.
    fn answer(
        &self,
        mut body: Reader<'_>,
        each: &Each,
        survey: &Survey,
        blanket: Blanket<'_>,
    ) -> Result<Judged, WireFault> {
        let mut writer = self.answer_writer();
        writer.parts(each.list.answer_before, Values::default())?;
        writer.count(survey.count)?;
        let mut denials = Vec::new();
        denials.extend(blanket.map(|(right, name)| Denial::new(right, name)));
        for _ in 0..survey.count {
            let mut start = body.clone();
            let name = each.list.element(&mut body, self.version)?;
            let right = blanket.map_or(each.right, |(right, _)| right);
            let error = right.error_code();
            each.list.refuse_element(&mut start, &mut writer, error)?;
            if blanket.is_none() && denials.len() < MAX_TOLD {
                denials.push(Denial::new(right, name));
            }
        }
        writer.parts(each.list.answer_after, Values::default())?;
        Ok(Judged {
            denials,
            ..Judged::from(Verdict::Answer(writer.frame()?))
        })
    }

    /// Cuts a request down to what is allowed in it.
    fn trim(
        &self,
        mut body: Reader<'_>,
        each: &Each,
        survey: &Survey,
        list: usize,
    ) -> Result<Judged, WireFault> {
        let mut writer = Writer::new(self.governed.api, self.version);
        let (mut kept, mut denials) = (Vec::<Range<usize>>::new(), Vec::new());
        for _ in 0..survey.count {
            let mut start = body.clone();
            let name = each.list.element(&mut body, self.version)?;
            if each.right.is_in(self.rights, name) {
                match kept.last_mut().filter(|last| last.end == start.at()) {
                    Some(last) => last.end = body.at(),
                    None => kept.push(start.at()..body.at()),
                }
                continue;
            }
            let error = each.right.error_code();
            each.list.refuse_element(&mut start, &mut writer, error)?;
            if denials.len() < MAX_TOLD {
                denials.push(Denial::new(each.right, name));
            }
        }
        let trim = Trim {
            flexible: self.governed.is_flexible(self.version),
            list,
            left: survey.count.saturating_sub(survey.denied),
            kept,
            after: survey.after,
        };
        let is_metadata = self.governed.api.key == api::METADATA;
        let amendment = self.amendment(writer.out, survey.denied, is_metadata);
        Ok(Judged {
            denials,
            ..Judged::from(Verdict::Trim(trim, amendment))
        })
    }

    /// No session was given here, so this one is another connection's or an old one.
    fn no_fetch_session(&self, each: &Each) -> Result<Judged, WireFault> {
        let mut writer = self.answer_writer();
        let top = Values {
            top: NO_FETCH_SESSION,
            ..Values::default()
        };
        writer.parts(each.list.answer_before, top)?;
        writer.count(0)?;
        writer.parts(each.list.answer_after, Values::default())?;
        Ok(Judged::from(Verdict::Answer(writer.frame()?)))
    }

    fn amendment(&self, extra: BytesMut, count: u32, filter: bool) -> Amendment {
        Amendment {
            governed: self.governed,
            asked: self.version,
            version: match self.governed.api.key {
                api::METADATA => self.version.max(CREATION_OPTIONAL),
                _ => self.version,
            },
            filter,
            extra: extra.freeze(),
            count,
        }
    }
}
