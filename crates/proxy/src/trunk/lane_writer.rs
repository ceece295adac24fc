//! The writing half of a lane: frames are sealed into records, records go to TCP.

use std::{future::poll_fn, io, sync::Arc};

use renkei_trunk::Transmit;
use tokio::net::TcpStream;

use crate::record::{RECORD, RecordWriter};

/// Records in one direction after which a lane should be replaced: 128 GiB, a third of what
/// AES-GCM bears (RFC 8446 5.5).
pub(super) const WORN: u64 = 1 << 23;

/// The writing half of one lane.
pub(super) struct LaneWriter(RecordWriter);

impl LaneWriter {
    pub(super) fn new(mut writer: RecordWriter) -> Self {
        writer.set_records_per_key(None);
        Self(writer)
    }

    /// The connection, for those who look at it while others write.
    pub(super) fn socket(&self) -> &Arc<TcpStream> {
        self.0.socket()
    }

    /// Sends a frame and the end of the session, on a lane that is in no trunk.
    pub(super) async fn refuse(mut self, frame: &Transmit) -> io::Result<()> {
        self.seal(std::slice::from_ref(frame))?;
        self.0.close_notify()?;
        poll_fn(|cx| self.0.poll_flush(cx)).await?;
        self.0.shut_down()
    }

    /// Ends the session cleanly, as far as TCP takes that at once.
    pub(super) fn close(&mut self) {
        // A peer that does not hear of it sees the connection end.
        let _ = self.0.close_notify().and_then(|()| self.0.write());
    }

    /// Hands records to TCP until it takes no more (`WouldBlock`).
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.0.write()
    }

    /// Seals frames, as many as fit into each record.
    pub(super) fn seal(&mut self, frames: &[Transmit]) -> io::Result<()> {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * frames.len());
        let mut size = 0;
        for frame in frames {
            if size + frame.len() > RECORD {
                self.0.seal(&parts)?;
                parts.clear();
                size = 0;
            }
            size += frame.len();
            parts.extend([frame.header(), frame.payload().as_ref()]);
        }
        self.0.seal(&parts)
    }

    /// Whether its keys have sealed so much that another lane should take its place.
    pub(super) fn is_worn(&self) -> bool {
        self.0.sealed() > WORN
    }
}
