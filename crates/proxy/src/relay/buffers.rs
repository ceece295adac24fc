//! Large buffers of busy connections, used again once their bytes have gone.
//!
//! A busy connection goes through a buffer every few microseconds. Memory from the allocator would
//! come from wherever there is some, cold, and now and then from the kernel, which clears it first.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

/// Buffers that wait to be used again, at most; more are given back to the allocator.
const KEPT: usize = 16;

/// A pool that was not used for this long gives its buffers back to the allocator.
const UNUSED: Duration = Duration::from_secs(5);

/// Buffers of one size, for all connections of the process.
pub(crate) struct Pool {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
    /// A buffer was asked for since the last look.
    used: AtomicBool,
}

/// A buffer that comes back when no part of it is used any more.
struct Lent {
    memory: Vec<u8>,
    pool: &'static Pool,
}

impl Pool {
    pub(crate) const fn new(size: usize) -> Self {
        Self {
            size,
            free: Mutex::new(Vec::new()),
            used: AtomicBool::new(false),
        }
    }

    /// The size of its buffers.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// An empty buffer for `least` bytes: one of the pool's if that is their size.
    pub(crate) fn take(&self, least: usize) -> Vec<u8> {
        if least != self.size {
            return Vec::with_capacity(least);
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let free = self.free().pop();
        free.unwrap_or_else(|| Vec::with_capacity(least))
    }

    /// The bytes of a buffer that was taken here. One of the pool's size comes back when the last
    /// part of it is gone.
    pub(crate) fn lend(&'static self, memory: Vec<u8>) -> Bytes {
        match memory.capacity() == self.size {
            true => Bytes::from_owner(Lent { memory, pool: self }),
            false => memory.into(),
        }
    }

    /// Gives back what has been kept since the last call and not used.
    fn give_back(&self) {
        if !self.used.swap(false, Ordering::Relaxed) {
            *self.free() = Vec::new();
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.clear();
        let mut free = self.pool.free();
        if free.len() < KEPT {
            free.push(memory);
        }
    }
}

/// Gives back what the pools keep unused. Does not end.
pub(crate) async fn give_back_unused(pools: [&'static Pool; 2]) {
    loop {
        tokio::time::sleep(UNUSED).await;
        pools.into_iter().for_each(Pool::give_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_last_part_is_gone() {
        static POOL: Pool = Pool::new(1000);
        let mut memory = POOL.take(1000);
        let place = memory.as_ptr();
        memory.extend_from_slice(b"some bytes");
        let whole = POOL.lend(memory);
        let part = whole.slice(5..);
        drop(whole);
        let other = POOL.take(1000);
        assert_ne!(other.as_ptr(), place, "a part is still there");
        assert_eq!(part, "bytes");
        drop(part);
        let again = POOL.take(1000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(again.capacity(), POOL.size());
    }

    #[test]
    fn buffers_of_other_sizes_are_not_kept() {
        static POOL: Pool = Pool::new(1000);
        let mut memory = POOL.take(10);
        memory.extend_from_slice(b"few");
        assert_eq!(POOL.lend(memory), "few");
        assert_eq!(POOL.free().len(), 0);
    }

    #[test]
    fn what_nobody_uses_goes_back() {
        static POOL: Pool = Pool::new(10);
        drop(POOL.lend(POOL.take(10)));
        POOL.give_back();
        assert_eq!(POOL.free().len(), 1, "it was used just now");
        POOL.give_back();
        assert_eq!(POOL.free().len(), 0);
    }

    #[test]
    fn no_more_are_kept_than_a_few() {
        static POOL: Pool = Pool::new(10);
        let lent: Vec<Bytes> = (0..3 * KEPT).map(|_| POOL.lend(POOL.take(10))).collect();
        drop(lent);
        assert_eq!(POOL.free().len(), KEPT);
    }
}
