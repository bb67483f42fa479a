//! Reads the binary version of STL-10: three planes of 96x96 per image, each column by column. The labels,
//! counted from 1, are in files of their own.

use super::packed::{Packed, PackedPixels, RecordLayout, append_records, class_names, read_file};
use super::{DataError, Opened, Part};
use std::path::{Path, PathBuf};

const LAYOUT: RecordLayout =
    RecordLayout { width: 96, height: 96, before: 0, pixels: PackedPixels::ColumnPlanes };
const CLASSES: u8 = 10;
const LOOKED_FOR: &str =
    "unlabeled_X.bin or train_X.bin (STL-10 binary version), there or in stl10_binary/";
/// The training files. The first one that exists is taken: the unlabelled set is the larger one.
const TRAIN: [&str; 2] = ["unlabeled_X.bin", "train_X.bin"];

/// Returns the folder with the training files: `path` itself or the official folder in it.
pub fn locate(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.join("stl10_binary")]
        .into_iter()
        .find(|folder| TRAIN.iter().any(|file| folder.join(file).is_file()))
}

/// Returns whether `path` is a file with the name of a file of images of the data set.
pub fn is_file_of(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    path.is_file() && (TRAIN.iter().any(|file| name == *file) || name == "test_X.bin")
}

/// Opens one `*_X.bin` file, or a folder. Of a folder, the unlabelled images are for training if they are
/// there, else the labelled ones, and `test_X.bin` is for validation.
///
/// # Errors
/// Returns an error if there is no file of the data set, if a file has a wrong size, or if the labels
/// don't fit the images.
pub(crate) fn open(path: &Path) -> Result<Opened, DataError> {
    let opened = |train, val| Opened {
        train,
        val,
        kind: "STL-10 images",
        decodes: false,
        notes: Vec::new(),
    };
    if path.is_file() {
        return Ok(opened(load(path)?, None));
    }
    let folder = locate(path).ok_or_else(|| DataError::empty(path, LOOKED_FOR))?;
    let train = TRAIN.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let train = train.ok_or_else(|| DataError::empty(path, LOOKED_FOR))?;
    let test = folder.join("test_X.bin");
    let val = test.is_file().then(|| load(&test)).transpose()?;
    Ok(opened(load(&train)?, val))
}

/// Reads one file of images and the labels beside it.
fn load(path: &Path) -> Result<Part, DataError> {
    let mut bytes = Vec::new();
    let images = append_records(path, LAYOUT.record(), &mut bytes)?;
    let labels = labels_beside(path, images)?;
    let names = path.with_file_name("class_names.txt");
    let packed = Packed::new(LAYOUT, bytes, vec![(path.to_owned(), 0)], labels);
    Ok(packed.into_part(class_names(&[names], CLASSES.into())))
}

/// Reads the labels of `NAME_X.bin` from `NAME_y.bin` and counts them from 0. Returns none if there is no
/// such file.
fn labels_beside(path: &Path, images: usize) -> Result<Vec<u32>, DataError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(name) = file.strip_suffix("_X.bin") else {
        return Ok(Vec::new());
    };
    let path = path.with_file_name(format!("{name}_y.bin"));
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let labels = read_file(&path)?;
    if labels.len() != images {
        let expected = format!("{images} (one per image)");
        return Err(DataError::Size { path, expected, found: labels.len() as u64 });
    }
    if let Some(at) = labels.iter().position(|label| !(1..=CLASSES).contains(label)) {
        let problem = format!("label {} of image {at} isn't from 1 to {CLASSES}", labels[at]);
        return Err(DataError::Content { path, problem });
    }
    Ok(labels.into_iter().map(|label| u32::from(label) - 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    /// Images whose red is the number, green the column, blue the row.
    fn images(count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0..count {
            bytes.extend([i as u8; 96 * 96]);
            bytes.extend((0..96 * 96).map(|at| (at / 96) as u8));
            bytes.extend((0..96 * 96).map(|at| (at % 96) as u8));
        }
        bytes
    }

    #[test]
    fn columns_become_rows_and_labels_count_from_0() {
        let dir = tempdir().unwrap();
        let folder = dir.path().join("stl10_binary");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("train_X.bin"), images(3)).unwrap();
        std::fs::write(folder.join("train_y.bin"), [1, 10, 5]).unwrap();
        std::fs::write(folder.join("test_X.bin"), images(2)).unwrap();
        let opened = open(dir.path()).unwrap();
        let source = opened.train.source;
        assert_eq!(source.read(2).unwrap().get_pixel(70, 13).0, [2, 70, 13]);
        assert_eq!((source.label(0), source.label(1)), (Some(0), Some(9)));
        let val = opened.val.unwrap().source;
        assert_eq!((val.len(), val.label(0)), (2, None));
        std::fs::write(folder.join("unlabeled_X.bin"), images(5)).unwrap();
        let train = open(&folder).unwrap().train.source;
        assert_eq!((train.len(), train.label(0)), (5, None));
    }

    #[test]
    fn sizes_and_labels_are_checked() {
        let dir = tempdir().unwrap();
        let file = dir.path().join("train_X.bin");
        std::fs::write(&file, &images(1)[1..]).unwrap();
        let message = |path| open(path).map(|_| ()).unwrap_err().to_string();
        assert!(message(dir.path()).contains("multiple of 27648 bytes, found 27647"));
        std::fs::write(&file, images(2)).unwrap();
        std::fs::write(dir.path().join("train_y.bin"), [1, 2, 3]).unwrap();
        assert!(message(&file).contains("expected 2 (one per image) bytes, found 3"));
        std::fs::write(dir.path().join("train_y.bin"), [1, 0]).unwrap();
        assert!(message(&file).contains("label 0 of image 1"));
    }
}
