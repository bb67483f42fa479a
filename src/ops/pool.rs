//! A pool of buffers that are used again in the next step. Fresh memory would cost page faults and zeroing each time.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// The free buffers by their length.
static FREE: Mutex<Option<HashMap<usize, Vec<Vec<f32>>>>> = Mutex::new(None);

/// A buffer of the pool, to which it returns when it is dropped.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// Returns a buffer of `len` numbers of any value.
    pub fn dirty(len: usize) -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.get_or_insert_default().get_mut(&len).and_then(Vec::pop);
        drop(free);
        Self(found.unwrap_or_else(|| vec![0.0; len]))
    }

    /// Returns a buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::dirty(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.0);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.get_or_insert_default().entry(data.len()).or_default().push(data);
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::dirty(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
