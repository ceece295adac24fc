//! Whose bytes go next: deficit round robin by bytes, new streams first, as in fq_codel
//! (RFC 8290). A stream that becomes active goes before those that have had a turn, so that a
//! small one leaves within one round whatever the large ones have waiting.

use std::collections::VecDeque;

use crate::frame::MAX_DATA;
use crate::id::StreamId;

/// Bytes a stream may send in one turn.
const QUANTUM: i64 = MAX_DATA as i64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Queue {
    #[default]
    None,
    New,
    Old,
}

/// A stream's place, kept in the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    queue: Queue,
    deficit: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    new: VecDeque<StreamId>,
    old: VecDeque<StreamId>,
}

impl Schedule {
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// The stream has bytes to send.
    pub(crate) fn activate(&mut self, id: StreamId, turn: &mut Turn) {
        if turn.queue == Queue::None {
            *turn = Turn {
                queue: Queue::New,
                deficit: QUANTUM,
            };
            self.new.push_back(id);
        }
    }

    /// The stream whose turn it is. Follow with [`sent`](Self::sent), [`idle`](Self::idle),
    /// [`spent`](Self::spent) or [`gone`](Self::gone).
    pub(crate) fn front(&self) -> Option<StreamId> {
        self.new.front().or(self.old.front()).copied()
    }

    /// The stream in front has used up its turn: whether it was moved behind the others.
    pub(crate) fn spent(&mut self, id: StreamId, turn: &mut Turn) -> bool {
        if turn.deficit > 0 {
            return false;
        }
        turn.deficit += QUANTUM;
        turn.queue = Queue::Old;
        self.gone();
        self.old.push_back(id);
        true
    }

    /// The stream in front sent that many bytes.
    pub(crate) fn sent(turn: &mut Turn, bytes: usize) {
        turn.deficit -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The stream in front has nothing to send. A new one passes once through the old queue, so
    /// that going idle and coming back does not win a turn before the others'.
    pub(crate) fn idle(&mut self, id: StreamId, turn: &mut Turn) {
        let pass = turn.queue == Queue::New && !self.old.is_empty();
        self.gone();
        turn.queue = if pass { Queue::Old } else { Queue::None };
        if pass {
            self.old.push_back(id);
        }
    }

    /// The stream in front is no more.
    pub(crate) fn gone(&mut self) {
        if self.new.pop_front().is_none() {
            self.old.pop_front();
        }
    }
}
