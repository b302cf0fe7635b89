use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value behind a lock that nobody holds across a wait; a panic elsewhere leaves it as good as it was.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
