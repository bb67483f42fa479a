//! Cuts a stream of bytes into lines.

/// A buffer of received bytes that hands out whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// How many of `bytes` have been handed out.
    done: usize,
}

impl Lines {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.done);
        self.done = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes have not been handed out yet.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.done
    }
}

/// Yields whole lines without their line feed. After `None` there may be more, once further bytes are pushed.
impl Iterator for Lines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.done..];
        let length = rest.iter().position(|&byte| byte == b'\n')?;
        let line = rest[..length].to_vec();
        self.done += length + 1;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_come() {
        let text = b"one\n\ntwo\nthree";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in text.chunks(size) {
                lines.push(part);
                found.extend(lines.by_ref());
            }
            assert_eq!(found, [b"one".to_vec(), b"".to_vec(), b"two".to_vec()], "{size}");
            assert_eq!(lines.waiting(), b"three".len());
        }
    }
}
