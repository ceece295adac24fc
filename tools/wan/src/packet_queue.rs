//! Packets under way in one direction: a circular buffer into which the device is read directly, so
//! that a packet is never copied between the two devices. Its size bounds what is in flight.

use std::{collections::VecDeque, ops::Range, time::Instant};

use crate::packet::LARGEST;

/// What is known of a packet under way.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) due: Instant,
    /// The segments that survive; `None` when all do.
    pub(crate) kept: Option<Vec<Range<usize>>>,
    place: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct PacketQueue {
    bytes: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// Where the next packet goes.
    tail: usize,
}

impl PacketQueue {
    /// A queue of `capacity` bytes; memory that is never reached is never touched.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity],
            waiting: VecDeque::new(),
            tail: 0,
        }
    }

    /// Room for the largest packet, or `None` when the queue is full.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        let Some(first) = self.waiting.front() else {
            self.tail = 0;
            return self.bytes.get_mut(..LARGEST);
        };
        let head = first.place.start;
        if self.tail > head && self.tail + LARGEST > self.bytes.len() {
            self.tail = 0;
        }
        // The tail never catches up with the head: equality would mean both full and empty.
        if self.tail <= head && self.tail + LARGEST >= head {
            return None;
        }
        self.bytes.get_mut(self.tail..self.tail + LARGEST)
    }

    /// Takes over the first `length` bytes of the room given last.
    pub(crate) fn push(&mut self, length: usize, due: Instant, kept: Option<Vec<Range<usize>>>) {
        let place = self.tail..self.tail + length;
        self.tail = place.end;
        self.waiting.push_back(Waiting { due, kept, place });
    }

    /// When the first packet is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.due)
    }

    /// The first packet and its bytes.
    pub(crate) fn first(&self) -> Option<(&Waiting, &[u8])> {
        let waiting = self.waiting.front()?;
        Some((waiting, self.bytes.get(waiting.place.clone())?))
    }

    /// Forgets the first packet.
    pub(crate) fn pop(&mut self) {
        self.waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_as_they_came_through_many_turns() {
        let mut queue = PacketQueue::new(5 * LARGEST);
        let mut random = fastrand::Rng::with_seed(3);
        let (mut sent, mut seen, mut full) = (0_u32, 0_u32, 0);
        for _ in 0..10_000 {
            if random.bool() {
                match queue.room() {
                    Some(room) => {
                        let length = random.usize(4..LARGEST);
                        room[..length].fill(sent as u8);
                        room[..4].copy_from_slice(&sent.to_be_bytes());
                        queue.push(length, Instant::now(), None);
                        sent += 1;
                    }
                    None => full += 1,
                }
            } else if let Some((_, bytes)) = queue.first() {
                assert_eq!(bytes[..4], seen.to_be_bytes());
                assert!(bytes[4..].iter().all(|byte| *byte == seen as u8));
                seen += 1;
                queue.pop();
            }
        }
        assert!(seen > 3000 && full > 100, "{seen} seen, {full} full");
    }
}
