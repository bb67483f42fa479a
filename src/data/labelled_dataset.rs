//! Opens data for a classifier: images that all have a label.

use super::split::Subset;
use super::{DataError, Dataset, Source, detect, open, stl};
use crate::config::{DataConfig, DataFormat};
use std::sync::Arc;

/// Opens the data that `config` names and leaves out the images without a label, which a note counts.
///
/// # Errors
/// Returns the errors of [`open`], and an error if no image has a label or if all training images have
/// the same one.
pub fn open_labelled(config: &DataConfig) -> Result<Dataset, DataError> {
    let Dataset { train, val, classes, description, mut notes, val_split_off, cache } =
        open(&with_labels(config)?)?;
    let (kept_train, kept_val) = (labelled_of(&train, &classes), labelled_of(&val, &classes));
    for (part, kept) in [(&train, &kept_train), (&val, &kept_val)] {
        if kept.is_empty() {
            return Err(DataError::Unlabelled { place: part.origin() });
        }
    }
    let mut labels = (0..kept_train.len()).filter_map(|index| kept_train.label(index));
    if let Some(label) = labels.next()
        && labels.all(|other| other == label)
    {
        let class = classes.get(label as usize).cloned().unwrap_or_default();
        return Err(DataError::OneClass { place: train.origin(), class });
    }
    let left_out = train.len() + val.len() - kept_train.len() - kept_val.len();
    notes.extend((left_out > 0).then(|| {
        format!(
            "{left_out} images without label are left out: {} of {} remain for training, {} of {} for validation",
            kept_train.len(),
            train.len(),
            kept_val.len(),
            val.len()
        )
    }));
    let (train, val) = (kept_train, kept_val);
    Ok(Dataset { train, val, classes, description, notes, val_split_off, cache })
}

/// Returns `config` with the labelled files of STL-10. Without them, its training images would be the
/// unlabelled ones.
fn with_labels(config: &DataConfig) -> Result<DataConfig, DataError> {
    let mut config = config.clone();
    let embedded = [DataFormat::Photos, DataFormat::FashionMnistMini].contains(&config.format);
    let Some(path) = config.path.as_ref().filter(|_| !embedded) else {
        return Ok(config);
    };
    if path.is_file() || detect::resolve(config.format, path)? != DataFormat::Stl10 {
        return Ok(config);
    }
    let folder = stl::locate(path);
    let file = |name| folder.as_ref().map(|folder| folder.join(name)).filter(|file| file.is_file());
    if let Some(train) = file("train_X.bin") {
        config.path = Some(train);
        config.val_path = config.val_path.or(file("test_X.bin"));
    }
    Ok(config)
}

/// Returns the images of a source that have a label of `classes`.
fn labelled_of(source: &Source, classes: &[String]) -> Source {
    let has = |index: &usize| source.label(*index).is_some_and(|l| (l as usize) < classes.len());
    if (0..source.len()).all(|index| has(&index)) {
        return Arc::clone(source);
    }
    Arc::new(Subset::of(source, (0..source.len()).filter(has)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use tempfile::tempdir;

    fn picture(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(4, 4).save(path).unwrap();
    }

    fn config(path: &Path) -> DataConfig {
        DataConfig { path: Some(path.to_owned()), ..DataConfig::default() }
    }

    fn error(path: &Path) -> String {
        open_labelled(&config(path)).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn images_without_label_are_left_out_and_told() {
        let dir = tempdir().unwrap();
        for name in ["train/a/1.png", "train/b/1.png", "train/b/2.png", "train/loose.png"] {
            picture(&dir.path().join(name));
        }
        for name in ["val/a/1.png", "val/b/1.png"] {
            picture(&dir.path().join(name));
        }
        let data = open_labelled(&config(dir.path())).unwrap();
        let labels = |source: &Source| -> Vec<Option<u32>> {
            (0..source.len()).map(|index| source.label(index)).collect()
        };
        assert_eq!(labels(&data.train), [Some(0), Some(1), Some(1)]);
        assert_eq!(labels(&data.val), [Some(0), Some(1)]);
        let notice = &data.notes[0];
        assert!(notice.contains("1 images without label") && notice.contains("3 of 4"), "{notice}");
    }

    #[test]
    fn no_labels_and_one_class_are_errors_that_say_what_to_do() {
        let dir = tempdir().unwrap();
        picture(&dir.path().join("1.png"));
        picture(&dir.path().join("2.png"));
        let text = error(dir.path());
        assert!(text.contains("no labels") && text.contains("a folder for each class"), "{text}");
        let dir = tempdir().unwrap();
        picture(&dir.path().join("cat/1.png"));
        picture(&dir.path().join("cat/2.png"));
        let text = error(dir.path());
        assert!(text.contains("\"cat\"") && text.contains("two classes"), "{text}");
    }

    #[test]
    fn of_stl10_the_labelled_images_are_taken() {
        let dir = tempdir().unwrap();
        let bytes = |images: usize| vec![7; images * 3 * 96 * 96];
        fs::write(dir.path().join("unlabeled_X.bin"), bytes(5)).unwrap();
        fs::write(dir.path().join("train_X.bin"), bytes(3)).unwrap();
        fs::write(dir.path().join("train_y.bin"), [1, 2, 1]).unwrap();
        fs::write(dir.path().join("test_X.bin"), bytes(2)).unwrap();
        assert!(error(dir.path()).contains("no labels"), "the test set has none yet");
        fs::write(dir.path().join("test_y.bin"), [2, 1]).unwrap();
        let data = open_labelled(&config(dir.path())).unwrap();
        assert_eq!((data.train.len(), data.val.len(), data.notes.len()), (3, 2, 0));
        assert_eq!(data.train.label(1), Some(1));
    }

    #[test]
    fn the_photos_inside_have_classes() {
        let data = open_labelled(&DataConfig::default()).unwrap();
        assert!(data.classes.len() > 2 && data.notes.is_empty());
    }
}
