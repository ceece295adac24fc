//! Puts the bytes of one stream in order, whatever lane they came by.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces shorter than this are copied together, so that none keeps a read buffer alive and many
/// of them cost little.
const SMALL: usize = 2048;
/// How long a piece of copied bytes grows.
const GATHER: usize = 64 * 1024;

/// Bytes held between what the application has read and the highest offset that came.
///
/// Bytes of an offset that came before win over later ones. A piece that shares the memory it
/// arrived in is at least a tenth of it; all others are copied. So shared memory is at most ten
/// times the bytes in it, if the driver says truly how large it is.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    pieces: BTreeMap<u64, Piece>,
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
        self.pieces.len()
    }

    /// Takes bytes at an offset; `memory` is the size of what they share with others.
    pub(crate) fn insert(&mut self, offset: u64, mut data: Bytes, memory: usize) {
        let end = offset + data.len() as u64;
        let before = self.pieces.range(..=offset).next_back();
        let covered = before
            .map_or(0, |(at, piece)| at + piece.len())
            .max(self.next);
        let mut at = offset.max(covered);
        if at >= end {
            return;
        }
        skip(&mut data, at - offset);
        while at < end {
            let after = self
                .pieces
                .range(at..end)
                .next()
                .map(|(o, piece)| (*o, piece.len()));
            let Some((start, len)) = after else {
                self.store(at, data, memory);
                break;
            };
            if start > at {
                let gap = usize::try_from(start - at)
                    .unwrap_or(usize::MAX)
                    .min(data.len());
                self.store(at, data.split_to(gap), memory);
            }
            let resume = (start + len).min(end);
            skip(&mut data, resume - start);
            at = resume;
        }
        self.advance();
    }

    fn store(&mut self, at: u64, data: Bytes, memory: usize) {
        self.held += data.len() as u64;
        if data.len() >= SMALL && data.len() >= memory / 10 {
            self.pieces.insert(at, Piece::Shared(data));
            return;
        }
        if let Some((start, Piece::Copied(copied))) = self.pieces.range_mut(..at).next_back()
            && start + copied.len() as u64 == at
            && copied.len() + data.len() <= GATHER
        {
            copied.extend_from_slice(&data);
            return;
        }
        self.pieces
            .insert(at, Piece::Copied(BytesMut::from(&data[..])));
    }

    fn advance(&mut self) {
        while let Some((at, piece)) = self.pieces.range(..=self.next).next_back()
            && at + piece.len() > self.next
        {
            self.next = at + piece.len();
        }
    }

    /// The next bytes for the application, at most `max`.
    pub(crate) fn take(&mut self, max: usize) -> Option<Bytes> {
        if self.read >= self.next || max == 0 {
            return None;
        }
        let (at, piece) = self.pieces.pop_first()?;
        let mut data = piece.into_bytes();
        let rest = data.split_off(max.min(data.len()));
        if !rest.is_empty() {
            self.pieces
                .insert(at + data.len() as u64, Piece::Shared(rest));
        }
        self.read += data.len() as u64;
        self.held -= data.len() as u64;
        Some(data)
    }

    /// Forgets all bytes.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.held = 0;
    }
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
