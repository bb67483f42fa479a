//! Reads the values of a column by their rows, and keeps the last pages that were read.

use super::direct::Direct;
use super::pages::{Chunk, Fetched, PageError, fetch, reason};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::ColumnDescPtr;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most memory of pages that are kept. One that is larger is kept alone.
const KEPT: usize = 64 << 20;
/// Files that stay open once they have been read from. Any other is opened for each read.
const KEPT_OPEN: usize = 128;

/// A Parquet file that values are read from.
pub(super) struct StoredFile {
    pub path: PathBuf,
    handle: OnceLock<Arc<File>>,
    keep: bool,
}

impl StoredFile {
    /// Returns the file with this number among those of a data set.
    pub fn new(path: &Path, number: usize) -> Self {
        Self { path: path.to_owned(), handle: OnceLock::new(), keep: number < KEPT_OPEN }
    }

    fn open(&self) -> Result<Arc<File>, String> {
        if let Some(file) = self.handle.get() {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(&self.path).map_err(|error| error.to_string())?);
        if self.keep {
            return Ok(Arc::clone(self.handle.get_or_init(|| file)));
        }
        Ok(file)
    }
}

/// A column of bytes in one row group of a file.
pub(super) struct StoredColumn {
    pub chunk: Chunk,
    pub column: ColumnDescPtr,
    /// What is known of each data page since it was read.
    known: OnceLock<Vec<OnceLock<Known>>>,
}

/// What is known of a page.
enum Known {
    /// Its values can be read one by one.
    Direct(Direct),
    /// It has to be read as a whole.
    Whole,
    Damaged(String),
}

impl StoredColumn {
    pub fn new(chunk: Chunk, column: ColumnDescPtr) -> Self {
        Self { chunk, column, known: OnceLock::new() }
    }

    /// Reads the value of a row. `id` tells this column from all others that share the cache.
    ///
    /// # Errors
    /// Returns one line if the file can't be read or is damaged there.
    pub fn value(
        &self,
        file: &StoredFile,
        row: u32,
        id: u64,
        cache: &PageCache,
    ) -> Result<Option<Vec<u8>>, String> {
        let open = file.open()?;
        let pages = self.chunk.pages(&open, &self.column)?;
        let (number, first, place) = pages.of(row)?;
        let known = self.known.get_or_init(|| (0..pages.len()).map(|_| OnceLock::new()).collect());
        let known = &known[number];
        let row = (row - first) as usize;
        match known.get() {
            Some(Known::Damaged(reason)) => return Err(reason.clone()),
            Some(Known::Direct(direct)) => {
                if let Some(value) = direct.read(&open, row) {
                    return Ok(value);
                }
            }
            Some(Known::Whole) | None => {}
        }
        let page = cache.get((id, number), || {
            self.load(&open, &place, pages.dictionary.as_ref(), known).inspect_err(|error| {
                if let PageError::Damaged(_) = error {
                    known.get_or_init(|| Known::Damaged(error.text()));
                }
            })
        });
        let page = page.map_err(|error| error.text())?;
        let value = page.values.get(row).ok_or("its page has fewer rows than its file says")?;
        Ok(value.as_ref().map(|value| value.data().to_vec()))
    }

    /// Returns the bytes of the largest page.
    pub fn largest_page(&self, file: &StoredFile) -> Option<u64> {
        let open = file.open().ok()?;
        Some(self.chunk.pages(&open, &self.column).ok()?.largest())
    }

    /// Reads a page as a whole, and notes what is known of it then.
    fn load(
        &self,
        file: &File,
        place: &Range<u64>,
        dictionary: Option<&Range<u64>>,
        known: &OnceLock<Known>,
    ) -> Result<PageValues, PageError> {
        let data = fetch(file, &self.chunk, place, &self.column)?;
        // Two names of the same; old files have the second one.
        let refers =
            matches!(data.page.encoding(), Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
        let dictionary = match dictionary.filter(|_| refers) {
            Some(place) => Some(fetch(file, &self.chunk, place, &self.column)?),
            None => None,
        };
        let values = self.decode(&data, dictionary.as_ref()).map_err(PageError::Damaged)?;
        known.get_or_init(|| {
            Direct::of(&values, self.chunk.codec, &data, dictionary.as_ref())
                .map_or(Known::Whole, Known::Direct)
        });
        let size = |page: &Fetched| page.page.buffer().len();
        let bytes = size(&data) + dictionary.as_ref().map_or(0, size);
        Ok(PageValues { values, bytes })
    }

    /// Returns the values of a page, which share its memory.
    fn decode(
        &self,
        data: &Fetched,
        dictionary: Option<&Fetched>,
    ) -> Result<Vec<Option<ByteArray>>, String> {
        let pages = [dictionary, Some(data)].into_iter().flatten();
        let pages = PagesInMemory(pages.map(|fetched| fetched.page.clone()).collect());
        byte_arrays(&self.column, Box::new(pages), data.page.num_values() as usize)
    }
}

/// Returns the values of a column in these pages, `rows` at most.
///
/// # Errors
/// Returns one line if the pages are damaged or hold no bytes.
pub(super) fn byte_arrays(
    column: &ColumnDescPtr,
    pages: Box<dyn PageReader>,
    rows: usize,
) -> Result<Vec<Option<ByteArray>>, String> {
    let ColumnReader::ByteArrayColumnReader(mut reader) =
        get_column_reader(Arc::clone(column), pages)
    else {
        return Err("the column holds no bytes".to_owned());
    };
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let read = reader.read_records(rows, Some(&mut levels), None, &mut values);
    let (count, ..) = read.map_err(|error| reason(&error))?;
    Ok(with_nulls(column, count, &levels, values))
}

/// Puts the rows without value among the values of a column.
pub(super) fn with_nulls<T>(
    column: &ColumnDescPtr,
    rows: usize,
    levels: &[i16],
    values: Vec<T>,
) -> Vec<Option<T>> {
    if column.max_def_level() == 0 {
        return values.into_iter().map(Some).collect();
    }
    let mut values = values.into_iter();
    let levels = levels.iter().take(rows);
    levels
        .map(|level| if *level == column.max_def_level() { values.next() } else { None })
        .collect()
}

/// Pages that have been read, for the decoder.
struct PagesInMemory(VecDeque<Page>);

impl Iterator for PagesInMemory {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for PagesInMemory {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: None,
            num_levels: page.is_data_page().then_some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.pop_front();
        Ok(())
    }
}

/// The values of a page that was read as a whole.
pub(super) struct PageValues {
    values: Vec<Option<ByteArray>>,
    /// Memory of the page.
    bytes: usize,
}

/// Column and number of a page.
type PageId = (u64, usize);
/// A page that is there or being read. Who needs it waits for who reads it.
type Slot = Arc<Mutex<Option<Arc<PageValues>>>>;

/// The last pages that were read.
#[derive(Default)]
pub(super) struct PageCache {
    kept: Mutex<KeptPages>,
}

#[derive(Default)]
struct KeptPages {
    slots: HashMap<PageId, (u64, usize, Slot)>,
    /// Pages by when they were last asked for.
    order: BTreeMap<u64, PageId>,
    clock: u64,
    bytes: usize,
}

/// A thread that panics leaves nothing half changed behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageCache {
    /// Returns a page, which is read if it isn't there.
    fn get(
        &self,
        id: PageId,
        load: impl FnOnce() -> Result<PageValues, PageError>,
    ) -> Result<Arc<PageValues>, PageError> {
        let slot = lock(&self.kept).touch(id);
        let mut page = lock(&slot);
        if let Some(page) = &*page {
            return Ok(Arc::clone(page));
        }
        let loaded = load().map(Arc::new);
        match &loaded {
            Ok(loaded) => {
                *page = Some(Arc::clone(loaded));
                lock(&self.kept).charge(id, loaded.bytes);
            }
            Err(_) => lock(&self.kept).forget(id),
        }
        loaded
    }
}

impl KeptPages {
    /// Returns the slot of a page, and makes it the last one that was asked for.
    fn touch(&mut self, id: PageId) -> Slot {
        self.clock += 1;
        let (stamp, _, slot) = self.slots.entry(id).or_default();
        self.order.remove(stamp);
        *stamp = self.clock;
        self.order.insert(self.clock, id);
        Arc::clone(slot)
    }

    /// Notes the memory of a page and drops those that were asked for longest ago.
    fn charge(&mut self, id: PageId, bytes: usize) {
        if let Some((_, charged, _)) = self.slots.get_mut(&id) {
            self.bytes = self.bytes - *charged + bytes;
            *charged = bytes;
        }
        while self.bytes > KEPT {
            let Some(oldest) = self.order.values().copied().find(|other| *other != id) else {
                break;
            };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: PageId) {
        if let Some((stamp, bytes, _)) = self.slots.remove(&id) {
            self.order.remove(&stamp);
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_that_were_asked_for_last_are_kept_up_to_a_limit() {
        let cache = PageCache::default();
        let get = |id: u64, bytes: usize| {
            let mut loaded = false;
            let page = cache.get((id, 0), || {
                loaded = true;
                Ok(PageValues { values: Vec::new(), bytes })
            });
            assert!(page.is_ok_and(|page| page.bytes == bytes));
            loaded
        };
        let third = KEPT / 3;
        assert!(get(1, third) && get(2, third) && get(3, third));
        assert!(!get(1, third), "it was the oldest and is the newest now");
        assert!(get(4, third), "the second one goes for it");
        assert!(!get(1, third) && !get(3, third) && !get(4, third) && get(2, third));
        assert!(get(5, 2 * KEPT) && !get(5, 2 * KEPT), "one that is larger is kept alone");
        assert_eq!(lock(&cache.kept).slots.len(), 1);
        let failed = cache.get((6, 0), || Err(PageError::Damaged("so".to_owned())));
        assert!(failed.is_err() && get(6, 1), "an error isn't kept");
        assert!(lock(&cache.kept).bytes <= KEPT && lock(&cache.kept).order.len() == 1);
    }
}
