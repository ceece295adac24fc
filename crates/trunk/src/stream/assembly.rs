//! Puts the bytes of one stream in order, whatever lane they came by.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces shorter than this are copied together, so that none keeps a read buffer alive and many
/// of them cost little.
const SMALL: usize = 2048;
/// Room kept for a stream that is read as its bytes come.
const SPARE: usize = 64;
/// How long a piece of copied bytes grows.
const GATHER: usize = 64 * 1024;

/// Bytes held between what the application has read and the highest offset that came.
///
/// Bytes of an offset that came before win over later ones. A piece that shares the memory it
/// arrived in is at least a tenth of it; all others are copied. So shared memory is at most ten
/// times the bytes in it, if the driver says truly how large it is.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// From `read` to `next`, without a gap: where bytes that come in order go at once.
    ready: VecDeque<Piece>,
    /// Behind `next`, by offset, with gaps between them.
    early: BTreeMap<u64, Piece>,
    /// Read by the application up to here.
    read: u64,
    /// Complete up to here.
    next: u64,
    held: u64,
}

#[derive(Debug)]
enum Piece {
    Shared(Bytes),
    Copied(BytesMut),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Shared(bytes) => bytes.len() as u64,
            Self::Copied(bytes) => bytes.len() as u64,
        }
    }

    fn of(data: Bytes, memory: usize) -> Self {
        match is_small(&data, memory) {
            true => Self::Copied(BytesMut::from(&data[..])),
            false => Self::Shared(data),
        }
    }

    /// Takes a small piece that follows, if there is room.
    fn gathers(&mut self, data: &Bytes, memory: usize) -> bool {
        match self {
            Self::Copied(copied) if is_small(data, memory) => {
                let fits = copied.len() + data.len() <= GATHER;
                if fits {
                    copied.extend_from_slice(data);
                }
                fits
            }
            _ => false,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => bytes.freeze(),
        }
    }
}

impl Assembly {
    /// Complete up to this offset.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Given to the application up to this offset.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Bytes in memory.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Separate pieces in memory.
    pub(crate) fn pieces(&self) -> usize {
        self.ready.len() + self.early.len()
    }

    /// Takes bytes at an offset; `memory` is the size of what they share with others.
    pub(crate) fn insert(&mut self, offset: u64, mut data: Bytes, memory: usize) {
        let end = offset + data.len() as u64;
        let at = offset.max(self.next);
        if at >= end {
            return;
        }
        skip(&mut data, at - offset);
        if at > self.next || !self.early.is_empty() {
            return self.insert_early(at, data, memory);
        }
        self.held += data.len() as u64;
        self.next = end;
        let last = self.ready.back_mut();
        if !last.is_some_and(|last| last.gathers(&data, memory)) {
            self.ready.push_back(Piece::of(data, memory));
        }
    }

    /// The same where there are gaps: fills those that the bytes cover.
    fn insert_early(&mut self, mut at: u64, mut data: Bytes, memory: usize) {
        let end = at + data.len() as u64;
        let before = self.early.range(..=at).next_back();
        let covered = before.map_or(at, |(start, piece)| at.max(start + piece.len()));
        skip(&mut data, covered - at);
        at = covered;
        while at < end {
            let after = self.early.range(at..end).next();
            let Some((start, len)) = after.map(|(start, piece)| (*start, piece.len())) else {
                self.store(at, data, memory);
                break;
            };
            if start > at {
                let gap = usize::try_from(start - at).unwrap_or(usize::MAX);
                self.store(at, data.split_to(gap.min(data.len())), memory);
            }
            let resume = (start + len).min(end);
            skip(&mut data, resume - start);
            at = resume;
        }
        while let Some(first) = self.early.first_entry()
            && *first.key() == self.next
        {
            let piece = first.remove();
            self.next += piece.len();
            self.ready.push_back(piece);
        }
    }

    fn store(&mut self, at: u64, data: Bytes, memory: usize) {
        self.held += data.len() as u64;
        if let Some((start, last)) = self.early.range_mut(..at).next_back()
            && start + last.len() == at
            && last.gathers(&data, memory)
        {
            return;
        }
        self.early.insert(at, Piece::of(data, memory));
    }

    /// The next bytes for the application, at most `max`.
    pub(crate) fn take(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 {
            return None;
        }
        let mut data = self.ready.pop_front()?.into_bytes();
        if data.len() > max {
            self.ready.push_front(Piece::Shared(data.split_off(max)));
        } else if self.ready.is_empty() && self.ready.capacity() > SPARE {
            self.ready = VecDeque::new();
        }
        self.read += data.len() as u64;
        self.held -= data.len() as u64;
        Some(data)
    }

    /// Forgets all bytes.
    pub(crate) fn clear(&mut self) {
        self.ready = VecDeque::new();
        self.early.clear();
        self.held = 0;
    }

    /// Forgets those behind the first gap.
    pub(crate) fn clear_early(&mut self) {
        let early = std::mem::take(&mut self.early);
        self.held -= early.values().map(Piece::len).sum::<u64>();
    }
}

fn is_small(data: &Bytes, memory: usize) -> bool {
    data.len() < SMALL || data.len() < memory / 10
}

fn skip(data: &mut Bytes, count: u64) {
    data.advance(usize::try_from(count).unwrap_or(usize::MAX).min(data.len()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(assembly: &mut Assembly) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(data) = assembly.take(7) {
            out.extend_from_slice(&data);
        }
        out
    }

    #[test]
    fn the_first_of_overlapping_bytes_wins() {
        let mut assembly = Assembly::default();
        assembly.insert(2, Bytes::from_static(b"cd"), 2);
        assembly.insert(0, Bytes::from_static(b"XXXXXX"), 6);
        assembly.insert(0, Bytes::from_static(b"YYYYYYY"), 7);
        assert_eq!(drain(&mut assembly), b"XXcdXXY");
        assert_eq!((assembly.held(), assembly.pieces()), (0, 0));
    }

    #[test]
    fn small_pieces_are_gathered_and_large_ones_shared() {
        let mut assembly = Assembly::default();
        for at in 0..1000 {
            assembly.insert(at + 1, Bytes::from_static(b"x"), 1);
        }
        assert_eq!(
            assembly.pieces(),
            1,
            "a thousand bytes behind a gap are one piece"
        );
        let large = Bytes::from(vec![1; 8192]);
        assembly.insert(2000, large.clone(), 8192);
        assembly.insert(0, Bytes::from(vec![0; 2000]), 2000);
        assembly.take(1).expect("first piece");
        while let Some(data) = assembly.take(usize::MAX) {
            if data.len() == 8192 {
                assert_eq!(data.as_ptr(), large.as_ptr(), "not copied");
            }
        }
        assert_eq!(assembly.read(), 10_192);
    }

    proptest! {
        #[test]
        fn any_cover_in_any_order_gives_the_bytes_once(
            length in 1usize..6000,
            cuts in proptest::collection::vec((0usize..6000, 1usize..3000), 0..60),
        ) {
            let source: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut assembly = Assembly::default();
            let mut out = Vec::new();
            for (start, len) in cuts.into_iter().chain([(0, length)]) {
                let start = start.min(length);
                let end = (start + len).min(length);
                assembly.insert(start as u64, Bytes::copy_from_slice(&source[start..end]), 4096);
                prop_assert!(assembly.held() <= length as u64 - assembly.read());
                if start % 2 == 0 {
                    out.extend(drain(&mut assembly));
                }
            }
            out.extend(drain(&mut assembly));
            prop_assert_eq!(out, source);
            prop_assert_eq!(assembly.held(), 0);
        }
    }
}
