//! Writes tar shards whose bytes depend on nothing but their members, and reads them back.

use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use tar::{Archive, Builder, EntryType, Header};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of a block: headers and contents take whole ones.
const BLOCK: u64 = 512;
/// Bytes at the end of an archive.
const END: u64 = 2 * BLOCK;
/// Bytes of a name that has room in every header. A longer one may take two blocks more and its own length.
const SHORT_NAME: usize = 100;
/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;

/// Size and checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSum {
    pub bytes: u64,
    /// XXH3-64.
    pub xxh3: u64,
}

/// A shard that is being written.
pub(crate) struct ShardWriter {
    builder: Builder<Summed<BufWriter<File>>>,
    members: Vec<WrittenMember>,
    /// No fewer bytes than the file has, without those at its end.
    bytes: u64,
}

/// A member as it was given to the writer.
#[derive(Debug, PartialEq, Eq)]
struct WrittenMember {
    name: String,
    size: u64,
    xxh3: u64,
}

/// A shard that was written, but perhaps not yet by the disk.
pub(crate) struct WrittenShard {
    file: File,
    members: Vec<WrittenMember>,
    pub sum: FileSum,
}

impl ShardWriter {
    /// Begins a shard. An existing file is replaced.
    ///
    /// # Errors
    /// Returns an error if the file can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        Ok(Self { builder: Builder::new(Summed::new(file)), members: Vec::new(), bytes: 0 })
    }

    /// Adds a member. Its owner, mode and time are the same for all.
    ///
    /// # Errors
    /// Returns an error if the file can't be written.
    pub fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, name, content)?;
        self.bytes += member_bytes(name, content.len());
        let (name, size) = (name.to_owned(), content.len() as u64);
        self.members.push(WrittenMember { name, size, xxh3: xxh3_64(content) });
        Ok(())
    }

    /// Returns the size that the shard would have with these members more, or a little more than that.
    pub fn bytes_with(&self, members: &[(&str, usize)]) -> u64 {
        let more = members.iter().map(|&(name, length)| member_bytes(name, length)).sum::<u64>();
        self.bytes + more + END
    }

    /// Ends the shard.
    ///
    /// # Errors
    /// Returns an error if the file can't be written.
    pub fn finish(self) -> io::Result<WrittenShard> {
        let Summed { inner, sum, bytes } = self.builder.into_inner()?;
        let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        let sum = FileSum { bytes, xxh3: sum.digest() };
        Ok(WrittenShard { file, members: self.members, sum })
    }
}

fn member_bytes(name: &str, length: usize) -> u64 {
    let blocks = |length: usize| (length as u64).div_ceil(BLOCK) * BLOCK;
    let long = if name.len() > SHORT_NAME { BLOCK + blocks(name.len() + 1) } else { 0 };
    BLOCK + blocks(length) + long
}

impl WrittenShard {
    /// Waits until the disk has the shard, and compares every member with what was given to the writer.
    ///
    /// # Errors
    /// Returns an error if the shard can't be written or read, or if it isn't what was written.
    pub fn sync_and_check(&self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        // What is read below then comes from the disk, where the system can do that.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let differs = |what: &str| {
            let text = format!("what was read back is not what was written ({what})");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        };
        let file = BufReader::with_capacity(BUFFER, File::open(path)?);
        let mut archive = Archive::new(Summed::new(file));
        let mut expected = self.members.iter();
        let mut content = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            content.clear();
            entry.read_to_end(&mut content)?;
            let found = WrittenMember { name, size: entry.size(), xxh3: xxh3_64(&content) };
            if expected.next() != Some(&found) {
                return differs(&found.name);
            }
        }
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink())?;
        if expected.next().is_some() || rest.so_far() != self.sum {
            return differs("the whole file");
        }
        Ok(())
    }
}

/// Reads a file and returns its size and checksum.
///
/// # Errors
/// Returns an error if the file can't be read.
pub(crate) fn file_sum(path: &Path) -> io::Result<FileSum> {
    let mut file = Summed::new(BufReader::with_capacity(BUFFER, File::open(path)?));
    io::copy(&mut file, &mut io::sink())?;
    Ok(file.so_far())
}

/// A stream that sums up what goes through it.
struct Summed<S> {
    inner: S,
    sum: Xxh3,
    bytes: u64,
}

impl<S> Summed<S> {
    fn new(inner: S) -> Self {
        Self { inner, sum: Xxh3::new(), bytes: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn so_far(&self) -> FileSum {
        FileSum { bytes: self.bytes, xxh3: self.sum.digest() }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.add(&out[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::tempdir;

    fn write(path: &Path, names: &[String]) -> WrittenShard {
        let mut shard = ShardWriter::create(path).unwrap();
        for (index, name) in names.iter().enumerate() {
            let content = vec![index as u8; index * 300];
            let bound = shard.bytes_with(&[(name, content.len())]);
            shard.append(name, &content).unwrap();
            assert_eq!(bound, shard.bytes_with(&[]));
        }
        let bound = shard.bytes_with(&[]);
        let written = shard.finish().unwrap();
        assert_eq!(written.sum.bytes, fs::metadata(path).unwrap().len());
        assert!(written.sum.bytes <= bound && bound <= written.sum.bytes + 2048);
        written
    }

    fn names() -> Vec<String> {
        let long = |length: usize| format!("{}.jpg", "x".repeat(length));
        let deep = format!("{}/{}", "d".repeat(120), long(60));
        vec!["a/b.jpg".to_owned(), "é/ü.png".to_owned(), long(96), long(97), deep, long(230)]
    }

    #[test]
    fn a_shard_is_read_back_and_its_bytes_depend_on_the_members_alone() {
        let dir = tempdir().unwrap();
        let [one, two] = ["1.tar", "2.tar"].map(|name| dir.path().join(name));
        write(&one, &names()).sync_and_check(&one).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100)); // times in headers are whole seconds
        let written = write(&two, &names());
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(file_sum(&two).unwrap(), written.sum);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("1.tar");
        let written = write(&path, &names());
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(&path, &damaged).unwrap();
            assert!(written.sync_and_check(&path).is_err(), "byte {at}");
        }
        for length in [0, 512, whole.len() - 1024, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(written.sync_and_check(&path).is_err(), "{length} bytes");
        }
        fs::write(&path, &whole).unwrap();
        written.sync_and_check(&path).unwrap();
    }
}
