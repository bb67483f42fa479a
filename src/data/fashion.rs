//! The part of Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747) that is embedded in the binary: labelled images for
//! evaluations, without a download.

use super::{DataError, Opened, Part, idx};
use include_dir::{Dir, include_dir};
use std::path::Path;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/fashion-mnist-mini");

/// Names of the classes 0 to 9.
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Opens the first 5000 training and the first 1000 test images, 28 × 28 pixels in grey.
///
/// # Errors
/// Returns an error if the embedded files are damaged, which a test rules out.
pub(crate) fn open() -> Result<Opened, DataError> {
    let part = |name: &str| -> Result<Part, DataError> {
        let bytes = |what: &str| {
            let file = FILES.get_file(format!("{name}-{what}-ubyte.gz"));
            file.map(include_dir::File::contents).unwrap_or_default()
        };
        let place = format!("fashion-mnist-mini/{name}");
        let part = idx::parse(bytes("images-idx3"), bytes("labels-idx1"), Path::new(&place))?;
        Ok(Part { classes: CLASSES.map(str::to_owned).to_vec(), ..part })
    };
    let kind = "Fashion-MNIST images";
    Ok(Opened {
        train: part("train")?,
        val: Some(part("t10k")?),
        kind,
        decodes: false,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_images_are_whole_and_every_class_is_there() {
        let opened = open().unwrap();
        let val = opened.val.unwrap();
        for (part, images) in [(&opened.train, 5000), (&val, 1000)] {
            assert_eq!((part.source.len(), part.classes.len()), (images, 10));
            let mut seen = [0; 10];
            (0..images).for_each(|i| seen[part.source.label(i).unwrap() as usize] += 1);
            assert!(seen.iter().all(|&count| count * 20 > images), "{seen:?}");
        }
        assert_eq!(val.source.name(3), "fashion-mnist-mini/t10k#3");
        assert_eq!(val.source.read(0).unwrap().dimensions(), (28, 28));
        assert_eq!(val.classes[val.source.label(0).unwrap() as usize], "Ankle boot");
    }
}
