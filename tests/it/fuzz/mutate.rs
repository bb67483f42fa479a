//! Makes hostile files of sound ones.

/// Bytes that parsers of text take for something, and some that a terminal would obey.
const WORDS: [&[u8]; 22] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"null",
    b"-1",
    b"1e999",
    b"0x",
    b"NaN",
    b"99999999999999999999",
    b"\x1b[2J",
    b"\x1b]0;title\x07",
    b"\xff\xfe",
    b"\x00",
    b"../../etc/passwd",
    b"/dev/zero",
];
/// Numbers at the borders of types, which sizes and counts are likely to be wrong at.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// Random changes of files, the same for the same seed (splitmix64).
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Returns one of these.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Returns a changed copy of a file. Most changes are near its beginning, where headers are.
    pub fn mutated(&mut self, file: &[u8]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let near = if self.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
        let at = self.below(near + 1).min(bytes.len());
        let length = (1 + self.below(32)).min(bytes.len() - at);
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let copied = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copied));
            }
            5 => drop(bytes.splice(at..at, self.one_of(&WORDS).iter().copied())),
            6 => {
                let width = *self.one_of(&[1, 2, 4, 8]);
                let number = self.one_of(&NUMBERS).to_le_bytes();
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
                if self.below(2) == 0 {
                    bytes[at..end].reverse();
                }
            }
            7 => self.change_number(bytes, at),
            _ => bytes[at..at + length].fill(self.next() as u8),
        }
    }

    /// Replaces the next decimal number, as texts have them.
    fn change_number(&mut self, bytes: &mut Vec<u8>, from: usize) {
        let digits = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = bytes[from..].iter().position(digits).map(|at| from + at) else { return };
        let end = bytes[start..]
            .iter()
            .position(|byte| !digits(byte))
            .map_or(bytes.len(), |at| start + at);
        let number = match self.below(4) {
            0 => format!("-{}", self.next() % 1000),
            1 => format!("{}.5e{}", self.next() % 100, self.next() % 400),
            2 => self.one_of(&NUMBERS).to_string(),
            _ => (self.next() % 100_000).to_string(),
        };
        drop(bytes.splice(start..end, number.into_bytes()));
    }
}
