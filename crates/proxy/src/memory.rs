//! Large buffers of busy connections, used again once their bytes have gone.
//!
//! A busy connection goes through a buffer every few microseconds. Memory from the allocator would
//! come from wherever there is some, cold, and now and then from the kernel, which clears it first.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that wait to be used again, at most; more are given back to the allocator.
const KEPT: usize = 16;

/// Buffers of one size, for all connections of the process.
pub(crate) struct Pool {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer that comes back when nobody holds a part of it any more.
struct Lent {
    memory: Vec<u8>,
    pool: &'static Pool,
}

impl Pool {
    pub(crate) const fn new(size: usize) -> Self {
        Self {
            size,
            free: Mutex::new(Vec::new()),
        }
    }

    /// The size of its buffers.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let free = self.free().pop();
        free.unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// Takes the buffer back: now, if nothing is in it.
    pub(crate) fn lend(&'static self, memory: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { memory, pool: self })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_last_part_is_gone() {
        static POOL: Pool = Pool::new(1000);
        let mut memory = POOL.take();
        let place = memory.as_ptr();
        memory.extend_from_slice(b"some bytes");
        let whole = POOL.lend(memory);
        let part = whole.slice(5..);
        drop(whole);
        let other = POOL.take();
        assert_ne!(other.as_ptr(), place, "a part is still there");
        assert_eq!(part, "bytes");
        drop(part);
        let again = POOL.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(again.capacity(), POOL.size());
    }

    #[test]
    fn no_more_are_kept_than_a_few() {
        static POOL: Pool = Pool::new(10);
        let lent: Vec<Bytes> = (0..3 * KEPT).map(|_| POOL.lend(POOL.take())).collect();
        drop(lent);
        assert_eq!(POOL.free().len(), KEPT);
    }
}
