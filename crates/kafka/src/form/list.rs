//! Requests that are a list, and the list that answers them, with an error for each element.

use bytes::{BufMut, Bytes};

use super::{
    layout::{Field, Seen, Versioned, walk},
    writer::{Part, Values, Writer},
};
use crate::wire::{Reader, WireFault};

/// A list within a request, and the list that answers it.
#[derive(Debug)]
pub(crate) struct List {
    /// The request up to the list.
    pub(crate) before: &'static [Versioned<Field>],
    /// Whether null means everything.
    pub(crate) nullable: bool,
    /// The list is of elements that hold such lists each, behind these fields.
    pub(crate) outer: Option<&'static [Versioned<Field>]>,
    /// What names an element: its first fields.
    pub(crate) id: &'static [Versioned<Field>],
    /// An element's partitions, each beginning with its number, if it has any: they follow its
    /// name.
    pub(crate) partition: Option<&'static [Versioned<Field>]>,
    /// The rest of an element.
    pub(crate) rest: &'static [Versioned<Field>],
    /// A second list behind this one, of which the answer makes one with it.
    pub(crate) then: Option<&'static List>,
    /// The answer around its list.
    pub(crate) answer_before: &'static [Versioned<Part>],
    pub(crate) answer_after: &'static [Versioned<Part>],
    /// The answer's element, or partition of an element, that says no.
    pub(crate) refused: &'static [Versioned<Part>],
}

impl List {
    /// Passes over an element; gives back its name.
    pub(crate) fn element<'a>(
        &self,
        body: &mut Reader<'a>,
        version: i16,
    ) -> Result<&'a [u8], WireFault> {
        let mut seen = Seen::default();
        walk(body, self.id, version, &mut seen)?;
        if let Some(partition) = self.partition {
            for _ in 0..body.array()? {
                walk(body, partition, version, &mut Seen::default())?;
            }
        }
        walk(body, self.rest, version, &mut Seen::default())?;
        Ok(seen.name)
    }

    /// The whole answer to a request of which nothing is done. `body` is behind its header.
    pub(super) fn refuse(
        &self,
        mut body: Reader<'_>,
        mut answer: Writer,
        error: i16,
    ) -> Result<Bytes, WireFault> {
        walk(
            &mut body,
            self.before,
            answer.version(),
            &mut Seen::default(),
        )?;
        let mut elements = answer.part();
        let mut count = self.refuse_all(&mut body, &mut elements, error)?;
        if let Some(second) = self.then {
            count += second.refuse_all(&mut body, &mut elements, error)?;
        }
        let values = Values {
            top: error,
            ..Values::default()
        };
        answer.parts(self.answer_before, values)?;
        answer.count(count)?;
        answer.out.put_slice(&elements.out);
        answer.parts(self.answer_after, values)?;
        answer.frame()
    }

    fn refuse_all(
        &self,
        body: &mut Reader<'_>,
        writer: &mut Writer,
        error: i16,
    ) -> Result<u32, WireFault> {
        let Some(outer) = self.outer else {
            return self.refuse_list(body, writer, error);
        };
        let mut count = 0_u32;
        for _ in 0..body.array()? {
            walk(body, outer, writer.version(), &mut Seen::default())?;
            count = count.saturating_add(self.refuse_list(body, writer, error)?);
            body.skip_tags()?;
        }
        Ok(count)
    }

    fn refuse_list(
        &self,
        body: &mut Reader<'_>,
        writer: &mut Writer,
        error: i16,
    ) -> Result<u32, WireFault> {
        let count = match self.nullable {
            true => body.nullable_array()?.unwrap_or_default(),
            false => body.array()?,
        };
        for _ in 0..count {
            self.refuse_element(body, writer, error)?;
        }
        Ok(count)
    }

    /// Writes the answer's element for the one that `body` is at, and passes over that.
    pub(crate) fn refuse_element(
        &self,
        body: &mut Reader<'_>,
        writer: &mut Writer,
        error: i16,
    ) -> Result<(), WireFault> {
        let (start, mut seen, version) = (body.at(), Seen::default(), writer.version());
        walk(body, self.id, version, &mut seen)?;
        let values = Values {
            error,
            id: body.passed_since(start),
            name: seen.name_field,
            topic_id: seen.topic_id,
            ..Values::default()
        };
        let Some(partition) = self.partition else {
            walk(body, self.rest, version, &mut Seen::default())?;
            return writer.parts(self.refused, values);
        };
        writer.out.put_slice(values.id);
        let count = body.array()?;
        writer.count(count)?;
        for _ in 0..count {
            let index = body.clone().i32()?;
            walk(body, partition, version, &mut Seen::default())?;
            writer.parts(self.refused, Values { index, ..values })?;
        }
        walk(body, self.rest, version, &mut Seen::default())?;
        writer.tags();
        Ok(())
    }
}
