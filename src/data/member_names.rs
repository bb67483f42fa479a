//! Names of images in tar shards. WebDataset takes what stands before the first dot of the base name as the key of a
//! sample, so this part must differ from sample to sample.

use super::Source;
use super::repack::StoredFormat;
use crate::shown;
use rayon::prelude::*;
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_64;

/// Endings of images that are no part of a sample's key.
const ENDINGS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"];
/// Stands before the number of an image whose key another one has, and nowhere else.
const MARK: char = '~';

/// Which keys of a part several images would have.
pub(crate) struct MemberNames {
    /// Hashes of these keys. A key that has one by chance only gets a number that it doesn't need.
    shared: HashSet<u64>,
}

impl MemberNames {
    /// Looks at the keys of all images.
    pub fn of(source: &Source) -> Self {
        let hash = |index| xxh3_64(stem(&source.key(index)).as_bytes());
        let mut hashes: Vec<u64> = (0..source.len()).into_par_iter().map(hash).collect();
        hashes.par_sort_unstable();
        let shared = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        Self { shared: shared.collect() }
    }

    /// Returns the key of a sample, and the ending of its image. The ending of the source is kept if it is one of the
    /// format, so that a file keeps its name.
    pub fn name(&self, source: &Source, index: usize, format: StoredFormat) -> (String, String) {
        let key = source.key(index);
        let mut stem = stem(&key);
        if self.shared.contains(&xxh3_64(stem.as_bytes())) {
            stem = format!("{stem}{MARK}{index:08}");
        }
        let own = split_ending(&key).1.filter(|ending| format.has_ending(ending));
        (stem, own.unwrap_or(format.ending()).to_owned())
    }
}

/// Divides a key into what stands before the ending of an image file, and the ending.
fn split_ending(key: &str) -> (&str, Option<&str>) {
    match key.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) => {
            (stem, Some(ending))
        }
        _ => (key, None),
    }
}

/// Returns the key of a sample for the key of an image: a relative path without a dot in its base name.
fn stem(key: &str) -> String {
    let plain = |c: char| if shown::is_hostile(c) || "\\\u{fffd}~".contains(c) { '_' } else { c };
    let numbered = numbered(key);
    let key = numbered.as_deref().unwrap_or(split_ending(key).0);
    let mut parts: Vec<String> = key
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| if part == ".." { "_".to_owned() } else { part.chars().map(plain).collect() })
        .collect();
    let base = parts.pop().unwrap_or_else(|| "image".to_owned());
    // WebDataset passes over members whose name begins so.
    if let Some(first) = parts.first_mut()
        && first.len() >= 4
        && first.starts_with("__")
        && first.ends_with("__")
    {
        first.replace_range(..1, "-");
    }
    parts.push(base.replace('.', "_"));
    parts.join("/")
}

/// Returns the key of an image of a binary file, `file#17`, with zeros before its number: in the order of names it is in
/// the order of the file.
fn numbered(key: &str) -> Option<String> {
    let (file, number) = key.rsplit_once('#')?;
    Some(format!("{file}-{:08}", number.parse::<u64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ImageError, ImageSource};
    use image::RgbImage;
    use std::sync::Arc;

    struct Keyed(&'static [&'static str]);

    impl ImageSource for Keyed {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn name(&self, index: usize) -> String {
            format!("name of {}", self.0[index])
        }
        fn key(&self, index: usize) -> String {
            self.0[index].to_owned()
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
            Err(ImageError::new(self.name(index), "no pixels"))
        }
    }

    #[test]
    fn a_plain_name_stays_and_an_odd_one_becomes_a_key() {
        for (key, expected) in [
            ("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
            ("v1.5/a.b.jpg", "v1.5/a_b"),
            ("a/no ending", "a/no ending"),
            ("a/x.txt", "a/x_txt"),
            ("data_batch_1.bin#17", "data_batch_1_bin-00000017"),
            ("odd\u{fffd}\n~\\/b~.png", "odd____/b_"),
            ("/etc/../x.png", "etc/_/x"),
            ("./é/ü.webp", "é/ü"),
            ("__MACOSX__/1.png", "-_MACOSX__/1"),
            (".png", "image"),
            (".hidden.png", "_hidden"),
        ] {
            assert_eq!(stem(key), expected, "{key}");
        }
    }

    #[test]
    fn no_two_images_have_one_key_and_endings_follow_the_content() {
        let keys =
            ["a/1.jpg", "a/1.JPEG", "a/1_2.jpg", "a/1.2.jpg", "a/3.JPEG", "a/4.jpg", "5.bmp"];
        let source: Source = Arc::new(Keyed(Box::leak(Box::new(keys))));
        let names = MemberNames::of(&source);
        let name = |index, format| {
            let (key, ending) = names.name(&source, index, format);
            format!("{key}.{ending}")
        };
        let jpeg: Vec<String> = (0..7).map(|index| name(index, StoredFormat::Jpeg)).collect();
        let expected = [
            "a/1~00000000.jpg",
            "a/1~00000001.JPEG",
            "a/1_2~00000002.jpg",
            "a/1_2~00000003.jpg",
            "a/3.JPEG",
            "a/4.jpg",
            "5.jpg",
        ];
        assert_eq!(jpeg, expected);
        assert_eq!(name(5, StoredFormat::Png), "a/4.png");
    }
}
