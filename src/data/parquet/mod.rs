//! Reads images out of Parquet files, as the hub of Hugging Face ships them.
//!
//! A column holds the bytes of image files, often as a struct of `bytes` and `path`, and another one their labels. Of
//! each file, the footer and the labels are read when it is opened. Images are read by their row.

mod columns;
mod direct;
mod labels;
mod pages;
#[cfg(test)]
mod tests;
mod values;

pub(super) use labels::{NO_LABEL, sorted};

use super::encoded::{Decoding, EncodedImages};
use super::parts::{self, Role};
use super::scan::is_visible_name;
use super::{DataError, Opened, Part, braces, decode};
use crate::config::TruncatedImages;
use crate::shown;
use columns::{ChosenNames, Columns};
use labels::FileLabels;
use pages::{Chunk, reason};
use parquet::basic::Compression;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
    RowGroupMetaData,
};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use values::{PageCache, StoredColumn, StoredFile};
use walkdir::WalkDir;

/// What is looked for, in messages.
const LOOKED_FOR: &str = "*.parquet files, there or in folders";
/// Folders below the given one that are looked into.
const DEPTH: usize = 6;
/// Entries that are looked at to find out whether a folder is one of Parquet files.
const GLANCE: usize = 2_000;
/// Pages of at least so many bytes are slow if they are read as a whole for each image.
const LARGE_PAGE: u64 = 4 << 20;
/// Images beside Parquet files whose size is asked for.
const WEIGHED: usize = 1_000;

/// Returns whether a file is one of Parquet, by its name or by its content.
pub(super) fn is_file_of(path: &Path) -> bool {
    let mut start = [0; 4];
    path.is_file()
        && (has_ending(path)
            || File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
                && (start == *b"PAR1" || start == *b"PARE"))
}

/// Returns whether a folder holds Parquet files, and more bytes of them than of image files.
pub(super) fn is_folder_of(path: &Path) -> bool {
    let entries: Vec<PathBuf> = files_below(path).take(GLANCE).collect();
    let (parquet, others): (Vec<_>, Vec<_>) = entries.iter().partition(|file| has_ending(file));
    let images = others.iter().filter(|file| super::scan::is_image_name(file)).take(WEIGHED);
    let size = |file: &&PathBuf| std::fs::metadata(file).map_or(0, |file| file.len());
    !parquet.is_empty()
        && parquet.iter().copied().map(|file| size(&file)).sum::<u64>()
            > images.map(size).sum::<u64>()
}

fn has_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ending.eq_ignore_ascii_case("parquet") || ending.eq_ignore_ascii_case("pq")
    })
}

/// Returns the files below a folder that aren't hidden.
fn files_below(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = WalkDir::new(path).follow_links(true).max_depth(DEPTH).into_iter();
    let visible =
        entries.filter_entry(|entry| entry.depth() == 0 || is_visible_name(entry.file_name()));
    visible
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
}

/// Opens one file, or a folder of files. Their names, or those of their folders, say which part they belong to:
/// `train-00000-of-00005.parquet`, `test/0000.parquet`. Files that can't be used are left out, which a note says.
///
/// # Errors
/// Returns an error if there is no file, if none of a part can be used, or if a part has no images.
pub(crate) fn open(path: &Path, truncated: TruncatedImages) -> Result<Opened, DataError> {
    if let (false, Some(paths)) = (path.exists(), braces::expand(path)?) {
        braces::check_there(path, &paths)?;
        let files = paths
            .iter()
            .flat_map(|path| if path.is_dir() { files_in(path) } else { vec![path.clone()] });
        return open_parts(&braces::folder_above(path), files.collect(), truncated);
    }
    std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    if !path.is_dir() {
        let mut notes = Vec::new();
        let train = part(path, &[path.to_owned()], truncated, &mut notes)?;
        return Ok(opened(train, None, notes));
    }
    open_parts(path, files_in(path), truncated)
}

/// Returns whether a pattern in braces is one of Parquet files.
pub(crate) fn is_pattern(path: &Path) -> bool {
    let paths = braces::expand(path).ok().flatten();
    paths.is_some_and(|paths| paths.iter().any(|path| has_ending(path)))
}

/// Returns the Parquet files below a folder, sorted.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = files_below(folder).filter(|file| has_ending(file)).collect();
    files.sort_unstable();
    files
}

/// Opens files, all below `path`. Their names and those of their folders divide them into parts.
fn open_parts(
    path: &Path,
    files: Vec<PathBuf>,
    truncated: TruncatedImages,
) -> Result<Opened, DataError> {
    if files.is_empty() {
        return Err(DataError::empty(path, LOOKED_FOR));
    }
    let mut roles: BTreeMap<Option<Role>, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        roles.entry(role(path, &file)).or_default().push(file);
    }
    let assigned = parts::assign(&roles.keys().copied().collect());
    let mut notes = Vec::new();
    let mut take = |role| {
        let files = roles.remove(&role).unwrap_or_default();
        part(path, &files, truncated, &mut notes)
    };
    let train = take(assigned.train)?;
    let val = assigned.val.map(|role| take(Some(role))).transpose()?;
    let left: Vec<String> = roles
        .iter()
        .map(|(role, files)| match role {
            Some(role) => format!("{} of {}", count(files.len()), role.word()),
            None => format!("{} of no part", count(files.len())),
        })
        .collect();
    notes.extend((!left.is_empty()).then(|| {
        let used = [assigned.train, assigned.val].into_iter().flatten().map(Role::word);
        format!("beside {}, left out: {}", used.collect::<Vec<_>>().join(" and "), left.join(", "))
    }));
    Ok(opened(train, val, notes))
}

fn opened(train: Part, val: Option<Part>, notes: Vec<String>) -> Opened {
    Opened { train, val, kind: "images in Parquet files", decodes: true, notes }
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

/// Returns the part that a file belongs to, by its name or else by those of its folders.
fn role(root: &Path, file: &Path) -> Option<Role> {
    let inner = file.strip_prefix(root).unwrap_or(file);
    let folders = inner.ancestors().skip(1).filter(|folder| folder.file_name().is_some());
    parts::file_role(file).or_else(|| folders.into_iter().find_map(parts::role)).map(Role::merged)
}

/// Opens some files as one part. Keys begin with their paths below `root`.
fn part(
    root: &Path,
    files: &[PathBuf],
    truncated: TruncatedImages,
    notes: &mut Vec<String>,
) -> Result<Part, DataError> {
    let (images, classes) = open_files(root, files, notes)?;
    Ok(Part { source: Arc::new(Decoding::new(images, truncated)), classes })
}

/// Opens files as the images of one part, in their order. Also returns the names of the classes.
///
/// # Errors
/// Returns the reason why the first file can't be used if none can, or an error if they have no rows.
fn open_files(
    root: &Path,
    files: &[PathBuf],
    notes: &mut Vec<String>,
) -> Result<(ParquetImages, Vec<String>), DataError> {
    // The first file that can be used decides the columns of all.
    let mut problems = Vec::new();
    let mut first = None;
    for (at, path) in files.iter().enumerate() {
        match guarded_open(path, None) {
            Ok(file) => {
                first = Some((at, file));
                break;
            }
            Err(problem) => problems.push((path, problem)),
        }
    }
    let Some((at, first)) = first else {
        let (path, problem) = problems.swap_remove(0);
        return Err(problem.into_error(path));
    };
    let names = first.columns.names.clone();
    notes.extend(first.columns.note.clone());
    let rest: Vec<_> =
        files[at + 1..].par_iter().map(|path| guarded_open(path, Some(&names))).collect();
    let mut images = ParquetImages::new(root);
    let mut labels = Vec::new();
    for (path, file) in files[at..].iter().zip(std::iter::once(Ok(first)).chain(rest)) {
        match file {
            Ok(file) => {
                notes.extend(file.lost_labels(path));
                labels.push(images.add(path, file));
            }
            Err(problem) => problems.push((path, problem)),
        }
    }
    notes.extend(
        problems
            .into_iter()
            .map(|(path, problem)| format!("left out: {}", problem.into_error(path))),
    );
    if images.rows == 0 {
        return Err(DataError::empty(root, "rows with images: the Parquet files have none"));
    }
    notes.extend(images.slow());
    let (labels, classes) = labels::merge(labels);
    images.labels = labels;
    Ok((images, classes))
}

/// Why a file can't be used.
enum FileProblem {
    Read(std::io::Error),
    Content(String),
}

impl FileProblem {
    fn into_error(self, path: &Path) -> DataError {
        match self {
            Self::Read(source) => DataError::io(path, source),
            Self::Content(problem) => DataError::Content { path: path.to_owned(), problem },
        }
    }
}

/// What is read of a file when it is opened.
struct OpenedFile {
    columns: Columns,
    groups: Vec<OpenedGroup>,
    labels: FileLabels,
}

struct OpenedGroup {
    rows: u32,
    image: StoredColumn,
    path: Option<StoredColumn>,
}

impl OpenedFile {
    fn lost_labels(&self, path: &Path) -> Option<String> {
        let (rows, why) = self.labels.lost.as_ref()?;
        Some(format!("{rows} labels of {} can't be read: {why}", shown::path(path)))
    }
}

/// Keeps the library of Parquet from printing its panics, all of which are caught here: a damaged file is told of in a line
/// of the program's own.
pub(crate) fn silence_library() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_library = panic.location().is_some_and(|at| at.file().contains("/parquet-"));
        if !of_library {
            usual(panic);
        }
    }));
}

/// Opens a file. The library panics on some that are damaged.
fn guarded_open(path: &Path, names: Option<&ChosenNames>) -> Result<OpenedFile, FileProblem> {
    let opened = catch_unwind(AssertUnwindSafe(|| open_file(path, names)));
    let damaged = |_| Err(FileProblem::Content("its footer is damaged; fetch it again".to_owned()));
    opened.unwrap_or_else(damaged)
}

fn open_file(path: &Path, names: Option<&ChosenNames>) -> Result<OpenedFile, FileProblem> {
    let file = Arc::new(File::open(path).map_err(FileProblem::Read)?);
    let size = file.metadata().map_err(FileProblem::Read)?.len();
    let meta = footer(&file, size)?;
    let content = FileProblem::Content;
    let columns = Columns::of(meta.file_metadata(), names).map_err(content)?;
    let mut labels = FileLabels::new(columns.classes.clone());
    let mut groups = Vec::with_capacity(meta.num_row_groups());
    let mut rows_before = 0;
    for group in meta.row_groups() {
        let rows = u32::try_from(group.num_rows())
            .ok()
            .filter(|rows| u64::from(*rows) + rows_before <= size);
        let rows = rows.ok_or_else(|| {
            content(format!(
                "a row group of {} rows in {size} bytes: the footer is damaged",
                group.num_rows()
            ))
        })?;
        rows_before += u64::from(rows);
        let image = column(group, columns.image, rows, size)?;
        let path = columns.path.map(|path| column(group, path, rows, size)).transpose()?;
        groups.push(OpenedGroup { rows, image, path });
        if let Some(label) = columns.label {
            labels.read(&file, group.column(label), rows as usize);
        }
    }
    labels.check().map_err(content)?;
    Ok(OpenedFile { columns, groups, labels })
}

/// Reads the footer of a file of `size` bytes.
fn footer(file: &File, size: u64) -> Result<ParquetMetaData, FileProblem> {
    let content = |problem: &str| Err(FileProblem::Content(problem.to_owned()));
    let ends = |place| pages::read_at(file, &place).map_err(FileProblem::Read);
    if size < 12 {
        return content("it is too short for a Parquet file; fetch it again");
    }
    let (start, end) = (ends(0..4)?, ends(size - 4..size)?);
    match (&start[..], &end[..]) {
        (b"PARE", _) | (_, b"PARE") => {
            return content("it is encrypted: store it without encryption");
        }
        (b"PAR1", b"PAR1") => {}
        (b"PAR1", _) => return content("it has no footer, so it is truncated; fetch it again"),
        _ => return content("it doesn't begin as a Parquet file does"),
    }
    let mut options = ParquetMetaDataOptions::default();
    options.set_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
    options.set_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    options.set_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let reader = ParquetMetaDataReader::new().with_metadata_options(Some(options));
    reader.parse_and_finish(file).map_err(|error| {
        FileProblem::Content(format!("its footer is damaged ({}); fetch it again", reason(&error)))
    })
}

/// Returns one column of a row group, if it can be read.
fn column(
    group: &RowGroupMetaData,
    leaf: usize,
    rows: u32,
    size: u64,
) -> Result<StoredColumn, FileProblem> {
    let meta = group.columns().get(leaf).ok_or_else(|| {
        FileProblem::Content("a row group lacks a column: the footer is damaged".to_owned())
    })?;
    let chunk = Chunk::new(meta, rows, size).map_err(FileProblem::Content)?;
    let known = matches!(
        chunk.codec,
        Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::ZSTD(_)
    );
    if !known {
        let name = codec_name(chunk.codec);
        return Err(FileProblem::Content(format!(
            "column {} is compressed by {name}, and this program reads snappy, zstd, gzip and none: write the file again \
             with one of these",
            meta.column_path()
        )));
    }
    Ok(StoredColumn::new(chunk, meta.column_descr_ptr()))
}

/// Returns what people call a way of compression.
fn codec_name(codec: Compression) -> String {
    codec.to_string().split('(').next().unwrap_or_default().to_lowercase()
}

/// The images of some Parquet files.
pub(super) struct ParquetImages {
    root: PathBuf,
    files: Vec<StoredFile>,
    groups: Vec<RowGroup>,
    /// One for each image, or none at all.
    labels: Vec<u32>,
    rows: usize,
    cache: PageCache,
}

struct RowGroup {
    /// Index into `files`.
    file: usize,
    /// Index of its first image.
    first: usize,
    /// Number of its first row in its file.
    first_row: usize,
    image: StoredColumn,
    path: Option<Box<StoredColumn>>,
}

impl ParquetImages {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: Vec::new(),
            groups: Vec::new(),
            labels: Vec::new(),
            rows: 0,
            cache: PageCache::default(),
        }
    }

    /// Adds the rows of a file, and returns their labels.
    fn add(&mut self, path: &Path, file: OpenedFile) -> FileLabels {
        let number = self.files.len();
        self.files.push(StoredFile::new(path, number));
        let mut first_row = 0;
        for OpenedGroup { rows, image, path } in file.groups {
            if rows > 0 {
                let path = path.map(Box::new);
                self.groups.push(RowGroup {
                    file: number,
                    first: self.rows,
                    first_row,
                    image,
                    path,
                });
            }
            self.rows += rows as usize;
            first_row += rows as usize;
        }
        file.labels
    }

    /// Returns the row group of an image, its number, and the image's row in it.
    fn place(&self, index: usize) -> Option<(&RowGroup, usize, u32)> {
        let at = self.groups.partition_point(|group| group.first <= index).checked_sub(1)?;
        let group = self.groups.get(at).filter(|_| index < self.rows)?;
        Some((group, at, (index - group.first) as u32))
    }

    /// Returns the file of an image and the image's row in it.
    fn row(&self, index: usize) -> Option<(&StoredFile, usize)> {
        let (group, _, row) = self.place(index)?;
        Some((self.files.get(group.file)?, group.first_row + row as usize))
    }

    /// Warns of files that take long to read in random order, going by the first row group.
    fn slow(&self) -> Option<String> {
        let group = self.groups.first()?;
        let file = self.files.get(group.file)?;
        // The library panics on some pages that are damaged; they are told when their images are read.
        let bytes = catch_unwind(AssertUnwindSafe(|| group.image.largest_page(file))).ok()??;
        let size = (bytes as f64 / f64::from(1 << 20)).round();
        let (path, codec) = (shown::path(&file.path), group.image.chunk.codec);
        let direct = matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY);
        (bytes >= LARGE_PAGE).then(|| {
            if direct {
                return format!(
                    "{path} has {size} MiB of images in one page, which is read as a whole for the first of them: in random \
                     order, the first steps wait for the disk"
                );
            }
            format!(
                "{path} has {size} MiB of images in one page that {} compressed, which is unpacked for every image: random \
                 order is slow; store the column uncompressed or with snappy",
                codec_name(codec)
            )
        })
    }

    /// Reads the file that a row names instead of holding its bytes.
    fn named_file(&self, group: &RowGroup, number: usize, row: u32) -> Result<Vec<u8>, String> {
        let none = || "the row holds neither the bytes of an image nor a path".to_owned();
        let file = self.files.get(group.file).ok_or_else(none)?;
        let column = group.path.as_ref().ok_or_else(none)?;
        let path = column.value(file, row, id(number, true), &self.cache)?;
        let path = path.filter(|path| !path.is_empty()).ok_or_else(none)?;
        let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
        let folder = file.path.parent().unwrap_or(Path::new(""));
        decode::read_file(&folder.join(&path)).map_err(|error| {
            format!("the row holds no bytes but the path {}: {error}", shown::path(&path))
        })
    }
}

/// Returns what tells a column of a row group from others in the cache.
fn id(group: usize, path: bool) -> u64 {
    group as u64 * 2 + u64::from(path)
}

impl EncodedImages for ParquetImages {
    fn len(&self) -> usize {
        self.rows
    }

    /// Each row group is one: its images are cheap to read in order.
    fn shards(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.first).collect()
    }

    fn name(&self, index: usize) -> String {
        let named = self.row(index).map(|(file, row)| format!("{}#{row}", shown::text(&file.path)));
        named.unwrap_or_else(|| shown::text(&self.root))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().filter(|label| *label != NO_LABEL)
    }

    fn key(&self, index: usize) -> String {
        let Some((file, row)) = self.row(index) else { return String::new() };
        let inner =
            file.path.strip_prefix(&self.root).ok().filter(|path| !path.as_os_str().is_empty());
        let name = inner.or_else(|| file.path.file_name().map(Path::new)).unwrap_or(&file.path);
        format!("{}#{row}", name.to_string_lossy())
    }

    /// Returns the size of the image's row group: its own isn't known until it is read, and other images have another
    /// size.
    fn bytes(&self, index: usize) -> u64 {
        self.place(index).map_or(0, |(group, ..)| {
            let place = &group.image.chunk.place;
            place.end - place.start
        })
    }

    fn origin(&self) -> String {
        shown::text(&self.root)
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, String> {
        let (group, number, row) = self.place(index).ok_or("there is no such image")?;
        let file = self.files.get(group.file).ok_or("there is no such file")?;
        // The library panics on some pages that are damaged.
        let value = catch_unwind(AssertUnwindSafe(|| {
            group.image.value(file, row, id(number, false), &self.cache)
        }));
        match value.map_err(|_| "the page that it lies in is damaged".to_owned())?? {
            Some(bytes) => {
                decode::check_size(bytes.len() as u64)?;
                Ok(bytes)
            }
            None => self.named_file(group, number, row),
        }
    }
}
