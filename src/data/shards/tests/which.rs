use super::*;
use crate::config::DataFormat;
use crate::data::detect::resolve;

/// Writes shards of one image each, with the number of their place.
fn shards(names: &[&str]) -> Place {
    let place = Place::new();
    for (number, name) in names.iter().enumerate() {
        Archive::default().image("x.png", number as u8).write(&place.at(name));
    }
    place
}

/// The shards of both parts, and the notes.
fn parts(place: &Place, path: &str) -> (Vec<String>, Option<Vec<String>>, Vec<String>) {
    let shards = |part: Part| -> Vec<String> {
        keys(&part.source).iter().map(|key| key.trim_end_matches("/x.png").to_owned()).collect()
    };
    let Opened { train, val, notes, .. } = place.open_at(path).unwrap();
    (shards(train), val.map(shards), notes)
}

/// Shards, those for training and for validation, and how the note ends about others.
type DividedCase = (
    &'static [&'static str],
    &'static [&'static str],
    Option<&'static [&'static str]>,
    Option<&'static str>,
);

#[test]
fn names_say_which_shards_are_for_validation() {
    let cases: [DividedCase; 8] = [
        (
            &["train-0.tar", "train-1.tar", "val-0.tar"],
            &["train-0.tar", "train-1.tar"],
            Some(&["val-0.tar"]),
            None,
        ),
        (
            &["imagenet1k-train-0.tar", "imagenet1k-validation-00.tar"],
            &["imagenet1k-train-0.tar"],
            Some(&["imagenet1k-validation-00.tar"]),
            None,
        ),
        (
            &["train/0.tar", "val/0.tar", "test/0.tar"],
            &["train/0.tar"],
            Some(&["val/0.tar"]),
            Some("test/0.tar"),
        ),
        (&["Train/deep/0.tar", "Valid/0.tar"], &["Train/deep/0.tar"], Some(&["Valid/0.tar"]), None),
        (&["data-0.tar", "data-1.tar"], &["data-0.tar", "data-1.tar"], None, None),
        (&["0.tar", "test-0.tar"], &["0.tar"], Some(&["test-0.tar"]), None),
        (&["val-0.tar", "val-1.tar"], &["val-0.tar", "val-1.tar"], None, None),
        (
            &["train-0.tar", "extra.tar", "val.tar"],
            &["train-0.tar"],
            Some(&["val.tar"]),
            Some("extra.tar"),
        ),
    ];
    for (names, train, val, left_out) in cases {
        let place = shards(names);
        let (found_train, found_val, notes) = parts(&place, "");
        assert_eq!(found_train, train);
        assert_eq!(
            found_val.as_deref(),
            val.map(|val| val.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).as_deref()
        );
        assert_eq!(notes.len(), usize::from(left_out.is_some()), "{notes:?}");
        assert!(notes.iter().all(|note| note.ends_with(left_out.unwrap_or_default())), "{notes:?}");
    }
}

#[test]
fn patterns_stand_for_their_shards_in_their_order() {
    let names = [
        "train-08.tar",
        "train-09.tar",
        "train-10.tar",
        "val-0.tar",
        "more/a/0.tar",
        "more/b/0.tar",
    ];
    let place = shards(&names);
    let numbers = |path: &str| -> Vec<u8> {
        let source = place.open_at(path).unwrap().train.source;
        self::numbers(&source).into_iter().flatten().collect()
    };
    assert_eq!(numbers("train-{08..10}.tar"), [0, 1, 2]);
    assert_eq!(numbers("train-{10..08}.tar"), [2, 1, 0]);
    assert_eq!(numbers("{train-09,val-0}.tar"), [1]);
    assert_eq!(numbers("more/{b,a}/{0..0}.tar"), [5, 4]);
    assert_eq!(numbers("more/{a,b}"), [4, 5]);
    assert_eq!(numbers("train-09.tar"), [1]);
    let (_, val, _) = parts(&place, "{train-{08..10},val-0}.tar");
    assert_eq!(val.unwrap(), ["val-0.tar"]);
    let source = place.open_at("more/{b,a}/{0..0}.tar").unwrap().train.source;
    assert_eq!(keys(&source), ["b/0.tar/x.png", "a/0.tar/x.png"], "two images have one name");
}

#[test]
fn missing_shards_are_one_error_that_names_them() {
    let place = shards(&["t-000.tar", "t-003.tar"]);
    let error = place.error("t-{000..003}.tar");
    assert!(error.starts_with("2 of the 4 shards of ") && error.lines().count() == 1, "{error}");
    assert!(error.contains("t-001.tar, ") && error.contains("t-002.tar; "), "{error}");
    let error = place.error("none-{000..999}.tar");
    assert!(error.starts_with("1000 of the 1000 shards"), "{error}");
    assert!(error.contains("none-004.tar, 995 more;"), "{error}");
    let error = place.error("one.tar");
    assert!(error.starts_with("no such file or folder") && error.contains("one.tar"), "{error}");
}

#[test]
fn shards_are_told_from_other_data() {
    let place = shards(&[
        "plain/a.tar",
        "deep/set/train/0.tar",
        "deep/set/val/0.tar",
        "beside/a.tar",
        "kept/a.tar",
    ]);
    let format = |path: &str| resolve(DataFormat::Auto, &place.at(path)).unwrap();
    fs::write(place.at("beside/example.png"), png(1)).unwrap();
    for number in 0..3 {
        write(&place.at(&format!("kept/images/{number}.png")), &png(1));
        write(&place.at(&format!("images/{number}.png")), &png(1));
        write(&place.at(&format!("loose/{number}.png")), &png(1));
    }
    Archive::default().image("x.png", 1).write(&place.at("loose/images/a.tar"));
    fs::copy(place.at("plain/a.tar"), place.at("without-ending")).unwrap();
    write(&place.at("packed/a.tar.gz"), b"\x1f\x8b");
    fs::create_dir(place.at("empty")).unwrap();
    for path in [
        "plain",
        "plain/a.tar",
        "deep",
        "deep/set/train",
        "beside",
        "without-ending",
        "packed",
        "{a,b}.tar",
    ] {
        assert_eq!(format(path), DataFormat::Tar, "{path}");
    }
    for path in ["kept", "images", "loose", "empty"] {
        assert_eq!(format(path), DataFormat::Folder, "{path}");
    }
    let notes = place.open_at("beside").unwrap().notes;
    assert_eq!(notes, ["beside the tar shards, left out: 1 image files"]);
    assert!(place.error("images").contains("looked for tar shards (.tar)"));
}

#[test]
fn a_path_with_braces_that_is_there_is_no_pattern() {
    let place = shards(&["{a,b}.tar", "a.tar", "b.tar", "{c,d}/0.tar"]);
    for (path, number) in [("{a,b}.tar", 0), ("{c,d}", 3)] {
        let source = place.open_at(path).unwrap().train.source;
        assert_eq!(numbers(&source), [Some(number)], "{path}");
    }
}
