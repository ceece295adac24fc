//! The writing half of a lane: frames of the trunk are sealed into records, records go to TCP.
//!
//! Whoever has given the trunk something to send pushes it out at once, while it is still in the
//! processor's cache and without waking another task. The lane's own task pushes when TCP takes
//! bytes again, and when there is more than one turn's worth. One of them has the outlet at a time
//! ([`WriterSlot`](super::writer_slot::WriterSlot)).
//!
//! ```text
//!  stream ── push ──┐              ┌── Rests: the outlet waits in the lane's slot
//!                   ├─► outlet ────┼── Blocked: the lane's task waits for TCP
//!  lane's task ─────┘              └── More: the lane's task goes on
//! ```

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use renkei_trunk::{LaneId, Transmit};
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};

use super::{
    core::{Core, LaneFate},
    driver::Driver,
    record::{RECORD, Sealer, WORN},
};

/// Bytes of frames taken from the trunk at once; the rest is for other lanes.
const TAKE: usize = 256 * 1024;
/// Bytes that one push writes before others get their turn.
const TURN: usize = 512 * 1024;
/// Records of one write.
const SLICES: usize = 16;
/// What a DATA frame has beside its bytes.
const DATA_HEADER: usize = 20;
/// Bytes of a DATA frame that fills a record.
pub(super) const FULL_FRAME: usize = RECORD - DATA_HEADER;

/// How a push ended.
pub(super) enum Pushed {
    /// Nothing is left, and the outlet is back in the lane's slot; a lane that rests and has
    /// something to write, to be woken for it.
    Rests(Option<Waker>),
    /// The rest is for the lane's task.
    Left(Box<Outlet>, Left),
}

/// Why a push left something to the lane's task.
#[derive(Debug)]
pub(super) enum Left {
    /// TCP takes no more for now.
    Blocked,
    /// The turn is over.
    More,
    /// The lane is over.
    Over(LaneFate),
    /// The connection is broken.
    Broken(io::Error),
}

/// The connection of a lane, for those who look at it while others write.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<OwnedWriteHalf>);

impl Socket {
    pub(super) fn tcp(&self) -> &TcpStream {
        (*self.0).as_ref()
    }
}

/// The writing half of one lane.
pub(super) struct Outlet {
    socket: Socket,
    sealer: Sealer,
    records: VecDeque<Vec<u8>>,
    /// Bytes of the first record that TCP has taken.
    written: usize,
}

impl Outlet {
    pub(super) fn new(socket: OwnedWriteHalf, sealer: Sealer) -> Self {
        Self {
            socket: Socket(Arc::new(socket)),
            sealer,
            records: VecDeque::new(),
            written: 0,
        }
    }

    pub(super) fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// Sends what the trunk has for the lane, until there is nothing or the lane's task has to
    /// go on.
    pub(super) fn push(mut self: Box<Self>, driver: &Driver, id: LaneId) -> Pushed {
        let mut pushed = 0;
        loop {
            let left = match self.write() {
                Ok(()) if pushed < TURN => None,
                Ok(()) => Some(Left::More),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Left::Blocked),
                Err(error) => Some(Left::Broken(error)),
            };
            if let Some(left) = left {
                return Pushed::Left(self, left);
            }
            let frames = match driver.act(|core, now| take(core, now, id, self)) {
                Taken::Frames(outlet, frames) => {
                    self = outlet;
                    frames
                }
                Taken::Nothing(pushed) => return pushed,
            };
            pushed += frames.iter().map(Transmit::len).sum::<usize>();
            if let Err(error) = self.seal(&frames) {
                return Pushed::Left(self, Left::Broken(error));
            }
        }
    }

    /// Sends a frame and the end of the session, on a lane that is in no trunk.
    pub(super) async fn refuse(mut self, frame: &Transmit) -> io::Result<()> {
        self.seal(std::slice::from_ref(frame))?;
        self.end()?;
        while let Err(error) = self.write() {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            self.socket.tcp().writable().await?;
        }
        socket2::SockRef::from(self.socket.tcp()).shutdown(Shutdown::Write)
    }

    /// Ends the session cleanly, as far as TCP takes that at once.
    pub(super) fn close(&mut self) {
        // A peer that does not hear of it sees the connection end.
        let _ = self.end().and_then(|()| self.write());
    }

    /// Hands records to TCP until it takes no more (`WouldBlock`).
    fn write(&mut self) -> io::Result<()> {
        while !self.records.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            let mut skip = self.written;
            for (slice, record) in slices.iter_mut().zip(&self.records) {
                *slice = IoSlice::new(record.get(skip..).unwrap_or_default());
                skip = 0;
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let sent = self.socket.0.try_write_vectored(slices)?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += sent;
            while let Some(record) = self.records.front()
                && self.written >= record.len()
            {
                self.written -= record.len();
                self.records.pop_front();
            }
        }
        Ok(())
    }

    /// Seals frames, as many as fit into each record.
    fn seal(&mut self, frames: &[Transmit]) -> io::Result<()> {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * frames.len());
        let mut size = 0;
        for frame in frames {
            if size + frame.len() > RECORD {
                self.records
                    .push_back(self.sealer.seal(&parts).map_err(invalid)?);
                parts.clear();
                size = 0;
            }
            size += frame.len();
            parts.extend([frame.header(), frame.payload().as_ref()]);
        }
        self.records
            .push_back(self.sealer.seal(&parts).map_err(invalid)?);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.records
            .push_back(self.sealer.close_notify().map_err(invalid)?);
        Ok(())
    }
}

/// What a lane was given to write.
enum Taken {
    Frames(Box<Outlet>, Vec<Transmit>),
    Nothing(Pushed),
}

/// Takes frames for this lane out of the trunk. When there is none, the outlet rests.
fn take(core: &mut Core, now: Instant, id: LaneId, outlet: Box<Outlet>) -> Taken {
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
        return Taken::Nothing(Pushed::Left(outlet, Left::Over(LaneFate::Drop)));
    };
    lane.worn |= outlet.sealer.sealed() > WORN;
    match lane.fate {
        Some(fate) if frames.is_empty() || fate == LaneFate::Drop => {
            Taken::Nothing(Pushed::Left(outlet, Left::Over(fate)))
        }
        None if frames.is_empty() => {
            lane.slot.rest(outlet);
            // What this lane may not carry, because it is being closed, another may.
            Taken::Nothing(Pushed::Rests(core.sleeper_with_output(id)))
        }
        _ => Taken::Frames(outlet, frames),
    }
}

/// A fault of TLS, as an error of the connection.
pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
