//! Who writes a lane. The writer itself is what is handed over: the task that has it writes, and no
//! other can.
//!
//! ```text
//!             claim, claim_for_task                 hand_to_task
//!   Resting ─────────────────────────► Writing ─────────────────► ForTask
//!      ▲                                │   ▲                         │
//!      └──── rest: nothing to write ────┘   └──── claim_for_task ─────┘
//! ```
//!
//! The slot is kept behind the lock of what there is to write. A writer rests under the lock under
//! which it found nothing, so that whatever comes later finds it resting and claims it; whatever
//! came before, it found. One that cannot write on is handed to the lane's task, which is then
//! woken. So while there is something to write, a task has the writer or is being woken for it.

use std::task::Waker;

/// The place of a lane's writer.
#[derive(Debug)]
pub(super) struct WriterSlot<W> {
    place: Place<W>,
    /// The lane's task, once it has looked.
    task: Option<Waker>,
}

#[derive(Debug)]
enum Place<W> {
    /// There was nothing to write: for the first who has something.
    Resting(W),
    /// A task has it, and looks again before it rests.
    Writing,
    /// TCP takes no more, the turn is over, or the lane is: its task continues.
    ForTask(W),
}

impl<W> WriterSlot<W> {
    /// A lane whose task has not begun.
    pub(super) fn new(writer: W) -> Self {
        Self {
            place: Place::ForTask(writer),
            task: None,
        }
    }

    /// Whether there is a writer that [`claim`](Self::claim) would give.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.place, Place::Resting(_))
    }

    /// The writer, for one who has given the lane something to write, if it rests.
    pub(super) fn claim(&mut self) -> Option<W> {
        match std::mem::replace(&mut self.place, Place::Writing) {
            Place::Resting(writer) => Some(writer),
            other => {
                self.place = other;
                None
            }
        }
    }

    /// The writer, for the lane's task, unless another task has it; one that rests stays where it
    /// is if there is nothing to do. `task` is woken when it is the task's turn.
    pub(super) fn claim_for_task(&mut self, task: &Waker, something: bool) -> Option<W> {
        match &mut self.task {
            Some(before) => before.clone_from(task),
            none => *none = Some(task.clone()),
        }
        if self.is_resting() && !something {
            return None;
        }
        match std::mem::replace(&mut self.place, Place::Writing) {
            Place::Resting(writer) | Place::ForTask(writer) => Some(writer),
            Place::Writing => None,
        }
    }

    /// Nothing is left to write: to be called under the lock under which that was seen.
    pub(super) fn rest(&mut self, writer: W) {
        self.place = Place::Resting(writer);
    }

    /// The lane's task has to continue with the writer: wake it.
    #[must_use]
    pub(super) fn hand_to_task(&mut self, writer: W) -> Option<Waker> {
        self.place = Place::ForTask(writer);
        self.task.clone()
    }

    /// The lane's task, if it has to be woken to look at its lane. A writer that does not rest
    /// looks by itself.
    pub(super) fn sleeper(&self) -> Option<Waker> {
        self.is_resting().then(|| self.task.clone()).flatten()
    }
}

#[cfg(test)]
mod tests;
