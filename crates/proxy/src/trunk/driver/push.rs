//! Sending what a trunk has, through the writer of one lane.
//!
//! A task that has given the trunk something to send pushes it out at once, while it is still in
//! the processor's cache and without waking another task. The lane's own task pushes when TCP
//! takes bytes again, and when there is more than one push may write. One of them has the writer
//! at a time ([`WriterSlot`](crate::trunk::writer_slot::WriterSlot)).
//!
//! ```text
//!  stream ── push ──┐              ┌── Rests: the writer waits in the lane's slot
//!                   ├─► writer ────┼── Blocked: the lane's task waits for TCP
//!  lane's task ─────┘              └── More: the lane's task continues
//! ```

use std::{io, task::Waker, time::Instant};

use renkei_trunk::{LaneId, Transmit};

use super::Driver;
use crate::{
    record::RECORD,
    relay::FULL_FRAME,
    trunk::{
        core::{Core, LaneFate},
        lane_writer::LaneWriter,
    },
};

/// Bytes of frames taken from the trunk at once; the rest is for other lanes.
const TAKE: usize = 256 * 1024;
/// Bytes that one push writes before other tasks run.
const TURN: usize = 512 * 1024;
/// What a DATA frame has besides its bytes.
const DATA_HEADER: usize = 20;
const _: () = assert!(
    FULL_FRAME == RECORD - DATA_HEADER,
    "what the relay reads at once"
);

/// How a push ended.
pub(in crate::trunk) enum Pushed {
    /// Nothing is left, and the writer is back in the lane's slot; a lane that rests and has
    /// something to write, to be woken for it.
    Rests(Option<Waker>),
    /// The rest is for the lane's task.
    Left(Box<LaneWriter>, Left),
}

/// Why a push left something to the lane's task.
#[derive(Debug)]
pub(in crate::trunk) enum Left {
    /// The send buffer of TCP is full.
    Blocked,
    /// The turn is over.
    More,
    /// The lane is over.
    Over(LaneFate),
    /// The connection is broken.
    Broken(io::Error),
}

/// Sends what the trunk has for the lane, until there is nothing or the lane's task has to
/// continue.
pub(in crate::trunk) fn push(mut writer: Box<LaneWriter>, driver: &Driver, id: LaneId) -> Pushed {
    let mut pushed = 0;
    loop {
        let left = match writer.write() {
            Ok(()) if pushed < TURN => None,
            Ok(()) => Some(Left::More),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Left::Blocked),
            Err(error) => Some(Left::Broken(error)),
        };
        if let Some(left) = left {
            return Pushed::Left(writer, left);
        }
        let frames = match driver.act(|core, now| take(core, now, id, writer)) {
            Taken::Frames(taken, frames) => {
                writer = taken;
                frames
            }
            Taken::Nothing(pushed) => return pushed,
        };
        pushed += frames.iter().map(Transmit::len).sum::<usize>();
        if let Err(error) = writer.seal(&frames) {
            return Pushed::Left(writer, Left::Broken(error));
        }
    }
}

/// What a lane was given to write.
enum Taken {
    Frames(Box<LaneWriter>, Vec<Transmit>),
    Nothing(Pushed),
}

/// Takes frames for this lane out of the trunk. When there is none, the writer rests.
fn take(core: &mut Core, now: Instant, id: LaneId, writer: Box<LaneWriter>) -> Taken {
    let mut frames = Vec::new();
    let (mut taken, mut room) = (0, RECORD);
    while taken < TAKE {
        // A DATA frame fills the record that it ends in, so that it arrives in one piece.
        let budget = if room > RECORD / 2 { room } else { RECORD } - DATA_HEADER;
        let Some(frame) = core.trunk.poll_transmit(now, id, budget) else {
            break;
        };
        let length = frame.len();
        taken += length;
        room = if length <= room { room } else { RECORD } - length;
        frames.push(frame);
    }
    let Some(lane) = core.lanes.get_mut(&id) else {
        return Taken::Nothing(Pushed::Left(writer, Left::Over(LaneFate::Drop)));
    };
    lane.worn |= writer.is_worn();
    match lane.fate {
        Some(fate) if frames.is_empty() || fate == LaneFate::Drop => {
            Taken::Nothing(Pushed::Left(writer, Left::Over(fate)))
        }
        None if frames.is_empty() => {
            lane.slot.rest(writer);
            // What this lane may not carry, because it is being closed, another may.
            Taken::Nothing(Pushed::Rests(core.sleeper_with_output(id)))
        }
        _ => Taken::Frames(writer, frames),
    }
}
