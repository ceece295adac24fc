//! The writing half of a lane: frames are sealed into records, records go to TCP.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
};

use renkei_trunk::Transmit;
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};

use super::record::{RECORD, Sealer, WORN};

/// Records of one write.
const SLICES: usize = 16;

/// The connection of a lane, for those who look at it while others write.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<OwnedWriteHalf>);

impl Socket {
    pub(super) fn tcp(&self) -> &TcpStream {
        (*self.0).as_ref()
    }
}

/// The writing half of one lane.
pub(super) struct LaneWriter {
    socket: Socket,
    sealer: Sealer,
    records: VecDeque<Vec<u8>>,
    /// Bytes of the first record that TCP has taken.
    written: usize,
}

impl LaneWriter {
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
    pub(super) fn write(&mut self) -> io::Result<()> {
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
    pub(super) fn seal(&mut self, frames: &[Transmit]) -> io::Result<()> {
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

    /// Whether its keys have sealed so much that another lane should take its place.
    pub(super) fn is_worn(&self) -> bool {
        self.sealer.sealed() > WORN
    }

    fn end(&mut self) -> io::Result<()> {
        self.records
            .push_back(self.sealer.close_notify().map_err(invalid)?);
        Ok(())
    }
}

/// A fault of TLS, as an error of the connection.
pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
