//! Reads IDX files (MNIST, Fashion-MNIST, …), plain or gzipped: a header of big-endian numbers, then bytes.

use super::packed::{Packed, PackedPixels, RecordLayout};
use super::{DataError, Opened, Part};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const LOOKED_FOR: &str = "train-images* (IDX, plain or .gz)";
/// Largest ratio of unpacked to packed bytes that deflate can reach. A header that promises more bytes is wrong.
const MAX_GZIP_RATIO: u64 = 1040;

/// Returns whether the folder holds IDX training images.
pub fn is_folder_of(path: &Path) -> bool {
    path.is_dir() && matches!(find(path, "train-images"), Ok(Some(_)))
}

/// Returns whether the content starts like an IDX file of images in bytes.
pub fn is_file_of(path: &Path) -> bool {
    let Ok((mut reader, _)) = reader(path) else { return false };
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).is_ok() && magic[..3] == [0, 0, 8] && matches!(magic[3], 3 | 4)
}

/// Opens one file of images, or a folder with `train-images*` and perhaps `t10k-images*` for validation.
/// The labels are read from the file beside it whose name has `labels` instead of `images`, if there is
/// one.
///
/// # Errors
/// Returns an error if there is no such file, if a header or a size is wrong, or if the labels don't fit
/// the images.
pub(crate) fn open(path: &Path) -> Result<Opened, DataError> {
    let opened =
        |train, val| Opened { train, val, kind: "IDX images", decodes: false, notes: Vec::new() };
    if path.is_file() {
        return Ok(opened(load(path)?, None));
    }
    let train = find(path, "train-images")?.ok_or_else(|| DataError::empty(path, LOOKED_FOR))?;
    let test = find(path, "t10k-images")?;
    let val = test.map(|file| load(&file)).transpose()?;
    Ok(opened(load(&train)?, val))
}

/// Returns the first file in the order of names whose name starts with `prefix`. A plain file comes
/// before its `.gz`.
fn find(folder: &Path, prefix: &str) -> Result<Option<PathBuf>, DataError> {
    let mut found: Option<PathBuf> = None;
    for entry in std::fs::read_dir(folder).map_err(|error| DataError::io(folder, error))? {
        let entry = entry.map_err(|error| DataError::io(folder, error))?;
        let fits = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        let path = entry.path();
        if fits && path.is_file() && found.as_ref().is_none_or(|best| path < *best) {
            found = Some(path);
        }
    }
    Ok(found)
}

/// Reads images and labels that are in memory, plain or gzipped. Messages call them `path`.
///
/// # Errors
/// Returns the errors of [`open`].
pub(super) fn parse(
    images: &'static [u8],
    labels: &'static [u8],
    path: &Path,
) -> Result<Part, DataError> {
    let read = |bytes: &'static [u8]| -> Result<(Vec<u32>, Vec<u8>), DataError> {
        let io = |error| DataError::io(path, error);
        let (reader, most) = unpacked(bytes, bytes.len() as u64).map_err(io)?;
        content(reader, most, path)
    };
    let labels = read(labels)?.1.into_iter().map(u32::from).collect();
    part(path, read(images)?, |_| Ok(labels))
}

/// Reads one file of images and the labels beside it.
fn load(path: &Path) -> Result<Part, DataError> {
    part(path, read(path)?, |count| labels_beside(path, count))
}

/// Makes a part of the dimensions and bytes of a file of images. `labels` gets the number of images and
/// returns one label for each, or none at all.
fn part(
    path: &Path,
    (sizes, bytes): (Vec<u32>, Vec<u8>),
    labels: impl FnOnce(u32) -> Result<Vec<u32>, DataError>,
) -> Result<Part, DataError> {
    let (count, height, width, pixels) = match *sizes.as_slice() {
        [count, height, width] => (count, height, width, PackedPixels::Grey),
        [count, height, width, 3] => (count, height, width, PackedPixels::Interleaved),
        _ => {
            let problem = format!(
                "the dimensions are {sizes:?}, not [images, rows, columns] or [images, rows, columns, 3]"
            );
            return Err(DataError::Content { path: path.to_owned(), problem });
        }
    };
    let layout = RecordLayout { width, height, before: 0, pixels };
    let labels = labels(count)?;
    // IDX files name no classes, so the highest label tells how many there are.
    let classes = labels.iter().max().map_or(0, |highest| highest + 1);
    let names = (0..classes).map(|class| class.to_string()).collect();
    Ok(Packed::new(layout, bytes, vec![(path.to_owned(), 0)], labels).into_part(names))
}

/// Reads the labels for `count` images from the file beside `images`. Returns none if there is no such
/// file.
fn labels_beside(images: &Path, count: u32) -> Result<Vec<u32>, DataError> {
    let name = images.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains("images") {
        return Ok(Vec::new());
    }
    let name = name.replacen("images", "labels", 1).replace("idx3", "idx1").replace("idx4", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let candidates = [name.clone(), plain.to_owned(), format!("{plain}.gz")];
    let Some(path) =
        candidates.iter().map(|name| images.with_file_name(name)).find(|path| path.is_file())
    else {
        return Ok(Vec::new());
    };
    let (sizes, bytes) = read(&path)?;
    if sizes != [count] {
        let problem = format!("the dimensions are {sizes:?}, not [{count}], one label per image");
        return Err(DataError::Content { path, problem });
    }
    Ok(bytes.into_iter().map(u32::from).collect())
}

/// Opens a file, unpacking it if it is gzipped. Also returns the largest number of bytes that it can
/// hold.
fn reader(path: &Path) -> Result<(Box<dyn Read>, u64), DataError> {
    let io = |error| DataError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    unpacked(BufReader::new(file), size).map_err(io)
}

/// Unpacks an open file of `size` bytes if it is gzipped. Returns what [`reader`] does.
fn unpacked(mut bytes: impl BufRead + 'static, size: u64) -> std::io::Result<(Box<dyn Read>, u64)> {
    if bytes.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok((Box::new(MultiGzDecoder::new(bytes)), size.saturating_mul(MAX_GZIP_RATIO)));
    }
    Ok((Box::new(bytes), size))
}

/// Returns the dimensions and the content of an IDX file of unsigned bytes.
fn read(path: &Path) -> Result<(Vec<u32>, Vec<u8>), DataError> {
    let (reader, most) = reader(path)?;
    content(reader, most, path)
}

/// Returns the dimensions and the content of an open IDX file of unsigned bytes, which holds `most` bytes
/// at most. Messages call it `path`.
fn content(
    mut reader: Box<dyn Read>,
    most: u64,
    path: &Path,
) -> Result<(Vec<u32>, Vec<u8>), DataError> {
    let io = |error| DataError::io(path, error);
    let content = |problem: String| DataError::Content { path: path.to_owned(), problem };
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head).map_err(io)?;
    let [0, 0, 8, rank @ 1..=4] = *head.as_slice() else {
        return Err(content(format!(
            "it starts with {head:02x?}, not with [00, 00, 08, 01 to 04] as an IDX file of bytes"
        )));
    };
    let mut sizes_bytes = Vec::new();
    reader.by_ref().take(4 * u64::from(rank)).read_to_end(&mut sizes_bytes).map_err(io)?;
    let (words, _) = sizes_bytes.as_chunks::<4>();
    let sizes: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    if sizes.len() != usize::from(rank) {
        return Err(content("it ends within the header".to_owned()));
    }
    if sizes.contains(&0) {
        return Err(content(format!("the dimensions are {sizes:?}: it holds nothing")));
    }
    let header = 4 + 4 * u64::from(rank);
    let total = sizes.iter().try_fold(1_u64, |total, &size| total.checked_mul(size.into()));
    let total = total.filter(|total| total.checked_add(header).is_some());
    let total = total.ok_or_else(|| content(format!("the dimensions {sizes:?} are too large")))?;
    let wrong = |found: u64| DataError::Size {
        path: path.to_owned(),
        expected: format!("{} (dimensions {sizes:?})", total + header),
        found,
    };
    if total + header > most {
        return Err(wrong(most));
    }
    let mut bytes = Vec::new();
    // One more byte than there should be is asked for, to notice a file that is too long.
    match reader.take(total + 1).read_to_end(&mut bytes) {
        Ok(_) => {}
        // A gzipped file was cut off. The error about its size below says so more clearly.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(io(error)),
    }
    if bytes.len() as u64 != total {
        return Err(wrong(header + bytes.len() as u64));
    }
    Ok((sizes, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::gzip;
    use tempfile::tempdir;

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn message(path: &Path) -> String {
        open(path).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_committed_fashion_mnist_files_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/fashion-mnist-mini");
        let opened = open(&folder).unwrap();
        let val = opened.val.unwrap().source;
        let train = opened.train.source;
        assert_eq!((train.len(), val.len()), (5000, 1000));
        assert_eq!(opened.train.classes.len(), 10);
        assert_eq!((train.label(0), val.label(0)), (Some(9), Some(9)));
        let image = train.read(4999).unwrap();
        assert_eq!(image.dimensions(), (28, 28));
        assert!(image.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
        assert!(image.pixels().any(|p| p.0[0] > 100));
    }

    #[test]
    fn grey_and_colour_files_with_and_without_labels_and_gzip_are_read() {
        let dir = tempdir().unwrap();
        let grey = dir.path().join("train-images.idx3-ubyte");
        std::fs::write(&grey, idx(&[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).unwrap();
        std::fs::write(dir.path().join("train-labels.idx1-ubyte.gz"), gzip(&idx(&[2], &[4, 0])))
            .unwrap();
        let part = open(dir.path()).unwrap().train;
        assert_eq!((part.source.label(0), part.classes.len()), (Some(4), 5));
        assert_eq!(part.source.read(1).unwrap().get_pixel(2, 1).0, [11; 3]);
        let colour = dir.path().join("any.gz");
        std::fs::write(&colour, gzip(&idx(&[1, 1, 2, 3], &[1, 2, 3, 4, 5, 6]))).unwrap();
        assert!(is_file_of(&colour) && is_file_of(&grey) && is_folder_of(dir.path()));
        let source = open(&colour).unwrap().train.source;
        assert_eq!((source.read(0).unwrap().get_pixel(1, 0).0, source.label(0)), ([4, 5, 6], None));
    }

    #[test]
    fn wrong_sizes_say_expected_and_found() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("train-images");
        let whole = idx(&[3, 10, 10], &[7; 300]);
        let cases = [
            (whole[..200].to_vec(), "found 200"),
            ([whole.clone(), vec![1]].concat(), "found 317"),
            (gzip(&whole[..250]), "found 250"),
        ];
        for (bytes, found) in cases {
            std::fs::write(&path, bytes).unwrap();
            let message = message(&path);
            assert!(message.contains("expected 316") && message.contains(found), "{message}");
        }
        let packed = gzip(&idx(&[3, 10, 10], &(0..300).map(|i| (i * 7) as u8).collect::<Vec<_>>()));
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        assert!(message(&path).contains("train-images"));
    }

    #[test]
    fn a_header_that_promises_terabytes_is_refused_before_reading() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("train-images");
        for bytes in [idx(&[u32::MAX, 1000, 1000], &[1]), gzip(&idx(&[u32::MAX, 9, 9], &[1]))] {
            std::fs::write(&path, bytes).unwrap();
            assert!(message(&path).contains("wrong size"));
        }
        std::fs::write(&path, idx(&[u32::MAX, u32::MAX, u32::MAX], &[1])).unwrap();
        assert!(message(&path).contains("too large"));
    }

    #[test]
    fn wrong_headers_and_labels_are_told_apart() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("train-images");
        for (bytes, part) in [
            (b"not an idx file".to_vec(), "it starts with"),
            (vec![0, 0, 13, 3, 0], "it starts with"),
            (vec![0, 0, 8, 3, 0, 0], "ends within the header"),
            (idx(&[0, 28, 28], &[]), "holds nothing"),
            (idx(&[4], &[1, 2, 3, 4]), "not [images, rows, columns]"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(message(&path).contains(part), "{}", message(&path));
        }
        std::fs::write(&path, idx(&[2, 1, 1], &[1, 2])).unwrap();
        std::fs::write(dir.path().join("train-labels"), idx(&[3], &[1, 2, 3])).unwrap();
        assert!(message(&path).contains("not [2], one label per image"));
    }
}
