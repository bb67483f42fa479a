//! Reads the binary version of CIFAR-10 and CIFAR-100: records of label bytes and three planes of 32x32.

use super::packed::{Packed, PackedPixels, RecordLayout, append_records, class_names};
use super::{DataError, Opened, Part};
use std::path::{Path, PathBuf};

/// What distinguishes the two data sets.
#[derive(Debug)]
pub struct CifarKind {
    title: &'static str,
    /// The folder that the official archive unpacks to.
    folder: &'static str,
    /// Names of the training files.
    train: &'static [&'static str],
    /// Name of the test file.
    test: &'static str,
    /// Name of the file with the names of the classes, one a line.
    names: &'static str,
    /// Label bytes per record. The last one is the class.
    labels: usize,
    classes: usize,
    /// The files, for the message when there are none.
    looked_for: &'static str,
}

pub const CIFAR10: CifarKind = CifarKind {
    title: "CIFAR-10 images",
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    labels: 1,
    classes: 10,
    looked_for: "data_batch_*.bin (CIFAR-10 binary version), there or in cifar-10-batches-bin/",
};

pub const CIFAR100: CifarKind = CifarKind {
    title: "CIFAR-100 images",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    labels: 2,
    classes: 100,
    looked_for: "train.bin (CIFAR-100 binary version), there or in cifar-100-binary/",
};

/// Returns the folder with the training files: `path` itself or the official folder in it.
pub fn locate(path: &Path, kind: &CifarKind) -> Option<PathBuf> {
    [path.to_owned(), path.join(kind.folder)]
        .into_iter()
        .find(|folder| kind.train.iter().any(|file| folder.join(file).is_file()))
}

/// Returns whether `path` is a file with the name of a file of the data set.
pub fn is_file_of(path: &Path, kind: &CifarKind) -> bool {
    let name = path.file_name().unwrap_or_default();
    path.is_file() && (kind.train.iter().any(|file| name == *file) || name == kind.test)
}

/// Opens one file, or a folder with the training batches and the test set as far as they are there.
///
/// # Errors
/// Returns an error if there is no file of the data set, if a file has a wrong size, or if it holds a
/// label that the data set doesn't have.
pub(crate) fn open(path: &Path, kind: &'static CifarKind) -> Result<Opened, DataError> {
    let opened =
        |train, val| Opened { train, val, kind: kind.title, decodes: false, notes: Vec::new() };
    if path.is_file() {
        return Ok(opened(load(&[path.to_owned()], kind)?, None));
    }
    let folder = locate(path, kind).ok_or_else(|| DataError::empty(path, kind.looked_for))?;
    let present = |name: &&str| folder.join(name).is_file();
    let train: Vec<PathBuf> =
        kind.train.iter().copied().filter(present).map(|name| folder.join(name)).collect();
    let test = present(&kind.test).then(|| load(&[folder.join(kind.test)], kind)).transpose()?;
    Ok(opened(load(&train, kind)?, test))
}

/// Reads some files of the data set as one part.
fn load(paths: &[PathBuf], kind: &CifarKind) -> Result<Part, DataError> {
    let layout =
        RecordLayout { width: 32, height: 32, before: kind.labels, pixels: PackedPixels::Planes };
    let (mut bytes, mut files, mut images) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        files.push((path.clone(), images));
        images += append_records(path, layout.record(), &mut bytes)?;
    }
    let labels: Vec<u32> = bytes
        .chunks_exact(layout.record())
        .filter_map(|record| record.get(kind.labels - 1).copied().map(u32::from))
        .collect();
    let packed_files = files.clone();
    if let Some(at) = labels.iter().position(|&label| label as usize >= kind.classes) {
        let (path, first) =
            files.into_iter().rev().find(|(_, first)| *first <= at).unwrap_or_default();
        let problem = format!(
            "record {} has the label {}, but {} has {} classes",
            at - first,
            labels[at],
            kind.title,
            kind.classes
        );
        return Err(DataError::Content { path, problem });
    }
    let names: Vec<PathBuf> =
        paths.iter().filter_map(|path| Some(path.parent()?.join(kind.names))).collect();
    Ok(Packed::new(layout, bytes, packed_files, labels)
        .into_part(class_names(&names, kind.classes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    /// `count` records: label bytes `i % 10`, then red = i, green = column, blue = row.
    fn records(count: usize, labels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0..count {
            bytes.extend(vec![(i % 10) as u8; labels]);
            bytes.extend([i as u8; 1024]);
            bytes.extend((0..1024).map(|at| (at % 32) as u8));
            bytes.extend((0..1024).map(|at| (at / 32) as u8));
        }
        bytes
    }

    #[test]
    fn cifar_10_is_found_in_the_parent_folder_too() {
        let dir = tempdir().unwrap();
        let folder = dir.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("data_batch_1.bin"), records(3, 1)).unwrap();
        std::fs::write(folder.join("data_batch_2.bin"), records(4, 1)).unwrap();
        std::fs::write(folder.join("test_batch.bin"), records(2, 1)).unwrap();
        std::fs::write(folder.join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")
            .unwrap();
        for path in [dir.path(), &folder] {
            let opened = open(path, &CIFAR10).unwrap();
            assert_eq!((opened.train.source.len(), opened.val.unwrap().source.len()), (7, 2));
            assert_eq!(opened.train.classes[9], "j");
            assert_eq!(opened.train.source.label(6), Some(3));
            assert!(opened.train.source.name(4).ends_with("data_batch_2.bin#1"));
            let image = opened.train.source.read(5).unwrap();
            assert_eq!(image.get_pixel(30, 11).0, [2, 30, 11]);
        }
    }

    #[test]
    fn cifar_100_has_the_fine_label() {
        let dir = tempdir().unwrap();
        let mut bytes = records(2, 2);
        bytes[0] = 19;
        bytes[1] = 99;
        std::fs::write(dir.path().join("train.bin"), bytes).unwrap();
        let opened = open(dir.path(), &CIFAR100).unwrap();
        assert_eq!(opened.train.source.label(0), Some(99));
        assert_eq!(opened.train.source.read(1).unwrap().get_pixel(3, 4).0, [1, 3, 4]);
        assert!(opened.val.is_none());
    }

    #[test]
    fn a_truncated_batch_says_expected_and_found_sizes() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("data_batch_1.bin");
        std::fs::write(&path, &records(2, 1)[..5000]).unwrap();
        let message = open(dir.path(), &CIFAR10).map(|_| ()).unwrap_err().to_string();
        for part in ["data_batch_1.bin", "multiple of 3073", "found 5000"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn an_impossible_label_is_an_error() {
        let dir = tempdir().unwrap();
        let mut bytes = records(3, 1);
        bytes[3073] = 200;
        let path = dir.path().join("test_batch.bin");
        std::fs::write(&path, bytes).unwrap();
        let message = open(&path, &CIFAR10).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("record 1 has the label 200"), "{message}");
    }

    #[test]
    fn a_folder_without_batches_says_what_was_looked_for() {
        let dir = tempdir().unwrap();
        let message = open(dir.path(), &CIFAR10).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("data_batch_*.bin"), "{message}");
    }
}
