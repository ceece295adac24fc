//! The reading half of a connection: many records at once, opened where they were read.

use std::{
    io,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    WHOLE, invalid,
    opener::{Opened, Opener},
};
use crate::relay::buffers::Pool;

/// What a busy connection reads at once: eight whole records, each an eighth of the buffer that it
/// keeps alive.
pub(crate) static READS: Pool = Pool::new(8 * WHOLE);
/// What a quiet connection reads at once.
const LITTLE: usize = 8 * 1024;

/// The reading half of a connection.
pub(crate) struct RecordReader {
    socket: Arc<TcpStream>,
    opener: Opener,
    /// The beginning of a record whose end has not come.
    left: Vec<u8>,
    /// `left` came behind the handshake, and may be more.
    unopened: bool,
    /// How much to read at once; follows what comes.
    size: usize,
    /// What came behind the last record that was handed on.
    end: Option<io::Result<()>>,
}

/// What one read gave.
#[derive(Debug)]
pub(crate) struct Pieces {
    whole: Vec<u8>,
    data: Vec<Range<usize>>,
}

impl Pieces {
    /// The memory that each piece keeps alive.
    pub(crate) fn memory(&self) -> usize {
        self.whole.capacity()
    }

    /// Bytes of data.
    pub(super) fn len(&self) -> usize {
        self.data.iter().map(Range::len).sum()
    }

    /// The data of the records, in their order.
    pub(crate) fn into_data(self) -> impl Iterator<Item = Bytes> {
        let whole = READS.lend(self.whole);
        self.data.into_iter().map(move |data| whole.slice(data))
    }
}

impl RecordReader {
    /// `received` came behind the handshake.
    pub(super) fn new(socket: Arc<TcpStream>, opener: Opener, received: Vec<u8>) -> Self {
        Self {
            socket,
            opener,
            unopened: !received.is_empty(),
            left: received,
            size: LITTLE,
            end: None,
        }
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// How many records the peer's present key has sealed.
    pub(crate) fn opened(&self) -> u64 {
        self.opener.opened()
    }

    /// The next records with data; `None` at the peer's clean end. A connection that ends without
    /// one is an `UnexpectedEof`.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pieces>>> {
        loop {
            if let Some(end) = self.end.take() {
                return Poll::Ready(end.map(|()| None));
            }
            let whole = if std::mem::take(&mut self.unopened) {
                std::mem::take(&mut self.left)
            } else {
                ready!(self.poll_receive(cx))?
            };
            let pieces = self.open(whole);
            if !pieces.data.is_empty() {
                return Poll::Ready(Ok(Some(pieces)));
            }
        }
    }

    /// What comes next, behind the record that has begun.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        loop {
            // No memory while nothing comes.
            ready!(self.socket.poll_read_ready(cx))?;
            let mut whole = self.buffer();
            let room = whole.capacity() - whole.len();
            match self.socket.try_read_buf(&mut whole) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    self.resize(count, room);
                    return Poll::Ready(Ok(whole));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep(&whole),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Memory to read into, behind the record that has begun.
    fn buffer(&mut self) -> Vec<u8> {
        let left = std::mem::take(&mut self.left);
        if left.capacity() >= left.len() + LITTLE {
            return left;
        }
        let mut whole = READS.take(self.size.max(left.len() + LITTLE));
        whole.extend_from_slice(&left);
        whole
    }

    fn resize(&mut self, count: usize, room: usize) {
        if count == room {
            self.size = READS.size().min(self.size * 2);
        } else if count < self.size / 4 {
            self.size = LITTLE.max(self.size / 2);
        }
    }

    /// Opens all records that are there, and keeps the rest.
    fn open(&mut self, mut whole: Vec<u8>) -> Pieces {
        let (mut data, mut at) = (Vec::new(), 0);
        while self.end.is_none() {
            match self.opener.open(whole.get_mut(at..).unwrap_or_default()) {
                Ok(Opened::Incomplete) => break,
                Ok(Opened::Record {
                    length,
                    data: place,
                }) => {
                    if !place.is_empty() {
                        data.push(at + place.start..at + place.end);
                    }
                    at += length;
                }
                Ok(Opened::Closed) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(invalid(error))),
            }
        }
        if self.end.is_none() {
            self.keep(whole.get(at..).unwrap_or_default());
        }
        Pieces { whole, data }
    }

    /// Keeps the beginning of a record, on a busy connection in memory for the next read.
    fn keep(&mut self, begun: &[u8]) {
        if begun.is_empty() {
            return;
        }
        let busy = self.size == READS.size();
        self.left = READS.take(if busy { self.size } else { begun.len() });
        self.left.extend_from_slice(begun);
    }
}
