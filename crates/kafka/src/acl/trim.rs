//! What is sent to the broker in the place of a request that could not be sent as it was.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::CREATION_OPTIONAL;
use crate::{
    cutter::LENGTH,
    form::writer,
    wire::{WireFault, put_array},
};

/// Parts of a request at least this long are sliced; copying shorter ones costs less.
const SLICED: usize = 4096;

/// What is left of a request.
#[derive(Debug)]
pub(crate) struct Trim {
    pub(super) flexible: bool,
    /// The position of the list, after the frame's length.
    pub(super) list: usize,
    pub(super) left: u32,
    pub(super) kept: Vec<Range<usize>>,
    pub(super) after: usize,
}

impl Trim {
    /// The trimmed frame as slices, of which long ones are parts of `frame`.
    pub(crate) fn apply(&self, frame: &Bytes) -> Result<Vec<Bytes>, WireFault> {
        let content = frame.slice(LENGTH.min(frame.len())..);
        let part = |range: Range<usize>| content.get(range).unwrap_or_default();
        let mut short = BytesMut::new();
        short.put_i32(0);
        short.put_slice(part(0..self.list));
        put_array(&mut short, self.flexible, self.left)?;
        let mut out = Vec::new();
        for range in self
            .kept
            .iter()
            .cloned()
            .chain(std::iter::once(self.after..content.len()))
        {
            if range.len() < SLICED {
                short.put_slice(part(range));
            } else if range.end <= content.len() {
                out.push(short.split().freeze());
                out.push(content.slice(range));
            }
        }
        out.push(short.freeze());
        let length = out
            .iter()
            .map(Bytes::len)
            .sum::<usize>()
            .saturating_sub(LENGTH);
        let length = i32::try_from(length).map_err(|_| WireFault::Oversized)?;
        if let Some(first) = out.first_mut() {
            let mut head = BytesMut::from(&**first);
            if let Some(prefix) = head.first_chunk_mut::<LENGTH>() {
                *prefix = length.to_be_bytes();
            }
            *first = head.freeze();
        }
        Ok(out)
    }
}

/// A Metadata request of an older version as one of the first in which creation is optional.
pub(crate) fn upgraded(slices: Vec<Bytes>, create: bool) -> Result<Bytes, WireFault> {
    let mut frame = BytesMut::from(&*slices.concat());
    frame.put_u8(create.into());
    let version = LENGTH + 2;
    if let Some(place) = frame.get_mut(version..version + 2) {
        place.copy_from_slice(&CREATION_OPTIONAL.to_be_bytes());
    }
    writer::with_length(frame)
}
