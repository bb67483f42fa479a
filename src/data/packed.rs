//! Images of one size as raw bytes in memory, which is what CIFAR, STL-10 and IDX files hold.

use super::{DataError, ImageError, ImageSource, Part};
use crate::shown;
use image::RgbImage;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the bytes of one image are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedPixels {
    /// Three planes. `[3, height, width]`
    Planes,
    /// Three planes, each column by column. `[3, width, height]`
    ColumnPlanes,
    /// The three numbers of a pixel together. `[height, width, 3]`
    Interleaved,
    /// One plane. `[height, width]`
    Grey,
}

/// The layout of a record: one image with what the file stores beside it.
#[derive(Debug, Clone, Copy)]
pub struct RecordLayout {
    pub width: u32,
    pub height: u32,
    /// Bytes before the pixels of each image, such as its label.
    pub before: usize,
    pub pixels: PackedPixels,
}

impl RecordLayout {
    /// Returns the number of bytes of the pixels.
    pub fn image_bytes(&self) -> usize {
        let channels = if self.pixels == PackedPixels::Grey { 1 } else { 3 };
        self.width as usize * self.height as usize * channels
    }

    /// Returns the number of bytes of the record.
    pub fn record(&self) -> usize {
        self.before + self.image_bytes()
    }

    /// Returns the image of a record.
    fn unpack(&self, record: &[u8]) -> Option<RgbImage> {
        let pixels = record.get(self.before..)?;
        let (width, height) = (self.width as usize, self.height as usize);
        let plane = width * height;
        let mut rgb = Vec::with_capacity(plane * 3);
        match self.pixels {
            PackedPixels::Interleaved => rgb.extend_from_slice(pixels),
            PackedPixels::Grey => rgb.extend(pixels.iter().flat_map(|&grey| [grey; 3])),
            PackedPixels::Planes | PackedPixels::ColumnPlanes => {
                let (red, rest) = pixels.split_at_checked(plane)?;
                let (green, blue) = rest.split_at_checked(plane)?;
                for y in 0..height {
                    for x in 0..width {
                        let at = match self.pixels {
                            PackedPixels::ColumnPlanes => x * height + y,
                            _ => y * width + x,
                        };
                        rgb.extend([*red.get(at)?, *green.get(at)?, *blue.get(at)?]);
                    }
                }
            }
        }
        RgbImage::from_raw(self.width, self.height, rgb)
    }
}

/// The raw images of one or several files.
pub struct Packed {
    layout: RecordLayout,
    /// The records of all files, one after the other.
    bytes: Vec<u8>,
    /// Each file with the index of its first image.
    files: Vec<(PathBuf, usize)>,
    /// The class of each image, or nothing.
    labels: Vec<u32>,
}

impl Packed {
    /// Takes over the records of some files. `bytes` holds whole records, `files` each file with the
    /// index of its first image, and `labels` nothing or one entry per record.
    pub fn new(
        layout: RecordLayout,
        bytes: Vec<u8>,
        files: Vec<(PathBuf, usize)>,
        labels: Vec<u32>,
    ) -> Self {
        Self { layout, bytes, files, labels }
    }

    /// Returns the images as a part of a data set with these class names.
    pub(crate) fn into_part(self, classes: Vec<String>) -> Part {
        Part { source: Arc::new(self), classes }
    }

    /// Returns the file of an image and its index in that file.
    fn place(&self, index: usize) -> (PathBuf, usize) {
        let file = self.files.iter().rev().find(|(_, first)| *first <= index);
        file.map_or_else(|| (PathBuf::new(), index), |(path, first)| (path.clone(), index - first))
    }
}

impl ImageSource for Packed {
    fn len(&self) -> usize {
        self.bytes.len() / self.layout.record().max(1)
    }

    fn name(&self, index: usize) -> String {
        let (path, number) = self.place(index);
        format!("{}#{number}", shown::text(&path))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        let record = self.bytes.chunks_exact(self.layout.record().max(1)).nth(index);
        record
            .and_then(|bytes| self.layout.unpack(bytes))
            .map(Arc::new)
            .ok_or_else(|| ImageError::new(self.name(index), "there is no such image"))
    }

    fn key(&self, index: usize) -> String {
        let (path, number) = self.place(index);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        format!("{file}#{number}")
    }

    fn origin(&self) -> String {
        self.files.first().map_or_else(|| "nowhere".to_owned(), |(path, _)| shown::text(path))
    }
}

/// Appends a file of records of `record` bytes to `bytes`. Returns the number of records.
///
/// # Errors
/// Returns an error if the file can't be read, or if its size isn't a positive multiple of `record`.
pub fn append_records(path: &Path, record: usize, bytes: &mut Vec<u8>) -> Result<usize, DataError> {
    let io = |error| DataError::io(path, error);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let wrong = |found: u64| DataError::Size {
        path: path.to_owned(),
        expected: format!("a positive multiple of {record}"),
        found,
    };
    // The size is checked before reading, so that a wrong file of many gigabytes is refused at once.
    if size == 0 || !size.is_multiple_of(record as u64) {
        return Err(wrong(size));
    }
    let read = file.read_to_end(bytes).map_err(io)?;
    if read as u64 != size {
        return Err(wrong(read as u64));
    }
    Ok(read / record)
}

/// Reads a whole file.
///
/// # Errors
/// Returns an error if the file is missing or can't be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|error| DataError::io(path, error))
}

/// Returns `count` class names from the first of `files` that holds so many lines that aren't empty. If
/// there is none, the names are the numbers.
pub fn class_names(files: &[PathBuf], count: usize) -> Vec<String> {
    let lines = |path: &PathBuf| -> Option<Vec<String>> {
        let text = std::fs::read_to_string(path).ok()?;
        let names: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        (names.len() == count).then_some(names)
    };
    files.iter().find_map(lines).unwrap_or_else(|| (0..count).map(|n| n.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_layouts_hold_the_same_picture() {
        // 2 wide, 3 high; red = x, green = y, blue = 7.
        let expected = RgbImage::from_fn(2, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let planes = [0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 2, 2, 7, 7, 7, 7, 7, 7];
        let columns = [0, 0, 0, 1, 1, 1, 0, 1, 2, 0, 1, 2, 7, 7, 7, 7, 7, 7];
        let interleaved = expected.as_raw().as_slice();
        for (pixels, bytes) in [
            (PackedPixels::Planes, planes.as_slice()),
            (PackedPixels::ColumnPlanes, columns.as_slice()),
            (PackedPixels::Interleaved, interleaved),
        ] {
            let layout = RecordLayout { width: 2, height: 3, before: 0, pixels };
            assert_eq!(layout.unpack(bytes).unwrap(), expected, "{pixels:?}");
        }
        let grey = RecordLayout { width: 2, height: 3, before: 1, pixels: PackedPixels::Grey };
        let image = grey.unpack(&[99, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(image.get_pixel(1, 2).0, [6; 3]);
    }

    #[test]
    fn names_count_within_each_file() {
        let layout = RecordLayout { width: 1, height: 1, before: 0, pixels: PackedPixels::Grey };
        let files = vec![("/x/a.bin".into(), 0), ("/x/b.bin".into(), 2)];
        let packed = Packed::new(layout, vec![1, 2, 3], files, Vec::new());
        assert_eq!((packed.name(1), packed.name(2)), ("/x/a.bin#1".into(), "/x/b.bin#0".into()));
        assert_eq!(packed.key(2), "b.bin#0");
        assert!(packed.read(3).is_err());
    }
}
