//! Expensive readings that callers share: one runs at a time, and all that waited for it take the
//! result of a reading that began after it asked, never of an older one.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

pub(super) struct SharedReading<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> SharedReading<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(super) fn get(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<Arc<T>> {
        let asked = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((began, found)) = &*last
            && *began >= asked
        {
            return Ok(found.clone());
        }
        let began = Instant::now();
        let found = Arc::new(read()?);
        *last = Some((began, found.clone()));
        Ok(found)
    }
}
