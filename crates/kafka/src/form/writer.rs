//! Writing an answer that says no, from the fields that it has.

use bytes::{BufMut, Bytes, BytesMut};

use super::layout::Versioned;
use crate::{
    api::Api,
    cutter::LENGTH,
    limits::MAX_REWRITTEN,
    wire::{WireFault, put_array},
};

/// A field of an answer that says no.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    /// The error code.
    Error,
    /// The error code of the whole answer; its elements have their own.
    Top,
    /// The partition's number.
    Index,
    /// What names the element, as the request has it.
    Id,
    /// The element's name, as the request has it.
    Name,
    /// The id of the topic that the element is, as the request has it.
    TopicId,
    /// A topic ID that means none.
    NoTopicId,
    NoText,
    NullText,
    /// An empty list, or no bytes.
    NoItems,
    Tags,
}

/// A structure that is null.
pub(crate) const NULL: Part = Part::I8(-1);

/// What is written in the places that are kept for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) error: i16,
    pub(crate) top: i16,
    pub(crate) index: i32,
    pub(crate) id: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) topic_id: &'a [u8],
}

/// Writes an answer in one version.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) out: BytesMut,
    version: i16,
    flexible: bool,
}

impl Writer {
    /// For a part of an answer.
    pub(crate) fn new(api: &Api, version: i16) -> Self {
        Self {
            out: BytesMut::new(),
            version,
            flexible: api.is_flexible(version),
        }
    }

    /// For a whole answer.
    pub(crate) fn framed(api: &Api, version: i16, correlation: i32) -> Self {
        let mut writer = Self::new(api, version);
        writer.out.put_i32(0);
        writer.out.put_i32(correlation);
        // That of ApiVersions has the oldest header in every version (KIP-511).
        if api.key != crate::api::API_VERSIONS {
            writer.tags();
        }
        writer
    }

    /// For a part of the same answer.
    pub(crate) fn part(&self) -> Self {
        Self {
            out: BytesMut::new(),
            ..*self
        }
    }

    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    pub(crate) fn parts(
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
                Part::Top => self.out.put_i16(values.top),
                Part::Index => self.out.put_i32(values.index),
                Part::Id => self.out.put_slice(values.id),
                Part::Name => self.out.put_slice(values.name),
                Part::TopicId => self.out.put_slice(values.topic_id),
                Part::NoTopicId => self.out.put_bytes(0, 16),
                Part::NoText if self.flexible => self.out.put_u8(1),
                Part::NoText => self.out.put_i16(0),
                Part::NullText if self.flexible => self.out.put_u8(0),
                Part::NullText => self.out.put_i16(-1),
                Part::NoItems => self.count(0)?,
                Part::Tags => self.tags(),
            }
        }
        self.bounded()
    }

    /// A denial may be several times as long as what is denied.
    fn bounded(&self) -> Result<(), WireFault> {
        match self.out.len() > MAX_REWRITTEN {
            true => Err(WireFault::Oversized),
            false => Ok(()),
        }
    }

    pub(crate) fn count(&mut self, count: u32) -> Result<(), WireFault> {
        put_array(&mut self.out, self.flexible, count)
    }

    pub(crate) fn tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    /// The whole answer, its length filled in.
    pub(crate) fn frame(self) -> Result<Bytes, WireFault> {
        self.bounded()?;
        with_length(self.out)
    }
}

/// Fills in the length that a frame begins with.
pub(crate) fn with_length(mut frame: BytesMut) -> Result<Bytes, WireFault> {
    let length = frame.len().saturating_sub(LENGTH);
    let length = i32::try_from(length).map_err(|_| WireFault::Oversized)?;
    if let Some(prefix) = frame.first_chunk_mut::<LENGTH>() {
        *prefix = length.to_be_bytes();
    }
    Ok(frame.freeze())
}
