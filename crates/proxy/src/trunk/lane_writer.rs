//! The writing half of a lane: frames are sealed into records, records go to TCP.

use std::{future::poll_fn, io, sync::Arc};

use renkei_trunk::Transmit;
use tokio::net::TcpStream;

use super::KeyLimits;
use crate::record::{RECORD, RecordWriter};

/// The writing half of one lane.
pub(super) struct LaneWriter {
    records: RecordWriter,
    limits: KeyLimits,
}

impl LaneWriter {
    /// `takes_key_update` is whether the other end takes new keys.
    pub(super) fn new(
        mut records: RecordWriter,
        takes_key_update: bool,
        limits: KeyLimits,
    ) -> Self {
        records.set_records_per_key(takes_key_update.then_some(limits.records_per_key));
        Self { records, limits }
    }

    /// The connection, for those who look at it while others write.
    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        self.records.socket()
    }

    /// Sends a frame and the end of the session, on a lane that is in no trunk.
    pub(super) async fn refuse(mut self, frame: &Transmit) -> io::Result<()> {
        self.seal(std::slice::from_ref(frame))?;
        self.records.close_notify()?;
        poll_fn(|cx| self.records.poll_flush(cx)).await?;
        self.records.shut_down()
    }

    /// Ends the session cleanly, as far as TCP takes that at once.
    pub(super) fn close(&mut self) {
        // A peer that does not hear of it sees the connection end.
        let _ = self
            .records
            .close_notify()
            .and_then(|()| self.records.write());
    }

    /// Hands records to TCP until it takes no more (`WouldBlock`).
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.records.write()
    }

    /// Seals frames, as many as fit into each record.
    pub(super) fn seal(&mut self, frames: &[Transmit]) -> io::Result<()> {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * frames.len());
        let mut size = 0;
        for frame in frames {
            if size + frame.len() > RECORD {
                self.records.seal(&parts)?;
                parts.clear();
                size = 0;
            }
            size += frame.len();
            parts.extend([frame.header(), frame.payload().as_ref()]);
        }
        self.records.seal(&parts)
    }

    /// Whether its key has sealed so much that another lane should take its place.
    pub(super) fn is_worn(&self) -> bool {
        self.records.sealed() > self.limits.records_per_lane
    }
}
