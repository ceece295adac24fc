//! The DATA frames of one stream that were sent and not acknowledged, and which lane has them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::id::LaneId;

/// Room kept for a stream that sends little.
const SPARE: usize = 64;

/// A DATA frame to send.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) fin: bool,
}

/// Where a frame's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Lane(LaneId),
    /// Its lane died: to be sent again.
    Lost,
    /// Its lane drained: the peer has it.
    Delivered,
}

/// In the order of their offsets. A frame keeps its bounds when it is sent again, so that the
/// number of pieces at the receiver stays bounded.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    frames: VecDeque<(Chunk, Carrier)>,
    lost: usize,
}

impl Flight {
    /// How many there are.
    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    pub(crate) fn push(&mut self, chunk: Chunk, lane: LaneId) {
        self.frames.push_back((chunk, Carrier::Lane(lane)));
    }

    /// The lowest lost frame, for a lane; one longer than `budget` is cut in two.
    pub(crate) fn send_lost(&mut self, lane: LaneId, budget: usize) -> Option<Chunk> {
        let index = self
            .frames
            .iter()
            .position(|(_, carrier)| *carrier == Carrier::Lost)?;
        let (chunk, carrier) = self.frames.get_mut(index)?;
        *carrier = Carrier::Lane(lane);
        if chunk.data.len() <= budget {
            self.lost -= 1;
            return Some(chunk.clone());
        }
        let data = chunk.data.split_off(budget);
        let rest = Chunk {
            offset: chunk.offset + budget as u64,
            data,
            fin: chunk.fin,
        };
        chunk.fin = false;
        let chunk = chunk.clone();
        self.frames.insert(index + 1, (rest, Carrier::Lost));
        Some(chunk)
    }

    /// The lane is gone: what it carried is lost, or delivered if it drained.
    pub(crate) fn lane_gone(&mut self, lane: LaneId, drained: bool) {
        for (_, carrier) in &mut self.frames {
            if *carrier == Carrier::Lane(lane) {
                *carrier = if drained {
                    Carrier::Delivered
                } else {
                    Carrier::Lost
                };
                self.lost += usize::from(!drained);
            }
        }
    }

    /// Frees what is acknowledged; reports to `freed` which lane carried how many bytes of it.
    pub(crate) fn acknowledge(&mut self, offset: u64, mut freed: impl FnMut(LaneId, u64)) {
        while let Some((chunk, carrier)) = self.frames.front_mut() {
            let end = chunk.offset + chunk.data.len() as u64;
            let part = offset.saturating_sub(chunk.offset).min(end - chunk.offset);
            if let Carrier::Lane(lane) = carrier {
                freed(*lane, part);
            }
            if end + u64::from(chunk.fin) > offset {
                chunk
                    .data
                    .advance(usize::try_from(part).unwrap_or(usize::MAX));
                chunk.offset += part;
                return;
            }
            self.lost -= usize::from(*carrier == Carrier::Lost);
            self.frames.pop_front();
        }
        if self.frames.capacity() > SPARE {
            self.frames.shrink_to(SPARE);
        }
    }

    /// Forgets all; reports to `freed` which lane carried how many bytes.
    pub(crate) fn drop_all(&mut self, mut freed: impl FnMut(LaneId, u64)) {
        for (chunk, carrier) in std::mem::take(&mut self.frames) {
            if let Carrier::Lane(lane) = carrier {
                freed(lane, chunk.data.len() as u64);
            }
        }
        self.lost = 0;
    }
}
