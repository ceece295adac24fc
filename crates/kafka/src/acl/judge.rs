//! Judging a request by the names in it.

use std::ops::Range;

use bytes::BytesMut;

use super::{
    CREATION_OPTIONAL, Judged, Request, Trim, Verdict,
    answer::{Amendment, Values, Writer},
    layout::{Seen, Versioned, walk},
    rule::{Each, Part, Rule, Subject},
};
use crate::{
    api,
    cutter::LENGTH,
    request,
    rights::{Denial, Right},
    wire::{Reader, WireFault},
};

/// `FETCH_SESSION_ID_NOT_FOUND` of the protocol's error codes: clients begin anew.
const NO_FETCH_SESSION: i16 = 70;

/// Session 0 with the epoch of requests without a session.
const WITHOUT_SESSION: &[u8] = &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// Denials of one request that are told one by one.
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
            walk(&mut body, each.before, self.version, &mut seen)?;
            let alone = seen.transaction.is_none() && body.array()? == 1;
            Ok::<_, WireFault>(alone && each.right.is_in(self.rights, body.string()?))
        };
        self.governed.key == api::PRODUCE && one_allowed().unwrap_or(false)
    }

    /// Judges a whole request, without the frame's length.
    pub(crate) fn judge(&self, content: &[u8]) -> Result<Judged, WireFault> {
        let body = request::body(content, self.governed.is_flexible(self.version))?;
        match &self.governed.rule {
            Rule::Free => Ok(Judged::from(Verdict::Pass)),
            Rule::One { subject, denied } => self.one(body, *subject, denied),
            Rule::Each(each) => self.each(body, each),
        }
    }

    fn one(
        &self,
        mut body: Reader<'_>,
        subject: Subject,
        denied: &[Versioned<Part>],
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
            false => self.deny(right, name, denied),
        }
    }

    /// Answers with one error for all.
    fn deny(
        &self,
        right: Right,
        name: &[u8],
        parts: &[Versioned<Part>],
    ) -> Result<Judged, WireFault> {
        let mut writer = Writer::framed(self.governed, self.version, self.correlation);
        let error = right.error_code();
        writer.parts(
            parts,
            Values {
                error,
                ..Values::default()
            },
        )?;
        Ok(Judged {
            denials: vec![Denial::new(right, name)],
            ..Judged::from(Verdict::Answer(writer.frame()?))
        })
    }

    fn each(&self, mut body: Reader<'_>, each: &Each) -> Result<Judged, WireFault> {
        let mut seen = Seen::default();
        walk(&mut body, each.before, self.version, &mut seen)?;
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
        if let (Some((right, name)), Some(parts)) = (blanket, each.group_denied) {
            return self.deny(right, name, parts);
        }
        let list = body.at();
        let mut count = match each.nullable {
            true => body.nullable_array()?,
            false => Some(body.array()?),
        };
        let is_metadata = self.governed.key == api::METADATA;
        // In the oldest version an empty list stands for everything.
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
        group
            .into_iter()
            .chain(transaction)
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
            let name = self.element(body, each)?;
            match blanket.is_none() && each.right.is_in(self.rights, name) {
                true => survey.creatable &= Right::Create.is_in(self.rights, name),
                false => survey.denied += 1,
            }
        }
        survey.after = body.at();
        Ok(survey)
    }

    /// Passes over an element; gives back its name.
    fn element<'a>(&self, body: &mut Reader<'a>, each: &Each) -> Result<&'a [u8], WireFault> {
        let Some(partition) = each.partition else {
            let mut seen = Seen::default();
            walk(body, each.element, self.version, &mut seen)?;
            return Ok(seen.name);
        };
        let name = body.string()?;
        for _ in 0..body.array()? {
            walk(body, partition, self.version, &mut Seen::default())?;
        }
        body.skip_tags()?;
        Ok(name)
    }

    /// Answers in the broker's place: all is denied.
    fn answer(
        &self,
        mut body: Reader<'_>,
        each: &Each,
        survey: &Survey,
        blanket: Blanket<'_>,
    ) -> Result<Judged, WireFault> {
        let mut writer = Writer::framed(self.governed, self.version, self.correlation);
        writer.parts(each.answer_before, Values::default())?;
        writer.count(survey.count)?;
        let mut denials = Vec::new();
        denials.extend(blanket.map(|(right, name)| Denial::new(right, name)));
        for _ in 0..survey.count {
            let start = body.clone();
            let name = self.element(&mut body, each)?;
            let right = blanket.map_or(each.right, |(right, _)| right);
            self.denied(&mut writer, start, each, right)?;
            if blanket.is_none() && denials.len() < MAX_TOLD {
                denials.push(Denial::new(right, name));
            }
        }
        writer.parts(each.answer_after, Values::default())?;
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
        let mut writer = Writer::new(self.governed, self.version);
        let (mut kept, mut denials) = (Vec::<Range<usize>>::new(), Vec::new());
        for _ in 0..survey.count {
            let start = body.clone();
            let name = self.element(&mut body, each)?;
            if each.right.is_in(self.rights, name) {
                match kept.last_mut().filter(|last| last.end == start.at()) {
                    Some(last) => last.end = body.at(),
                    None => kept.push(start.at()..body.at()),
                }
                continue;
            }
            self.denied(&mut writer, start, each, each.right)?;
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
        let is_metadata = self.governed.key == api::METADATA;
        let amendment = self.amendment(writer.out, survey.denied, is_metadata);
        Ok(Judged {
            denials,
            ..Judged::from(Verdict::Trim(trim, amendment))
        })
    }

    /// Writes the answer's element for what is denied; `body` stands before the request's.
    fn denied(
        &self,
        writer: &mut Writer,
        mut body: Reader<'_>,
        each: &Each,
        right: Right,
    ) -> Result<(), WireFault> {
        let error = right.error_code();
        let Some(partition) = each.partition else {
            let name = self.element(&mut body, each)?;
            return writer.parts(
                each.denied,
                Values {
                    error,
                    name,
                    index: 0,
                },
            );
        };
        writer.text(body.string()?)?;
        let count = body.array()?;
        writer.count(count)?;
        for _ in 0..count {
            let index = body.clone().i32()?;
            walk(&mut body, partition, self.version, &mut Seen::default())?;
            writer.parts(
                each.denied,
                Values {
                    error,
                    index,
                    ..Values::default()
                },
            )?;
        }
        writer.tags();
        Ok(())
    }

    /// Nobody was given a session here, so this one is somebody else's or of another time.
    fn no_fetch_session(&self, each: &Each) -> Result<Judged, WireFault> {
        let mut writer = Writer::framed(self.governed, self.version, self.correlation);
        let parts: [Versioned<Part>; 3] = [
            Versioned::always(Part::I32(0)),
            Versioned::always(Part::I16(NO_FETCH_SESSION)),
            Versioned::always(Part::I32(0)),
        ];
        writer.parts(&parts, Values::default())?;
        writer.count(0)?;
        writer.parts(each.answer_after, Values::default())?;
        Ok(Judged::from(Verdict::Answer(writer.frame()?)))
    }

    fn amendment(&self, extra: BytesMut, count: u32, filter: bool) -> Amendment {
        Amendment {
            governed: self.governed,
            asked: self.version,
            version: match self.governed.key {
                api::METADATA => self.version.max(CREATION_OPTIONAL),
                _ => self.version,
            },
            filter,
            extra: extra.freeze(),
            count,
        }
    }
}
