//! What the driver does on behalf of applications.

use bytes::Bytes;

use super::flow_control::cut;
use super::{LEAST_ROOM, MAX_CONTROL, Trunk};
use crate::error::{OpenError, StreamError};
use crate::event::{Event, Read};
use crate::frame::{Frame, MAX_TARGET};
use crate::id::{Code, StreamId};
use crate::stream::{ReceiveHalf, SendHalf, Stream};

impl Trunk {
    /// Opens a stream. Bytes may be written at once; `target` says to the acceptor where to connect.
    ///
    /// # Errors
    ///
    /// The trunk takes no stream, at the moment or for ever.
    pub fn open(&mut self, target: Bytes) -> Result<StreamId, OpenError> {
        if self.closed.is_some() {
            return Err(OpenError::Closed);
        }
        if self.going_away {
            return Err(OpenError::GoingAway);
        }
        if target.len() > MAX_TARGET {
            return Err(OpenError::TargetTooLong);
        }
        if self.outgoing.opened >= self.outgoing.streams || self.control.len() > MAX_CONTROL / 2 {
            self.wants_stream = true;
            return Err(OpenError::StreamLimit);
        }
        let id = StreamId::new(self.side, self.outgoing.opened);
        self.outgoing.opened += 1;
        let mut stream = self.new_stream(id);
        stream.opened = true;
        self.streams.insert(id, stream);
        self.control.push_back(Frame::Open { stream: id, target });
        Ok(id)
    }

    pub(super) fn new_stream(&self, id: StreamId) -> Stream {
        let window = self.config.limits.stream_window;
        Stream::new(
            id,
            SendHalf::new(self.outgoing.limits.stream_window),
            ReceiveHalf::new(window, self.config.stream_window_max),
        )
    }

    /// Takes a stream that the peer opened.
    ///
    /// # Errors
    ///
    /// It is over, or is not the peer's, or was answered before.
    pub fn accept(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.answer(id)?;
        self.owe(Frame::OpenOk { stream: id });
        Ok(())
    }

    /// Refuses a stream that the peer opened, before anything was written to it. The peer's
    /// application is reset; at most 256 bytes of the reason travel.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn refuse(&mut self, id: StreamId, code: Code, reason: &str) -> Result<(), StreamError> {
        if self.answer(id)?.send.used() {
            return Err(StreamError::Ended);
        }
        let stopped = self.on_stream(id, |stream| {
            stream.send.reset(|_, _| ());
            stream.receive.stop().0
        });
        self.control.push_back(Frame::OpenRefused {
            stream: id,
            code,
            text: cut(reason),
        });
        self.account(stopped.unwrap_or_default());
        self.settle(id);
        Ok(())
    }

    fn answer(&mut self, id: StreamId) -> Result<&mut Stream, StreamError> {
        let ours = id.opener() == self.side;
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        if ours || stream.answered || !stream.opened {
            return Err(StreamError::Ended);
        }
        stream.answered = true;
        Ok(stream)
    }

    /// Hands bytes to the stream: as many as there is room for are split off `data`. When that is
    /// not all, [`Event::Writable`] says when to continue.
    ///
    /// # Errors
    ///
    /// The direction is over.
    pub fn write(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, StreamError> {
        let room = self.room(id)?;
        let part = data.split_to(usize::try_from(room).unwrap_or(usize::MAX).min(data.len()));
        let taken = part.len();
        if !data.is_empty() {
            self.writers.insert(id);
            self.full |= self.outgoing.kept + taken as u64 >= self.config.send_buffer as u64;
        }
        if taken > 0 {
            self.on_stream(id, |stream| stream.send.write(part));
            self.activate(id);
        }
        Ok(taken)
    }

    /// How many bytes [`write`](Self::write) would take.
    ///
    /// # Errors
    ///
    /// The direction is over.
    pub fn room(&self, id: StreamId) -> Result<u64, StreamError> {
        let stream = self.streams.get(&id).ok_or(StreamError::Unknown)?;
        if !stream.send.open() {
            return Err(StreamError::Ended);
        }
        let whole = (self.config.send_buffer as u64).saturating_sub(self.outgoing.kept);
        let whole = whole.min(self.elsewhere);
        let least = LEAST_ROOM.saturating_sub(stream.send.kept());
        // What streams that are held up leave is there for the next.
        let ahead = self.config.ahead.min((whole / 4).max(LEAST_ROOM));
        let ahead = ahead.saturating_sub(stream.send.unsent());
        Ok(ahead.min(whole.max(least)))
    }

    /// Ends the send direction cleanly, behind what was written.
    ///
    /// # Errors
    ///
    /// The direction is over.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        if !stream.send.open() {
            return Err(StreamError::Ended);
        }
        stream.send.finish();
        self.activate(id);
        Ok(())
    }

    /// Bytes of the stream that the peer does not have for certain.
    #[must_use]
    pub fn undelivered(&self, id: StreamId) -> u64 {
        self.streams.get(&id).map_or(0, |stream| stream.send.kept())
    }

    /// Whether the send direction is over: the peer has all of it, or it was reset.
    /// [`Event::Delivered`] says when the peer has it.
    #[must_use]
    pub fn delivered(&self, id: StreamId) -> bool {
        self.streams
            .get(&id)
            .is_none_or(|stream| stream.send.ended())
    }

    /// Ends the send direction at once: what the peer does not have yet is dropped. Its application
    /// is reset behind what has come in order.
    ///
    /// # Errors
    ///
    /// The direction is over.
    pub fn reset(&mut self, id: StreamId, code: Code) -> Result<(), StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        if stream.send.ended() {
            return Err(StreamError::Ended);
        }
        self.reset_send(id, code);
        self.settle(id);
        Ok(())
    }

    pub(super) fn reset_send(&mut self, id: StreamId, code: Code) {
        let mut freed = Vec::new();
        let final_size = self.on_stream(id, |stream| {
            (!stream.send.ended()).then(|| stream.send.reset(|lane, n| freed.push((lane, n))))
        });
        let Some(Some(final_size)) = final_size else {
            return;
        };
        for (lane, bytes) in freed {
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.in_flight = lane.in_flight.saturating_sub(bytes);
            }
        }
        self.control.push_back(Frame::Reset {
            stream: id,
            code,
            final_size,
        });
        self.review_writers(id);
    }

    /// Takes the next bytes, at most `max`. What is read makes room for the peer.
    ///
    /// # Errors
    ///
    /// The stream is over.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Read, StreamError> {
        let read = self.on_stream(id, |stream| {
            let read = stream.receive.read(max);
            stream.told_readable &= read != Read::Pending;
            (read, stream.over())
        });
        let (read, over) = read.ok_or(StreamError::Unknown)?;
        match &read {
            Read::Data(data) => {
                self.consume(data.len() as u64);
                self.review_ack(id, None);
            }
            Read::Finished | Read::Pending => {}
        }
        if over {
            self.settle(id);
        }
        Ok(read)
    }

    /// Gives up the receive direction: what came is dropped, and the peer is asked to stop.
    ///
    /// # Errors
    ///
    /// The direction is over.
    pub fn stop(&mut self, id: StreamId, code: Code) -> Result<(), StreamError> {
        let stopped = self.on_stream(id, |stream| {
            (!stream.receive.ended()).then(|| stream.receive.stop())
        });
        let (change, tell) = stopped
            .ok_or(StreamError::Unknown)?
            .ok_or(StreamError::Ended)?;
        if tell {
            self.control.push_back(Frame::Stop { stream: id, code });
        }
        self.account(change);
        self.settle(id);
        Ok(())
    }

    /// Bytes were sent or freed: wakes those that wait for room.
    pub(super) fn review_writers(&mut self, id: StreamId) {
        if self.full && self.outgoing.kept < self.config.send_buffer as u64 * 3 / 4 {
            self.full = false;
            for id in self.writers.iter().copied().collect::<Vec<_>>() {
                self.review_writer(id);
            }
        } else if self.writers.contains(&id) {
            self.review_writer(id);
        }
    }

    /// Wakes a writer once there is room for more than a little.
    fn review_writer(&mut self, id: StreamId) {
        let ahead = |stream: &Stream| stream.send.unsent() > self.config.ahead / 2;
        let little = self.room(id).is_ok_and(|room| room < LEAST_ROOM / 2);
        if little || self.streams.get(&id).is_some_and(ahead) {
            return;
        }
        if self.writers.remove(&id) && self.room(id).is_ok() {
            self.events.push_back(Event::Writable(id));
        }
    }
}
