//! The writing half of a lane: frames of the trunk are sealed into records, records go to TCP.
//!
//! Whoever has given the trunk something to send pushes it out at once, while it is still in the
//! processor's cache and without waking another task. The lane's own task pushes when TCP takes
//! bytes again, and when there is more than one turn's worth.
//!
//! ```text
//!  stream ── push ──┐              ┌── Dry: the lane rests, and waits to be chosen
//!                   ├─► outlet ────┼── Blocked: its task waits for TCP
//!  lane's task ─────┘   (a lock)   └── More: its task goes on
//! ```

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    task::Waker,
    time::Duration,
};

use renkei_trunk::{LaneId, Transmit};
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};

use super::{
    core::LaneFate,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing is left, and the lane rests; what was to become of it.
    Dry(Option<LaneFate>),
    /// TCP takes no more for now.
    Blocked,
    /// The turn is over.
    More,
    /// Somebody else is pushing.
    Busy,
}

/// The writing half of one lane.
pub(super) struct Outlet(Mutex<Out>);

struct Out {
    socket: OwnedWriteHalf,
    sealer: Sealer,
    records: VecDeque<Vec<u8>>,
    /// Bytes of the first record that TCP has taken.
    written: usize,
}

impl Outlet {
    pub(super) fn new(socket: OwnedWriteHalf, sealer: Sealer) -> Self {
        Self(Mutex::new(Out {
            socket,
            sealer,
            records: VecDeque::new(),
            written: 0,
        }))
    }

    /// Sends what the trunk has for the lane. `task` is woken when there is more; until then the
    /// lane is marked as one that rests.
    pub(super) fn push(&self, driver: &Driver, id: LaneId, task: &Waker) -> io::Result<Pushed> {
        let mut out = match self.0.try_lock() {
            Ok(out) => out,
            Err(TryLockError::WouldBlock) => return Ok(Pushed::Busy),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let mut pushed = 0;
        loop {
            match out.write() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Pushed::Blocked);
                }
                Err(error) => return Err(error),
            }
            if pushed >= TURN {
                return Ok(Pushed::More);
            }
            let (frames, fate) = take(driver, id, task, out.sealer.sealed() > WORN);
            if frames.is_empty() || fate == Some(LaneFate::Drop) {
                return Ok(Pushed::Dry(fate));
            }
            pushed += frames.iter().map(Transmit::len).sum::<usize>();
            out.seal(&frames)?;
        }
    }

    /// Sends a frame and the end of the session, on a lane that is in no trunk.
    pub(super) async fn refuse(self, frame: &Transmit) -> io::Result<()> {
        let mut out = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.seal(std::slice::from_ref(frame))?;
        out.close()?;
        while let Err(error) = out.write() {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            out.socket.writable().await?;
        }
        tokio::io::AsyncWriteExt::shutdown(&mut out.socket).await
    }

    /// Ends the session cleanly, as far as TCP takes that at once.
    pub(super) fn close(&self) {
        let mut out = self.lock();
        // A peer that does not hear of it sees the connection end.
        let _ = out.close().and_then(|()| out.write());
    }

    /// From now on, closing the connection sends a TCP reset.
    pub(super) fn arm_reset(&self) {
        let out = self.lock();
        // On an error the socket is gone already.
        let _ = socket2::SockRef::from(tcp(&out)).set_linger(Some(Duration::ZERO));
    }

    /// Looks at the connection.
    pub(super) fn look<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        look(tcp(&self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tcp(out: &Out) -> &TcpStream {
    out.socket.as_ref()
}

/// Takes frames for this lane out of the trunk. When there is none, the lane rests.
fn take(
    driver: &Driver,
    id: LaneId,
    task: &Waker,
    worn: bool,
) -> (Vec<Transmit>, Option<LaneFate>) {
    driver.act(|core, now| {
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
            return (frames, Some(LaneFate::Drop));
        };
        lane.worn |= worn;
        if frames.is_empty() {
            lane.rest(task);
        }
        (frames, lane.fate)
    })
}

impl Out {
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
            let sent = self.socket.try_write_vectored(slices)?;
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

    fn close(&mut self) -> io::Result<()> {
        self.records
            .push_back(self.sealer.close_notify().map_err(invalid)?);
        Ok(())
    }
}

/// A fault of TLS, as an error of the connection.
pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
