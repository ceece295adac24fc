//! What is left out of a broker's answer, and what is added to it.

use bytes::{BufMut, Bytes, BytesMut};
use renkei_access::TopicRights;

use super::rule::Governed;
use crate::{
    cutter::LENGTH,
    error::SessionError,
    form::{
        layout::{Seen, walk},
        writer::{Values, Writer},
    },
    request::MAX_HEAD,
    rewrite::Answer,
    rights::Right,
    wire::{Reader, WireFault},
};

/// What is done to a broker's answer.
#[derive(Debug)]
pub(crate) struct Amendment {
    pub(super) governed: &'static Governed,
    /// The version that the client asked for.
    pub(super) asked: i16,
    /// The version that the broker was asked for.
    pub(super) version: i16,
    /// Only what the caller may describe is to be seen.
    pub(super) filter: bool,
    /// Elements that are added to the list, encoded.
    pub(super) extra: Bytes,
    /// How many entries the list has.
    pub(super) count: u32,
}

impl Amendment {
    /// Bytes kept until the answer comes.
    pub(crate) fn held(&self) -> usize {
        self.extra.len()
    }

    /// What it is an answer to.
    pub(crate) fn api(&self) -> &'static str {
        self.governed.name()
    }

    /// Whether the whole answer is needed.
    pub(crate) fn needs_whole(&self) -> bool {
        self.filter
    }

    /// How its addresses have to be rewritten, if at all.
    pub(crate) fn rewrite(&self) -> Option<Answer> {
        Answer::of(self.governed.api.key, self.version)
    }

    /// Adds to the answer that `bytes` begin with, without seeing the whole of it: the new
    /// beginning, and how much of the old it replaces. `None` asks for more.
    pub(crate) fn add(
        &self,
        bytes: &[u8],
        length: usize,
    ) -> Result<Option<(usize, Bytes)>, SessionError> {
        let frame = bytes.get(..LENGTH + length).unwrap_or(bytes);
        match self.beginning(frame, length) {
            Ok(beginning) => Ok(Some(beginning)),
            Err(WireFault::Truncated)
                if frame.len() < LENGTH + length && frame.len() <= MAX_HEAD =>
            {
                Ok(None)
            }
            Err(fault) => Err(SessionError::MalformedAnswer {
                api: self.api(),
                fault,
            }),
        }
    }

    fn beginning(&self, frame: &[u8], length: usize) -> Result<(usize, Bytes), WireFault> {
        let mut before = Writer::new(self.governed.api, self.version);
        let each = self
            .governed
            .list()
            .map_or(&[][..], |each| each.list.answer_before);
        before.parts(each, Values::default())?;
        let mut reader = Reader::new(frame, self.governed.is_flexible(self.version));
        reader.take(LENGTH + 4)?;
        reader.skip_tags()?;
        reader.take(before.out.len())?;
        let list = reader.at();
        let count = reader.array()?;
        let mut writer = Writer::new(self.governed.api, self.version);
        writer.out.put_slice(frame.get(..list).unwrap_or_default());
        writer.count(count.checked_add(self.count).ok_or(WireFault::Oversized)?)?;
        writer.out.put_slice(&self.extra);
        let grown = (writer.out.len() + length).saturating_sub(reader.at());
        let grown = i32::try_from(grown).map_err(|_| WireFault::Oversized)?;
        if let Some(prefix) = writer.out.first_chunk_mut::<LENGTH>() {
            *prefix = grown.to_be_bytes();
        }
        Ok((reader.at(), writer.out.freeze()))
    }

    /// Leaves out of a whole answer what the caller may not see, and adds what is to be added.
    pub(crate) fn filter(&self, frame: &Bytes, rights: &TopicRights) -> Result<Bytes, WireFault> {
        let Some(shown) = self.governed.list().and_then(|each| each.shown.as_ref()) else {
            return Ok(frame.clone());
        };
        let mut reader = Reader::new(frame, self.governed.is_flexible(self.version));
        reader.take(LENGTH + 4)?;
        reader.skip_tags()?;
        walk(
            &mut reader,
            shown.before,
            self.version,
            &mut Seen::default(),
        )?;
        let list = reader.at();
        let before = self.before(frame.get(..list).unwrap_or_default())?;
        let (mut count, mut kept) = (self.count, BytesMut::from(&*self.extra));
        for _ in 0..reader.array()? {
            let (start, mut seen) = (reader.at(), Seen::default());
            walk(&mut reader, shown.element, self.version, &mut seen)?;
            if Right::Describe.is_in(rights, seen.name) {
                count = count.checked_add(1).ok_or(WireFault::Oversized)?;
                let element = frame.get(start..reader.at()).unwrap_or_default();
                self.put_element(element, &mut kept)?;
            }
        }
        let mut writer = Writer::new(self.governed.api, self.version);
        writer.out.put_slice(&before);
        writer.count(count)?;
        writer.out.put_slice(&kept);
        writer
            .out
            .put_slice(frame.get(reader.at()..).unwrap_or_default());
        writer.frame()
    }

    /// What comes before the list, as the client's version has it.
    fn before(&self, frame: &[u8]) -> Result<BytesMut, WireFault> {
        let mut out = BytesMut::from(frame);
        if self.asked == self.version || self.asked >= 3 {
            return Ok(out);
        }
        let mut reader = Reader::new(frame, false);
        let head = reader.take(LENGTH + 4)?;
        reader.take(4)?; // throttle time
        out.truncate(head.len());
        let brokers = reader.array()?;
        out.put_u32(brokers);
        for _ in 0..brokers {
            let start = reader.at();
            reader.i32()?;
            reader.string()?;
            reader.i32()?;
            let rack = reader.at();
            reader.nullable_string()?;
            let end = if self.asked == 0 { rack } else { reader.at() };
            out.put_slice(frame.get(start..end).unwrap_or_default());
        }
        let cluster = reader.at();
        reader.nullable_string()?;
        let rest = match self.asked {
            0 => frame.len(),
            1 => reader.at(),
            _ => cluster,
        };
        out.put_slice(frame.get(rest..).unwrap_or_default());
        Ok(out)
    }

    /// An element of the list, as the client's version has it.
    fn put_element(&self, element: &[u8], out: &mut BytesMut) -> Result<(), WireFault> {
        if self.asked == self.version || self.asked > 0 {
            out.put_slice(element);
            return Ok(());
        }
        let mut reader = Reader::new(element, false);
        reader.i16()?;
        reader.string()?;
        out.put_slice(element.get(..reader.at()).unwrap_or_default());
        reader.take(1)?; // internal
        out.put_slice(element.get(reader.at()..).unwrap_or_default());
        Ok(())
    }
}
