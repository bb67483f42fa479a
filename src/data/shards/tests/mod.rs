use super::*;
use crate::data::Source;
use crate::data::fixtures::{encode, pattern};
use image::ImageFormat::Png;
use std::fs;
use tar::{EntryType, Header};
use tempfile::{TempDir, tempdir};

/// What each kind of damage costs, and what is said of it.
mod damage;
/// The list of images is kept, and made again when it must be.
mod kept;
/// Which classes labels stand for.
mod labels;
/// Batches are those of a folder, wherever they begin.
mod same;
/// Which shards are found, and which are for validation.
mod which;

/// An archive in memory.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    /// Appends a member with a header that `change` has changed.
    fn member(mut self, name: &str, content: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(EntryType::Regular);
        change(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(name, content, |_| {})
    }

    fn image(self, name: &str, number: u8) -> Self {
        self.file(name, &png(number))
    }

    fn whole(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    fn write(self, path: &Path) {
        write(path, &self.whole());
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An image whose first pixel tells its number.
fn png(number: u8) -> Vec<u8> {
    encode(&pattern(9, 7, number).into(), Png)
}

/// A folder for shards, with another one for what is kept of them.
struct Place {
    data: TempDir,
    kept: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { data: tempdir().unwrap(), kept: tempdir().unwrap() }
    }

    /// A place with one shard.
    fn with(archive: &[u8]) -> Self {
        let place = Self::new();
        write(&place.at("a.tar"), archive);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn open_at(&self, name: &str) -> Result<Opened, DataError> {
        open_with(&self.at(name), TruncatedImages::Skip, &KeptIndices::in_folder(self.kept.path()))
    }

    fn open(&self) -> Opened {
        self.open_at("").unwrap()
    }

    fn error(&self, name: &str) -> String {
        self.open_at(name).map(|_| ()).unwrap_err().to_string()
    }
}

fn keys(source: &Source) -> Vec<String> {
    (0..source.len()).map(|index| source.key(index)).collect()
}

/// The numbers of the images, as their pixels tell them; `None` for those that can't be read.
fn numbers(source: &Source) -> Vec<Option<u8>> {
    let number = |index| source.read(index).ok().map(|image| image.get_pixel(0, 0).0[2]);
    (0..source.len()).map(number).collect()
}

/// The names of the images' classes.
fn classes(part: &Part) -> Vec<Option<&str>> {
    let class = |index| Some(part.classes[part.source.label(index)? as usize].as_str());
    (0..part.source.len()).map(class).collect()
}

#[test]
fn shards_of_python_of_gnu_tar_and_of_webdataset_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shards");
    let kept = tempdir().unwrap();
    let long = format!(
        "{}/{}",
        "a-folder-with-a-name-of-some-length-".repeat(2),
        "and-a-file-of-some-length-".repeat(3)
    );
    let longer = format!("deep/{}x", "a-name-of-many-letters/".repeat(14));
    let left_out = ["1 links are left out", "1 sparse files are left out"];
    for (file, order, left_out) in [
        ("python-ustar.tar", vec![0, 1, 2, 3], None),
        ("python-gnu.tar", vec![0, 1, 2, 3, 4], None),
        ("python-pax.tar", vec![0, 1, 2, 3, 4], None),
        ("gnu-gnu.tar", vec![2, 3, 4, 1, 0], Some(left_out)),
        ("gnu-posix.tar", vec![2, 3, 4, 1, 0], Some(left_out)),
        ("webdataset.tar", vec![0, 1, 2, 3], None),
    ] {
        let opened = open_with(
            &folder.join(file),
            TruncatedImages::Skip,
            &KeptIndices::in_folder(kept.path()),
        )
        .unwrap();
        let source = &opened.train.source;
        let name = |number: usize| match (file, number) {
            ("webdataset.tar", number) => format!("sub/{number:05}.png"),
            (_, 0) => "plain.png".to_owned(),
            (_, 1) => "dotted/b.PNG".to_owned(),
            (_, 2) => format!("{long}.png"),
            ("python-ustar.tar", _) => "cafe.png".to_owned(),
            (_, 3) => "café.png".to_owned(),
            _ => format!("{longer}.png"),
        };
        let expected: Vec<_> = order.iter().map(|&number| name(number)).collect();
        assert_eq!(keys(source), expected, "{file}");
        let expected: Vec<_> = order.iter().map(|number| ["0", "1", "2"][number % 3]).collect();
        let found: Vec<_> = classes(&opened.train).into_iter().flatten().collect();
        assert_eq!(found, expected, "{file}");
        for (index, &number) in order.iter().enumerate() {
            let image = source.read(index).unwrap();
            let number = number as u8;
            assert_eq!(image.dimensions(), (6, 5));
            assert_eq!(image.get_pixel(5, 4).0, [10 * number, 20 * number, number], "{file}");
        }
        let notes = opened.notes.join("\n");
        match left_out {
            None => assert_eq!(notes, "", "{file}"),
            Some([links, sparse]) => {
                assert!(notes.contains("2 links") || notes.contains(links), "{file}: {notes}");
                assert!(notes.contains(sparse), "{file}: {notes}");
                assert!(notes.contains("hole.png at offset"), "{file}: {notes}");
            }
        }
    }
}

#[test]
fn an_image_takes_no_more_memory_than_its_name_and_twenty_bytes() {
    let place = Place::new();
    let mut archive = Archive::default();
    for number in 0..200 {
        archive = archive.image(&format!("n01440764/n01440764_{number:05}.JPEG"), 0);
    }
    archive.write(&place.at("a.tar"));
    let indices = KeptIndices::in_folder(place.kept.path());
    let files = [PathBuf::from("a.tar")];
    let listed = list(place.data.path(), &files, &indices).unwrap();
    let images = ShardImages::new(place.data.path(), &files, listed, true);
    let bytes = images.offsets.capacity() * 8
        + (images.sizes.capacity() + images.labels.capacity() + images.name_ends.capacity()) * 4
        + images.shards[0].names.len();
    assert_eq!((images.len(), bytes), (200, 200 * (20 + 30)));
}

#[test]
fn few_files_are_open_however_many_shards_there_are() {
    let place = Place::new();
    for number in 0..40 {
        Archive::default().image("x.png", number).write(&place.at(&format!("{number:02}.tar")));
    }
    let files: Vec<PathBuf> = (0..40).map(|number| format!("{number:02}.tar").into()).collect();
    let indices = KeptIndices::in_folder(place.kept.path());
    let listed = list(place.data.path(), &files, &indices).unwrap();
    let mut images = ShardImages::new(place.data.path(), &files, listed, true);
    images.files = OpenShards::with_room_for(40, 5);
    for round in 0..3 {
        for number in (0..40).step_by(1 + round) {
            assert_eq!(images.encoded(number).unwrap(), png(number as u8));
        }
        assert_eq!(images.files.open_now(), 5);
    }
}
