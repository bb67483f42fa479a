use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

/// The files of the indices with their content.
fn kept(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(place.kept.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn archive() -> Archive {
    Archive::default().image("a.png", 1).file("a.cls", b"7").image("b.png", 2)
}

#[test]
fn a_shard_is_listed_once_and_again_when_it_changes() {
    let place = Place::with(&archive().whole());
    assert_eq!(keys(&place.open().train.source).len(), 2);
    let before = kept(&place);
    assert_eq!(before.len(), 1);
    let (file, bytes) = before.first_key_value().unwrap();
    let inode = fs::metadata(file).unwrap().ino();
    place.open();
    assert_eq!(fs::metadata(file).unwrap().ino(), inode, "it wasn't written again");
    archive().image("c.png", 3).write(&place.at("a.tar"));
    assert_eq!(numbers(&place.open().train.source), [Some(1), Some(2), Some(3)]);
    assert_ne!(kept(&place)[file], *bytes);
    // A change that leaves the size and the time of the last change of the content.
    let modified = fs::metadata(place.at("a.tar")).unwrap().modified().unwrap();
    archive().image("d.png", 3).write(&place.at("a.tar"));
    fs::File::options()
        .write(true)
        .open(place.at("a.tar"))
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_eq!(keys(&place.open().train.source)[2], "d.png");
}

#[test]
fn a_damaged_or_foreign_index_is_made_again() {
    let place = Place::with(&archive().whole());
    let opened = place.open();
    let before = kept(&place);
    let (file, sound) = before.first_key_value().unwrap();
    let middle = sound.len() / 2;
    let other = Place::with(&Archive::default().image("z.png", 9).whole());
    other.open();
    let foreign = kept(&other).into_values().next().unwrap();
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    for bytes in [
        Vec::new(),
        b"SIMTAR01".to_vec(),
        b"another program's file".to_vec(),
        sound[..middle].to_vec(),
        flipped(0),
        flipped(7),
        flipped(9),
        flipped(middle),
        flipped(sound.len() - 1),
        foreign,
    ] {
        fs::write(file, bytes).unwrap();
        let again = place.open();
        assert_eq!(keys(&again.train.source), keys(&opened.train.source));
        assert_eq!(classes(&again.train), [Some("7"), None]);
        assert_eq!(kept(&place), before);
    }
}

#[test]
fn without_a_folder_for_it_nothing_is_kept_and_all_else_works() {
    let place = Place::with(&archive().whole());
    let file = place.at("file");
    fs::write(&file, "no folder").unwrap();
    for folder in [file.as_path(), Path::new("/proc/none")] {
        let opened = open_with(
            &place.at("a.tar"),
            TruncatedImages::Skip,
            &KeptIndices::in_folder(&folder.join("below")),
        );
        assert_eq!(numbers(&opened.unwrap().train.source), [Some(1), Some(2)]);
    }
    assert!(kept(&place).is_empty());
}

#[test]
fn what_is_kept_has_what_was_listed() {
    let (place, index) = (
        Place::with(&archive().whole()),
        ShardIndex {
            offsets: vec![512, 1 << 40],
            sizes: vec![7, u32::MAX],
            labels: vec![NO_LABEL, 0],
            name_ends: vec![3, 5],
            names: b"a\xff.xy".to_vec(),
            texts: vec![("cat\n".to_owned(), true)],
            remarks: Remarks {
                damages: vec![(5, "text".to_owned())],
                more_damages: 1,
                counts: [("what".to_owned(), (3, "example".to_owned()))].into(),
                kinds: [("npy".to_owned(), 2)].into(),
                captions: 4,
            },
        },
    );
    let indices = KeptIndices::in_folder(place.kept.path());
    let path = place.at("a.tar");
    let stamp = ShardStamp::of(&path, &fs::metadata(&path).unwrap());
    assert_eq!(indices.load(&stamp), None);
    indices.store(&stamp, &index);
    assert_eq!(indices.load(&stamp), Some(index));
}
