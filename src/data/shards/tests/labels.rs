use super::*;

/// Opens an archive of images `0.png`, `1.png` … with the other members that `labels` gives, and a classes.txt.
fn opened(labels: &[(&str, &str)], names: Option<&str>) -> Opened {
    let mut archive = Archive::default();
    let numbers: Vec<&str> =
        labels.iter().map(|(name, _)| name.split('.').next().unwrap()).collect();
    for (place, (name, content)) in labels.iter().enumerate() {
        if !numbers[..place].contains(&numbers[place]) {
            archive = archive.image(&format!("{}.png", numbers[place]), 0);
        }
        archive = archive.file(name, content.as_bytes());
    }
    let place = Place::with(&archive.whole());
    if let Some(names) = names {
        fs::write(place.at("classes.txt"), names).unwrap();
    }
    place.open()
}

#[test]
fn numbers_are_classes_in_their_order() {
    let labels =
        [("0.cls", "10"), ("1.cls", "9\n"), ("2.cls", "007"), ("3.cls", "-1"), ("4.cls", "")];
    let opened = opened(&labels, None);
    assert_eq!(opened.train.classes, ["7", "9", "10"]);
    assert_eq!(classes(&opened.train), [Some("10"), Some("9"), Some("7"), None, None]);
    assert!(opened.notes.join("\n").contains("1 .cls members are no number or name"));
}

#[test]
fn texts_are_classes_too_and_one_text_makes_all_of_them_texts() {
    let labels =
        [("0.cls", "dog"), ("1.json", r#"{"label": "cat"}"#), ("2.json", r#"{"class": 3}"#)];
    let opened = opened(&labels, None);
    assert_eq!(opened.train.classes, ["3", "cat", "dog"]);
    assert_eq!(classes(&opened.train), [Some("dog"), Some("cat"), Some("3")]);
    assert_eq!(opened.notes, Vec::<String>::new());
}

#[test]
fn cls_goes_before_json_and_json_before_txt() {
    let opened = opened(
        &[
            ("0.txt", "4"),
            ("0.json", r#"{"label": 5}"#),
            ("0.cls", "6"),
            ("1.txt", "4"),
            ("1.json", r#"{"class": 7, "label": null}"#),
            ("2.txt", "4"),
            ("2.json", r#"{"width": 9}"#),
            ("3.json", r#"{"label": 2.0, "class": "two"}"#),
        ],
        None,
    );
    assert_eq!(classes(&opened.train), [Some("6"), Some("7"), Some("4"), Some("2")]);
    assert_eq!(opened.notes, Vec::<String>::new());
}

#[test]
fn captions_are_no_classes() {
    let long = "a very long text ".repeat(20);
    let labels =
        [("0.txt", "a cat on a mat"), ("1.txt", long.as_str()), ("2.txt", "cat"), ("3.cls", "1")];
    let note = |opened: &Opened| {
        let note = opened.notes.iter().find(|note| note.contains("captions")).cloned();
        note.unwrap_or_default()
    };
    let plain = opened(&labels, None);
    assert_eq!(plain.train.classes, ["1"]);
    assert_eq!(classes(&plain.train), [None, None, None, Some("1")]);
    assert!(note(&plain).starts_with("3 .txt members are captions"), "{:?}", plain.notes);
    let named = opened(&labels, Some("dog\ncat\n"));
    assert_eq!(classes(&named.train), [None, None, Some("cat"), Some("cat")]);
    assert!(note(&named).starts_with("2 .txt members"), "{:?}", named.notes);
}

#[test]
fn what_is_no_label_is_counted() {
    let labels =
        [("0.json", "{nonsense"), ("1.json", r#"{"label": [1]}"#), ("2.json", r#"{"label": 1.5}"#)];
    let opened = opened(&labels, None);
    assert_eq!(classes(&opened.train), [None, None, None]);
    assert!(
        opened.notes[0].starts_with("3 .json members are no JSON with a label"),
        "{:?}",
        opened.notes
    );
    assert!(opened.notes[0].contains("0.json at offset"), "{:?}", opened.notes);
}

#[test]
fn classes_txt_names_the_numbers_and_labels_beyond_it_are_told() {
    let labels =
        [("0.cls", "2"), ("1.cls", "0"), ("2.cls", "3"), ("3.cls", "ant"), ("4.cls", "bee")];
    let opened = opened(&labels, Some("\u{feff}zebra\r\ncrane\r\nant\r\n"));
    assert_eq!(opened.train.classes, ["zebra", "crane", "ant"]);
    assert_eq!(classes(&opened.train), [Some("ant"), Some("zebra"), None, Some("ant"), None]);
    let note = &opened.notes[0];
    assert!(
        note.starts_with("2 images have a label that ") && note.contains("classes.txt"),
        "{note}"
    );
    assert!(note.contains("3 names") && note.contains("for example 3"), "{note}");
}

#[test]
fn classes_txt_may_lie_above_the_shards_and_may_name_two_classes_alike() {
    let place = Place::new();
    let shard = || {
        Archive::default()
            .image("a.png", 1)
            .file("a.cls", b"1")
            .image("b.png", 1)
            .file("b.cls", b"0")
    };
    shard().write(&place.at("train/0.tar"));
    shard().write(&place.at("val/0.tar"));
    fs::write(place.at("classes.txt"), "crane\ncrane\n").unwrap();
    for path in ["", "train", "train/0.tar", "{train,val}/0.tar"] {
        let opened = place.open_at(path).unwrap();
        assert_eq!(opened.train.classes, ["crane", "crane"], "{path}");
        assert_eq!(opened.train.source.label(0), Some(1), "{path}");
        assert_eq!(opened.train.source.label(1), Some(0), "{path}");
    }
}

#[test]
fn both_parts_have_one_numbering() {
    let place = Place::new();
    Archive::default().image("a.png", 1).file("a.cls", b"5").write(&place.at("train-0.tar"));
    Archive::default().image("b.png", 1).file("b.cls", b"3").write(&place.at("val-0.tar"));
    let opened = place.open();
    let val = opened.val.unwrap();
    assert_eq!(
        (&opened.train.classes, &val.classes),
        (&vec!["3".into(), "5".into()], &vec!["3".into(), "5".into()])
    );
    assert_eq!((classes(&opened.train), classes(&val)), (vec![Some("5")], vec![Some("3")]));
}
