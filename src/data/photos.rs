//! The CC0 photos that are embedded in the binary, so that a run needs no download.

use super::decode::decode;
use super::{ImageError, ImageSource, Opened, Part};
use image::RgbImage;
use include_dir::{Dir, include_dir};
use std::collections::BTreeSet;
use std::sync::Arc;

static PHOTOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/photos-cc0");

/// The embedded photos of `train/` or `val/`.
pub struct Photos {
    /// Path in the assets, encoded bytes and class of each photo.
    photos: Vec<(&'static str, &'static [u8], u32)>,
}

/// Opens both parts. The names of the classes are those of the folders.
pub(crate) fn open() -> Opened {
    let part = |name: &str| {
        let mut found: Vec<(&'static str, &'static str, &'static [u8])> = Vec::new();
        for class in PHOTOS.get_dir(name).into_iter().flat_map(Dir::dirs) {
            let label = class.path().file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let files =
                class.files().filter_map(|file| Some((file.path().to_str()?, file.contents())));
            found.extend(files.map(|(path, bytes)| (path, label, bytes)));
        }
        found.sort_unstable_by_key(|&(path, ..)| path);
        let classes: Vec<&str> =
            found.iter().map(|&(_, label, _)| label).collect::<BTreeSet<_>>().into_iter().collect();
        let number =
            |label: &str| classes.iter().take_while(|class| **class < label).count() as u32;
        let photos =
            found.iter().map(|&(path, label, bytes)| (path, bytes, number(label))).collect();
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Part { source: Arc::new(Photos { photos }), classes }
    };
    Opened {
        train: part("train"),
        val: Some(part("val")),
        kind: "CC0 photos",
        decodes: true,
        notes: Vec::new(),
    }
}

impl ImageSource for Photos {
    fn len(&self) -> usize {
        self.photos.len()
    }

    fn name(&self, index: usize) -> String {
        match self.photos.get(index) {
            Some((path, ..)) => format!("embedded/{path}"),
            None => format!("embedded#{index}"),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.photos.get(index).map(|&(_, _, label)| label)
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        let image = match self.photos.get(index) {
            Some((_, bytes, _)) => decode(bytes),
            None => Err("there is no such image".to_owned()),
        };
        image.map(Arc::new).map_err(|reason| ImageError::new(self.name(index), reason))
    }

    fn encoded(&self, index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        self.photos.get(index).map(|&(_, bytes, _)| Ok(bytes.to_vec()))
    }

    fn origin(&self) -> String {
        "the embedded photos".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_photo_decodes_and_both_parts_share_the_classes() {
        let opened = open();
        let val = opened.val.unwrap();
        assert_eq!((opened.train.source.len(), val.source.len()), (171, 44));
        assert_eq!(opened.train.classes, val.classes);
        assert!(opened.train.classes.len() > 1);
        for source in [&opened.train.source, &val.source] {
            for index in 0..source.len() {
                let image = source.read(index).unwrap();
                assert!(image.width() > 64 && image.height() > 64, "{}", source.name(index));
                let class = &val.classes[source.label(index).unwrap() as usize];
                assert!(source.name(index).contains(&format!("/{class}/")));
            }
        }
    }
}
