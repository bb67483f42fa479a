//! Goes through a tar archive from header to header, and over what is damaged.
//!
//! The iterator of the crate `tar` ends at the first error. This one says where the error is and goes on behind it, as a
//! damaged header must not cost the images after it. What a header says is read by the crate.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use tar::Header;

/// Size of a block of an archive, in bytes.
const BLOCK: u64 = 512;
/// What is read at once: a header, and the small member behind it.
const WINDOW: usize = 4096;
/// What is read at once where the next header is searched for.
const STRIDE: usize = 1 << 20;
/// The most bytes of a long name or of extended headers.
const MOST_EXTENDED: u64 = 1 << 20;

/// A member of an archive.
pub(super) struct Member {
    /// The name as it is in the archive.
    pub name: Vec<u8>,
    pub kind: MemberKind,
    /// Offset of the header.
    pub header: u64,
    /// Offset and size of the content.
    pub data: u64,
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    /// A hard or symbolic link, which has no content.
    Link,
    /// A file with holes, whose content is stored in pieces.
    Sparse,
    /// A device, a volume label and the like.
    Other,
}

/// What comes next in an archive.
pub(super) enum Walked {
    Member(Member),
    /// What is wrong at an offset. The walk goes on behind it if there is anything.
    Damage(u64, String),
}

/// A walk through an archive.
pub(super) struct Walk<'a> {
    file: &'a File,
    /// Size of the file.
    size: u64,
    /// Offset of the next header.
    next: u64,
    over: bool,
    /// Whether the file system failed, which may be over the next time.
    pub failed: bool,
    /// What was read last, and its offset.
    window: (u64, Vec<u8>),
}

/// What stands before a member's header.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    /// Whether a record can't be understood.
    broken: bool,
}

/// What a step of the walk found.
enum Step {
    Header(Box<Header>),
    Found(Walked),
    End,
}

impl<'a> Walk<'a> {
    pub fn new(file: &'a File, size: u64) -> Self {
        Self { file, size, next: 0, over: false, failed: false, window: (0, Vec::new()) }
    }

    /// Reads a part of the archive, which is inside the file.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn read(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let (start, held) = (self.window.0, self.window.1.len());
        let inside = at >= start && at + length as u64 <= start + held as u64;
        if !inside {
            let wanted = (length.max(WINDOW) as u64).min(self.size.saturating_sub(at)) as usize;
            let mut bytes = vec![0; wanted.max(length)];
            self.file.read_exact_at(&mut bytes, at)?;
            self.window = (at, bytes);
        }
        let from = (at - self.window.0) as usize;
        Ok(self.window.1[from..from + length].to_vec())
    }

    fn step(&mut self) -> Step {
        let at = self.next;
        if at >= self.size {
            self.over = true;
            let text = if self.size == 0 {
                "the file is empty"
            } else {
                "it ends without the empty blocks at the end of an archive, so it may have been cut off"
            };
            return Step::Found(Walked::Damage(at, text.to_owned()));
        }
        if self.size - at < BLOCK {
            self.over = true;
            return Step::Found(Walked::Damage(at, "it ends in the middle of a header".to_owned()));
        }
        let block = match self.read(at, BLOCK as usize) {
            Ok(block) => block,
            Err(error) => return Step::Found(self.fail(at, &error)),
        };
        let header = Header::from_byte_slice(&block);
        if is_sound(header) && header.entry_size().is_ok() {
            self.next += BLOCK;
            return Step::Header(Box::new(header.clone()));
        }
        match self.find_header(at) {
            Err(error) => Step::Found(self.fail(at, &error)),
            Ok((None, _)) => {
                self.over = true; // nothing but zeros to the end of the file
                Step::End
            }
            Ok((Some(other), Some(found))) if other == found => {
                self.next = found; // another archive behind the end of one
                self.step()
            }
            Ok((Some(_), Some(found))) => {
                self.next = found;
                let lost = found - at;
                let text =
                    format!("damaged header: {lost} bytes up to offset {found} are left out");
                Step::Found(Walked::Damage(at, text))
            }
            Ok((Some(_), None)) => {
                self.over = true;
                let text = match (at, block.iter().all(|&byte| byte == 0)) {
                    (0, _) => "it is no tar archive".to_owned(),
                    (_, true) => format!(
                        "{} bytes behind the end of the archive are left out",
                        self.size - at
                    ),
                    _ => format!("damaged header: the other {} bytes are left out", self.size - at),
                };
                Step::Found(Walked::Damage(at, text))
            }
        }
    }

    /// Ends the walk at an error of the file system.
    pub fn fail(&mut self, at: u64, error: &io::Error) -> Walked {
        (self.over, self.failed) = (true, true);
        Walked::Damage(at, format!("cannot read on: {error}"))
    }

    /// Returns the offsets of the first block from `at` on that isn't empty, and of the first one that is a header.
    fn find_header(&self, at: u64) -> io::Result<(Option<u64>, Option<u64>)> {
        let (mut other, mut from) = (None, at);
        let mut bytes = vec![0; STRIDE];
        while from + BLOCK <= self.size {
            let length = (self.size - from).min(STRIDE as u64) as usize;
            self.file.read_exact_at(&mut bytes[..length], from)?;
            for (number, block) in bytes[..length].chunks_exact(BLOCK as usize).enumerate() {
                let place = from + number as u64 * BLOCK;
                if other.is_none() && block.iter().any(|&byte| byte != 0) {
                    other = Some(place);
                }
                // Pixels seldom have a header's checksum, and never its magic word beside.
                let header = Header::from_byte_slice(block);
                let marked = header.as_ustar().is_some() || header.as_gnu().is_some();
                if marked && is_sound(header) && header.entry_size().is_ok() {
                    return Ok((other, Some(place)));
                }
            }
            from += length as u64 / BLOCK * BLOCK;
        }
        Ok((other, None))
    }

    /// Takes in what is said about the next member. Returns what is wrong if it can't be read.
    fn extend(&mut self, header: &Header, extended: &mut Extended) -> Option<Walked> {
        let at = self.next - BLOCK;
        let size = header.entry_size().unwrap_or(u64::MAX);
        if size > MOST_EXTENDED && padded(size) < self.size - self.next {
            let text =
                format!("an extended header of {size} bytes: the name behind it may be wrong");
            self.next += padded(size);
            return Some(Walked::Damage(at, text));
        }
        if size > self.size - self.next {
            self.over = true;
            return Some(Walked::Damage(
                at,
                "it ends in the middle of an extended header".to_owned(),
            ));
        }
        let content = match self.read(self.next, size as usize) {
            Ok(content) => content,
            Err(error) => return Some(self.fail(at, &error)),
        };
        self.next += padded(size);
        match header.as_bytes()[156] {
            b'L' => {
                let end = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
                extended.name = Some(content[..end].to_vec());
            }
            b'x' | b'X' => extended.take_records(&content),
            _ => {} // names of links, and what holds for the whole archive
        }
        None
    }

    /// Makes a member of a header.
    fn member(&mut self, header: &Header, extended: Extended) -> Walked {
        let at = self.next - BLOCK;
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let size = extended.size.or(header.entry_size().ok()).unwrap_or_default();
        let mut kind = match header.as_bytes()[156] {
            0 | b'0' | b'7' if name.ends_with(b"/") => MemberKind::Folder,
            0 | b'0' | b'7' if extended.sparse => MemberKind::Sparse,
            0 | b'0' | b'7' => MemberKind::File,
            b'S' => MemberKind::Sparse,
            b'1' | b'2' => MemberKind::Link,
            b'5' => MemberKind::Folder,
            _ => MemberKind::Other,
        };
        // Links, devices and folders have no content, whatever their headers say.
        let size = if (b'1'..=b'6').contains(&header.as_bytes()[156]) { 0 } else { size };
        let mut more = header.as_bytes()[156] == b'S' && header.as_bytes()[482] != 0;
        while more {
            let Ok(block) = self.read(self.next, BLOCK as usize) else { break };
            (more, kind) = (block[504] != 0, MemberKind::Sparse);
            self.next += BLOCK;
        }
        let data = self.next;
        self.next = data.saturating_add(padded(size));
        let shown = String::from_utf8_lossy(&name).into_owned();
        if data.checked_add(size).is_none_or(|end| end > self.size) {
            self.over = true;
            let whole = self.size;
            let text = format!("it ends at {whole} in the middle of {shown}: what follows is lost");
            return Walked::Damage(at, text);
        }
        if extended.broken {
            return Walked::Damage(
                at,
                format!("{shown} is left out: its extended header is damaged"),
            );
        }
        Walked::Member(Member { name, kind, header: at, data, size })
    }
}

impl Iterator for Walk<'_> {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        let mut extended = Extended::default();
        while !self.over {
            match self.step() {
                Step::Header(header) if b"LKxXg".contains(&header.as_bytes()[156]) => {
                    if let Some(damage) = self.extend(&header, &mut extended) {
                        return Some(damage);
                    }
                }
                Step::Header(header) => return Some(self.member(&header, extended)),
                Step::Found(found) => return Some(found),
                Step::End => {}
            }
        }
        None
    }
}

impl Extended {
    /// Takes in the records `LENGTH KEY=VALUE\n` of a PAX header. A value may hold any byte.
    fn take_records(&mut self, mut bytes: &[u8]) {
        while bytes.first().is_some_and(|&byte| byte != 0) {
            let Some((record, rest)) = first_record(bytes) else {
                self.broken = true;
                return;
            };
            bytes = rest;
            let Some(sign) = record.iter().position(|&byte| byte == b'=') else {
                self.broken = true;
                return;
            };
            let (key, value) = (&record[..sign], &record[sign + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"size" => {
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.broken |= number.is_none();
                    self.size = number;
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
    }
}

/// Returns the first record without its length and the line feed, and what follows.
fn first_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let whole = bytes.get(..length)?;
    let record = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

/// Returns a size rounded up to whole blocks.
fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Returns whether the checksum of a header holds. Some old programs summed signed bytes.
fn is_sound(header: &Header) -> bool {
    let Ok(stated) = header.cksum() else { return false };
    let bytes = header.as_bytes();
    let others = || bytes[..148].iter().chain(&bytes[156..]);
    let plain: u32 = others().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
    let signed: i64 = others().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>() + 8 * 32;
    plain > 8 * 32 && (stated == plain || i64::from(stated) == signed)
}
