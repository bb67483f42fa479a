//! Where the pages of a column lie in a Parquet file, and how one of them is read.

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::index_reader::decode_offset_index;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes that are read for the header of a page, which has some fifty.
const HEADER: usize = 256;

/// One column of a row group, as it lies in its file.
pub(super) struct Chunk {
    pub place: Range<u64>,
    pub codec: Compression,
    pub rows: u32,
    /// Where the file says where the pages are, if it does.
    index: Option<Range<u64>>,
    pages: OnceLock<Pages>,
}

/// The pages of a chunk.
pub(super) struct Pages {
    pub dictionary: Option<Range<u64>>,
    /// The first row of each data page and its place, ascending.
    data: Vec<(u32, Range<u64>)>,
    /// The row from which on the places aren't known, and why.
    lost: Option<(u32, String)>,
}

/// A page out of its file.
pub(super) struct Fetched {
    /// The page, unpacked.
    pub page: Page,
    /// Where its content begins in the file, behind its header.
    pub content: Range<u64>,
    /// The content as it is stored.
    pub stored: Bytes,
}

impl Chunk {
    /// # Errors
    /// Returns an error if the chunk doesn't lie in a file of so many bytes.
    pub fn new(meta: &ColumnChunkMetaData, rows: u32, file: u64) -> Result<Self, String> {
        let start = meta.dictionary_page_offset().filter(|offset| *offset > 0);
        let start = u64::try_from(start.unwrap_or(meta.data_page_offset())).ok();
        let length = u64::try_from(meta.compressed_size()).ok();
        let place = start.zip(length).and_then(|(start, length)| {
            let end = start.checked_add(length)?;
            (end <= file).then_some(start..end)
        });
        let place = place.ok_or_else(|| {
            format!("column {} lies outside of the file: it is truncated", meta.column_path())
        })?;
        let index = meta.offset_index_range().filter(|range| range.end <= file);
        Ok(Self { place, codec: meta.compression(), rows, index, pages: OnceLock::new() })
    }

    /// Returns where the pages are. The first call looks them up in the file.
    ///
    /// # Errors
    /// Returns one line if the file can't be read.
    pub fn pages(&self, file: &Arc<File>, column: &ColumnDescPtr) -> Result<&Pages, String> {
        if let Some(pages) = self.pages.get() {
            return Ok(pages);
        }
        let pages = match self.indexed(file)? {
            Some(pages) => pages,
            None => self.walked(file, column)?,
        };
        Ok(self.pages.get_or_init(|| pages))
    }

    /// Returns the pages that the file's own index lists, or `None` if there is no such index or a wrong one.
    fn indexed(&self, file: &File) -> Result<Option<Pages>, String> {
        let Some(range) = &self.index else { return Ok(None) };
        let bytes = read_at(file, range).map_err(|error| error.to_string())?;
        let Ok(index) = decode_offset_index(&bytes) else { return Ok(None) };
        let mut data = Vec::with_capacity(index.page_locations().len());
        for page in index.page_locations() {
            let size = u64::try_from(page.compressed_page_size).ok();
            let start = u64::try_from(page.offset).ok();
            let (Some(size), Some(start)) = (size, start) else { return Ok(None) };
            let place = start..start.saturating_add(size);
            let Ok(row) = u32::try_from(page.first_row_index) else { return Ok(None) };
            let before: Option<&(u32, Range<u64>)> = data.last();
            let follows = before
                .map_or(row == 0 && start >= self.place.start, |(first, before)| {
                    row > *first && start >= before.end
                });
            if !follows || row >= self.rows || place.end > self.place.end || size == 0 {
                return Ok(None);
            }
            data.push((row, place));
        }
        let Some((_, first)) = data.first() else { return Ok(None) };
        let before = self.place.start..first.start;
        let dictionary = (!before.is_empty()).then_some(before);
        Ok(Some(Pages { dictionary, data, lost: None }))
    }

    /// Finds the pages by their headers, from one to the next.
    fn walked(&self, file: &Arc<File>, column: &ColumnDescPtr) -> Result<Pages, String> {
        let noted = Arc::new(Noted { file: Arc::clone(file), last: AtomicU64::new(0) });
        let mut reader = reader(&noted, self, self.place.clone(), column)?;
        let (mut row, mut found) = (0_usize, Vec::new());
        let (mut dictionary, mut lost) = (None, None);
        loop {
            let next = reader.peek_next_page();
            let page = match next {
                Ok(None) => break,
                Ok(Some(page)) => page,
                Err(ParquetError::External(error)) => return Err(error.to_string()),
                Err(error) => {
                    lost = Some((row as u32, reason(&error)));
                    break;
                }
            };
            let start = noted.last.load(Ordering::Relaxed);
            if page.is_dict {
                dictionary = Some(start);
            } else {
                found.push((row as u32, start));
                row = row.saturating_add(page.num_levels.or(page.num_rows).unwrap_or(0));
            }
            if let Err(error) = reader.skip_next_page() {
                lost = Some((found.pop().map_or(0, |(row, _)| row), reason(&error)));
                break;
            }
            if row >= self.rows as usize {
                break;
            }
        }
        // A page ends where the next one begins; the last one may have less than is read for it.
        let ends = found.iter().skip(1).map(|(_, start)| *start).chain([self.place.end]);
        let data: Vec<_> =
            found.iter().zip(ends).map(|(&(row, start), end)| (row, start..end)).collect();
        let first = data.first().map_or(self.place.end, |(_, place)| place.start);
        Ok(Pages { dictionary: dictionary.map(|start| start..first), data, lost })
    }
}

impl Pages {
    /// Returns the number of the data page that has a row, with its first row and its place.
    pub fn of(&self, row: u32) -> Result<(usize, u32, Range<u64>), String> {
        if let Some((_, reason)) = self.lost.as_ref().filter(|(first, _)| row >= *first) {
            return Err(format!(
                "the header of its page, or of one before it, is damaged or encrypted: {reason}"
            ));
        }
        let after = self.data.partition_point(|(first, _)| *first <= row);
        let at = after.checked_sub(1).ok_or("there is no page of this row")?;
        let (first, place) = self.data[at].clone();
        Ok((at, first, place))
    }

    /// Returns the bytes of the largest page with values.
    pub fn largest(&self) -> u64 {
        let places = self.data.iter().map(|(_, place)| place).chain(&self.dictionary);
        places.map(|place| place.end - place.start).max().unwrap_or(0)
    }

    /// Returns the number of data pages.
    pub fn len(&self) -> usize {
        self.data.len()
    }
}

/// Reads one page and unpacks it.
///
/// # Errors
/// Returns one line if the file can't be read or the page is damaged.
pub(super) fn fetch(
    file: &File,
    chunk: &Chunk,
    place: &Range<u64>,
    column: &ColumnDescPtr,
) -> Result<Fetched, PageError> {
    let bytes = read_at(file, place).map_err(PageError::Read)?;
    let window = Arc::new(Window { start: place.start, bytes, content: AtomicU64::new(0) });
    let damaged = |error: &ParquetError| PageError::Damaged(reason(error));
    let mut reader = reader(&window, chunk, place.clone(), column).map_err(PageError::Damaged)?;
    let page = reader.get_next_page().map_err(|error| damaged(&error))?;
    let page = page.ok_or_else(|| PageError::Damaged("there is no page".to_owned()))?;
    let start = window.content.load(Ordering::Relaxed).max(place.start);
    let stored = window.bytes.slice((start - place.start) as usize..);
    Ok(Fetched { page, content: start..place.end, stored })
}

/// Why a page can't be used.
pub(super) enum PageError {
    /// The system can't read the file, now.
    Read(io::Error),
    /// It never will be of use.
    Damaged(String),
}

impl PageError {
    pub fn text(&self) -> String {
        match self {
            Self::Read(error) => error.to_string(),
            Self::Damaged(reason) => {
                format!("its page of the file is damaged or encrypted: {reason}")
            }
        }
    }
}

/// Returns what a message of the library says, in one line and without its prefix.
pub(super) fn reason(error: &ParquetError) -> String {
    let text = match error {
        ParquetError::General(text) | ParquetError::NYI(text) | ParquetError::EOF(text) => {
            text.clone()
        }
        other => other.to_string(),
    };
    text.lines().collect::<Vec<_>>().join(" ")
}

/// Returns a reader of the pages at `place`, as if they were a whole chunk.
fn reader<R: ChunkReader>(
    bytes: &Arc<R>,
    chunk: &Chunk,
    place: Range<u64>,
    column: &ColumnDescPtr,
) -> Result<SerializedPageReader<R>, String> {
    let meta = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_compression(chunk.codec)
        .set_data_page_offset(place.start as i64)
        .set_total_compressed_size((place.end - place.start) as i64)
        .set_num_values(i64::from(chunk.rows))
        .build();
    let meta = meta.map_err(|error| reason(&error))?;
    SerializedPageReader::new(Arc::clone(bytes), &meta, chunk.rows as usize, None)
        .map_err(|error| reason(&error))
}

/// Reads some bytes of a file that other threads read as well.
pub(super) fn read_at(file: &File, place: &Range<u64>) -> io::Result<Bytes> {
    let length = place.end.saturating_sub(place.start) as usize;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place.start)?;
    Ok(bytes.into())
}

fn end() -> ParquetError {
    ParquetError::EOF("it ends too early".to_owned())
}

/// Bytes from the middle of a file. It notes where the content behind a header begins.
struct Window {
    start: u64,
    bytes: Bytes,
    content: AtomicU64,
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Window {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let skipped = start.checked_sub(self.start).map(|skipped| skipped as usize);
        let skipped = skipped.filter(|skipped| *skipped <= self.bytes.len()).ok_or_else(end)?;
        Ok(io::Cursor::new(self.bytes.slice(skipped..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let skipped = start.checked_sub(self.start).map(|skipped| skipped as usize);
        let range = skipped.and_then(|skipped| Some(skipped..skipped.checked_add(length)?));
        let range = range.filter(|range| range.end <= self.bytes.len()).ok_or_else(end)?;
        self.content.store(start, Ordering::Relaxed);
        Ok(self.bytes.slice(range))
    }
}

/// A file of which headers of pages are read. It notes where the last one began.
struct Noted {
    file: Arc<File>,
    last: AtomicU64,
}

impl Length for Noted {
    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for Noted {
    type T = BufReader<FileAt>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.last.store(start, Ordering::Relaxed);
        let file = FileAt { file: Arc::clone(&self.file), at: start };
        Ok(BufReader::with_capacity(HEADER, file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        read_at(&self.file, &(start..start.saturating_add(length as u64))).map_err(Into::into)
    }
}

/// A place in a file that other threads read as well.
struct FileAt {
    file: Arc<File>,
    at: u64,
}

impl Read for FileAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
