//! Answers about what is denied: whole ones in the broker's place, and additions to its own.

use bytes::{BufMut, Bytes, BytesMut};
use renkei_access::TopicRights;

use super::{
    layout::{Seen, Versioned, walk},
    rule::{Governed, Part},
};
use crate::{
    cutter::LENGTH,
    error::SessionError,
    limits::MAX_REWRITTEN,
    request::MAX_HEAD,
    rewrite::Answer,
    rights::Right,
    wire::{Reader, WireFault, put_array, put_string},
};

/// What stands in the places that are kept for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub(super) error: i16,
    pub(super) index: i32,
    pub(super) name: &'a [u8],
}

/// Writes an answer in one version.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) out: BytesMut,
    version: i16,
    flexible: bool,
}

impl Writer {
    /// For a part of an answer.
    pub(super) fn new(governed: &Governed, version: i16) -> Self {
        Self {
            out: BytesMut::new(),
            version,
            flexible: governed.is_flexible(version),
        }
    }

    /// For a whole answer.
    pub(super) fn framed(governed: &Governed, version: i16, correlation: i32) -> Self {
        let mut writer = Self::new(governed, version);
        writer.out.put_i32(0);
        writer.out.put_i32(correlation);
        writer.tags();
        writer
    }

    pub(super) fn parts(
        &mut self,
        parts: &[Versioned<Part>],
        values: Values<'_>,
    ) -> Result<(), WireFault> {
        for part in Versioned::of(parts, self.version) {
            match part {
                Part::I8(value) => self.out.put_i8(value),
                Part::I16(value) => self.out.put_i16(value),
                Part::I32(value) => self.out.put_i32(value),
                Part::I64(value) => self.out.put_i64(value),
                Part::Error => self.out.put_i16(values.error),
                Part::Index => self.out.put_i32(values.index),
                Part::Name => self.text(values.name)?,
                Part::NoText => self.text(b"")?,
                Part::NullText if self.flexible => self.out.put_u8(0),
                Part::NullText => self.out.put_i16(-1),
                Part::NoItems => self.count(0)?,
                Part::Tags => self.tags(),
            }
        }
        // A denial may be several times as long as what is denied.
        match self.out.len() > MAX_REWRITTEN {
            true => Err(WireFault::Oversized),
            false => Ok(()),
        }
    }

    pub(super) fn text(&mut self, text: &[u8]) -> Result<(), WireFault> {
        put_string(&mut self.out, self.flexible, text)
    }

    pub(super) fn count(&mut self, count: u32) -> Result<(), WireFault> {
        put_array(&mut self.out, self.flexible, count)
    }

    pub(super) fn tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    /// The whole answer, its length filled in.
    pub(super) fn frame(self) -> Result<Bytes, WireFault> {
        with_length(self.out)
    }
}

/// Fills in the length that a frame begins with.
pub(super) fn with_length(mut frame: BytesMut) -> Result<Bytes, WireFault> {
    let length = frame.len().saturating_sub(LENGTH);
    let length = i32::try_from(length).map_err(|_| WireFault::Oversized)?;
    if let Some(prefix) = frame.first_chunk_mut::<LENGTH>() {
        *prefix = length.to_be_bytes();
    }
    Ok(frame.freeze())
}

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
    /// Bytes held until the answer comes.
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
        Answer::of(self.governed.key, self.version)
    }

    /// Adds to the answer that `bytes` begin with, without seeing the whole of it: the new
    /// beginning, and how much of the old it stands for. `None` asks for more.
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
        let mut before = Writer::new(self.governed, self.version);
        let each = self
            .governed
            .list()
            .map_or(&[][..], |each| each.answer_before);
        before.parts(each, Values::default())?;
        let mut reader = Reader::new(frame, self.governed.is_flexible(self.version));
        reader.take(LENGTH + 4)?;
        reader.skip_tags()?;
        reader.take(before.out.len())?;
        let list = reader.at();
        let count = reader.array()?;
        let mut writer = Writer::new(self.governed, self.version);
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
        let mut writer = Writer::new(self.governed, self.version);
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
