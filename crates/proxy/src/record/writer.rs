//! The writing half of a connection: what is sealed waits here until TCP takes it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::AlertDescription;
use tokio::net::TcpStream;

use super::{invalid, sealer::Sealer};

/// Records of one write.
const SLICES: usize = 16;

/// The writing half of a connection.
pub(crate) struct RecordWriter {
    socket: Arc<TcpStream>,
    sealer: Sealer,
    records: VecDeque<Vec<u8>>,
    /// Bytes of the first record that TCP has taken.
    written: usize,
}

impl RecordWriter {
    pub(super) fn new(socket: Arc<TcpStream>, sealer: Sealer) -> Self {
        Self {
            socket,
            sealer,
            records: VecDeque::new(),
            written: 0,
        }
    }

    /// The connection below.
    pub(crate) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Replaces its key after so many records; never, for a peer that takes no other.
    pub(crate) fn set_records_per_key(&mut self, records: Option<u64>) {
        self.sealer.set_records_per_key(records);
    }

    /// How many records its present key has sealed.
    pub(crate) fn sealed(&self) -> u64 {
        self.sealer.sealed()
    }

    /// Seals a record: the parts, together at most [`RECORD`](super::RECORD) bytes.
    pub(crate) fn seal(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.sealer.seal(parts, &mut self.records).map_err(invalid)
    }

    /// Seals the clean end.
    pub(crate) fn close_notify(&mut self) -> io::Result<()> {
        self.records
            .push_back(self.sealer.close_notify().map_err(invalid)?);
        Ok(())
    }

    /// Sends the peer the reason why the connection ends, as far as TCP takes that at once.
    pub(super) fn abort(&mut self, description: AlertDescription) {
        if let Ok(alert) = self.sealer.fatal_alert(description) {
            self.records.push_back(alert);
            // A peer that does not hear of it sees the connection end.
            let _ = self.write();
        }
    }

    /// Hands records to TCP until it takes no more (`WouldBlock`).
    pub(crate) fn write(&mut self) -> io::Result<()> {
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

    /// Ready when TCP has taken every record.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    /// Ends the direction in TCP.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match socket2::SockRef::from(&*self.socket).shutdown(Shutdown::Write) {
            // The connection is gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }
}
