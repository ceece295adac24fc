//! Frames about streams.

use std::time::Instant;

use bytes::Bytes;

use super::Known;
use crate::decode::text;
use crate::error::Violation;
use crate::event::{Event, ResetCause};
use crate::frame::Frame;
use crate::id::{Code, StreamId};
use crate::trunk::{MAX_PIECES, MAX_SHARED, Trunk};

impl Trunk {
    /// A frame that names a stream.
    pub(super) fn stream_frame(
        &mut self,
        now: Instant,
        frame: Frame,
        memory: usize,
    ) -> Result<(), Violation> {
        match frame {
            Frame::Data {
                stream,
                offset,
                data,
                fin,
            } => self.data(now, stream, offset, data, fin, memory),
            Frame::Open { stream, target } => self.opened(stream, target),
            Frame::OpenOk { stream } => self.accepted(stream),
            Frame::OpenRefused { stream, code, text } => self.refused(stream, code, &text),
            Frame::Ack {
                stream,
                offset,
                limit,
            } => self.acknowledged(now, stream, offset, limit),
            Frame::Reset {
                stream,
                code,
                final_size,
            } => self.was_reset(stream, code, final_size),
            Frame::Stop { stream, code } => self.was_stopped(stream, code),
            Frame::Blocked { stream, limit } => self.peer_blocked(stream, limit),
            _ => Ok(()),
        }
    }

    fn data(
        &mut self,
        now: Instant,
        id: StreamId,
        offset: u64,
        data: Bytes,
        fin: bool,
        memory: usize,
    ) -> Result<(), Violation> {
        if self.locate(id)? == Known::Gone {
            return Ok(());
        }
        let end = offset + data.len() as u64;
        self.admit(id, end, fin)?;
        let memory = match self.incoming.held < MAX_SHARED {
            true => memory,
            false => usize::MAX,
        };
        let change = self.on_stream(id, |stream| stream.receive.data(offset, data, fin, memory));
        self.account(change.unwrap_or_default());
        if self.incoming.pieces > MAX_PIECES {
            return Err(Violation::Fragments);
        }
        self.tell_readable(id);
        self.review_ack(id, Some(now));
        self.settle(id);
        Ok(())
    }

    /// Checks an end of bytes against the windows of the stream and of the trunk.
    fn admit(&self, id: StreamId, end: u64, fin: bool) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        let more = stream.receive.check(id, end, fin)?;
        if self.incoming.received + more > self.incoming.limit {
            return Err(Violation::TrunkWindow);
        }
        Ok(())
    }

    fn tell_readable(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.opened && !stream.told_readable && stream.receive.readable() {
            stream.told_readable = true;
            self.events.push_back(Event::Readable(id));
        }
    }

    fn opened(&mut self, id: StreamId, target: Bytes) -> Result<(), Violation> {
        if id.opener() == self.side {
            return Err(Violation::WrongSide(id.0));
        }
        self.locate(id)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.opened {
            return Ok(());
        }
        stream.opened = true;
        self.events.push_back(Event::Opened { stream: id, target });
        // What came before the OPEN on a faster lane is reported behind it.
        if let Some(code) = stream.early_reset {
            self.events
                .push_back(Event::Reset(id, ResetCause::Peer(code)));
        }
        if let Some(code) = stream.early_stop {
            self.events.push_back(Event::Stopped(id, code));
        }
        self.tell_readable(id);
        self.settle(id);
        Ok(())
    }

    /// The stream that an answer to our OPEN names, unless it was answered before.
    fn answered(&mut self, id: StreamId) -> Result<bool, Violation> {
        if id.opener() != self.side {
            return Err(Violation::WrongSide(id.0));
        }
        if self.locate(id)? != Known::Live {
            return Ok(false);
        }
        let stream = self.streams.get_mut(&id);
        Ok(stream.is_some_and(|stream| !std::mem::replace(&mut stream.answered, true)))
    }

    fn accepted(&mut self, id: StreamId) -> Result<(), Violation> {
        if self.answered(id)? {
            self.events.push_back(Event::Accepted(id));
        }
        Ok(())
    }

    fn refused(&mut self, id: StreamId, code: Code, reason: &[u8]) -> Result<(), Violation> {
        if !self.answered(id)? {
            return Ok(());
        }
        self.admit(id, 0, true)?;
        self.reset_send(id, code);
        let change = self.on_stream(id, |stream| stream.receive.reset(0));
        self.account(change.unwrap_or_default());
        self.events.push_back(Event::Refused {
            stream: id,
            code,
            reason: text(reason),
        });
        self.settle(id);
        Ok(())
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        id: StreamId,
        offset: u64,
        limit: u64,
    ) -> Result<(), Violation> {
        match self.locate(id)? {
            Known::Gone => return Ok(()),
            Known::New => return Err(Violation::AckOfUnsent),
            Known::Live => {}
        }
        if !self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.send.was_sent(offset))
        {
            return Err(Violation::AckOfUnsent);
        }
        let mut freed = Vec::new();
        let delivered = self.on_stream(id, |stream| {
            let before = stream.send.ended();
            stream
                .send
                .acknowledge(offset, limit, |lane, bytes| freed.push((lane, bytes)));
            !before && stream.send.ended()
        });
        if delivered == Some(true) {
            self.events.push_back(Event::Delivered(id));
        }
        for (lane, bytes) in freed {
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.in_flight = lane.in_flight.saturating_sub(bytes);
                lane.heard(now);
            }
        }
        self.activate(id);
        self.unblock();
        self.review_writers(id);
        self.settle(id);
        Ok(())
    }

    fn was_reset(&mut self, id: StreamId, code: Code, final_size: u64) -> Result<(), Violation> {
        if self.locate(id)? == Known::Gone {
            return Ok(());
        }
        self.admit(id, final_size, true)?;
        let change = self.on_stream(id, |stream| {
            let tell = stream.receive.wanted();
            let change = stream.receive.reset(final_size);
            if tell && !stream.opened {
                stream.early_reset = Some(code);
            }
            (change, tell && stream.opened)
        });
        let Some((change, tell)) = change else {
            return Ok(());
        };
        self.account(change);
        if tell {
            self.events
                .push_back(Event::Reset(id, ResetCause::Peer(code)));
        }
        self.settle(id);
        Ok(())
    }

    fn was_stopped(&mut self, id: StreamId, code: Code) -> Result<(), Violation> {
        self.locate(id)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.send.ended() {
            return Ok(());
        }
        if stream.opened {
            self.events.push_back(Event::Stopped(id, code));
        } else {
            stream.early_stop = Some(code);
        }
        self.reset_send(id, code);
        self.settle(id);
        Ok(())
    }

    fn peer_blocked(&mut self, id: StreamId, limit: u64) -> Result<(), Violation> {
        self.locate(id)?;
        self.on_stream(id, |stream| stream.receive.peer_blocked(limit));
        self.review_ack(id, None);
        Ok(())
    }
}
