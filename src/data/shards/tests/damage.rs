use super::*;

/// Opens one shard. Returns the numbers of its images and its notes, one a line.
fn opened(archive: &[u8]) -> (Vec<Option<u8>>, String) {
    let place = Place::with(archive);
    let first = place.open();
    let again = place.open(); // what is kept says the same
    assert_eq!(
        (&first.notes, keys(&first.train.source)),
        (&again.notes, keys(&again.train.source))
    );
    assert_eq!(numbers(&first.train.source), numbers(&again.train.source));
    (numbers(&first.train.source), first.notes.join("\n"))
}

/// Three images with their classes. Also returns the offset of the header of each member.
fn three() -> (Archive, Vec<usize>) {
    let (mut archive, mut offsets) = (Archive::default(), Vec::new());
    for number in 0..3 {
        offsets.push(archive.0.len());
        archive = archive.image(&format!("{number}.png"), number);
        offsets.push(archive.0.len());
        archive = archive.file(&format!("{number}.cls"), b"1");
    }
    (archive, offsets)
}

const ALL: [Option<u8>; 3] = [Some(0), Some(1), Some(2)];

#[test]
fn a_shard_that_ends_early_loses_what_follows() {
    let (archive, offsets) = three();
    let whole = archive.whole();
    for (length, images, at, text) in [
        (offsets[4] + 520, 2, offsets[4], "in the middle of 2.png"),
        (offsets[4] + 100, 2, offsets[4], "in the middle of a header"),
        (offsets[5] + 512, 3, offsets[5], "in the middle of 2.cls"),
        (offsets[4], 2, offsets[4], "without the empty blocks"),
    ] {
        let (found, notes) = opened(&whole[..length]);
        assert_eq!(found, ALL[..images], "cut at {length}");
        assert!(notes.contains("a.tar") && notes.contains(text), "{notes}");
        assert!(notes.contains(&format!("at offset {at}: ")), "{notes}");
        assert_eq!(notes.lines().count(), 1, "{notes}");
    }
    assert_eq!(opened(&whole), (ALL.to_vec(), String::new()));
    assert_eq!(opened(&whole[..whole.len() - 512]).1, "", "one empty block is enough");
}

#[test]
fn a_damaged_header_costs_its_own_member() {
    let (archive, offsets) = three();
    let whole = archive.whole();
    let spoils: [fn(&mut [u8]); 4] = [
        |header| header[20] ^= 0x40, // the checksum fails
        |header| header.fill(0xff),  // nothing is left of it
        |header| header.fill(0),     // a hole: it looks like the end
        |header| header[124..136].copy_from_slice(b"no number!!!"),
    ];
    for spoil in spoils {
        let mut bytes = whole.clone();
        spoil(&mut bytes[offsets[2]..offsets[2] + 512]);
        let (found, notes) = opened(&bytes);
        assert_eq!(found, [Some(0), Some(2)], "{notes}");
        let (from, to) = (offsets[2], offsets[3]);
        let text = format!(
            "a.tar at offset {from}: damaged header: {} bytes up to offset {to} are left out",
            to - from
        );
        assert!(notes.contains(&text), "{notes}");
        assert!(notes.contains("1 samples have no image"), "{notes}");
        // The first header is no exception, and neither is the last one.
        let mut bytes = whole.clone();
        spoil(&mut bytes[..512]);
        assert_eq!(opened(&bytes).0, [Some(1), Some(2)]);
    }
    let mut bytes = whole;
    bytes[offsets[5] + 3] ^= 1;
    let (found, notes) = opened(&bytes);
    assert_eq!(found, ALL);
    assert!(notes.contains(&format!("at offset {}: damaged header: the other ", offsets[5])));
}

#[test]
fn pixels_that_look_like_a_header_are_none() {
    let (inner, _) = three();
    let (archive, offsets) = three();
    let mut bytes = archive.file("nested.tar", &inner.whole()).whole();
    let (found, notes) = opened(&bytes);
    assert_eq!((found, notes.contains("1 .tar")), (ALL.to_vec(), true), "{notes}");
    // Without the word `ustar` a block isn't taken for a header.
    bytes[offsets[2] + 10] ^= 1;
    bytes[offsets[3] + 257] = b'X';
    assert_eq!(opened(&bytes).0, [Some(0), Some(2)]);
}

#[test]
fn archives_behind_one_another_are_one() {
    let (one, two) = (Archive::default().image("a.png", 1), Archive::default().image("b.png", 2));
    let bytes = [one.whole(), vec![0; 9000 / 512 * 512], two.whole()].concat();
    assert_eq!(opened(&bytes), (vec![Some(1), Some(2)], String::new()));
    let (archive, _) = three();
    let bytes = [archive.whole(), b"something else".repeat(100)].concat();
    let (found, notes) = opened(&bytes);
    assert_eq!(found, ALL);
    assert!(notes.contains("1400 bytes behind the end") || notes.contains("bytes behind the end"));
}

#[test]
fn extended_headers_give_names_and_sizes_and_damaged_ones_cost_their_member() {
    let kind = |kind: u8| move |header: &mut Header| header.set_entry_type(EntryType::new(kind));
    let record = |text: &str| {
        let length = (1..1000).find(|&n: &usize| format!("{n} {text}\n").len() == n).unwrap();
        format!("{length} {text}\n").into_bytes()
    };
    let name = "x".repeat(300) + "/long\nname.png";
    let image = png(5);
    let size = image.len() as u64;
    let both = [record(&format!("path={name}")), record(&format!("size={size}"))].concat();
    let archive = |extended: &[u8], letter: u8| {
        Archive::default()
            .member("before", extended, kind(letter))
            .member("short.png", &image, |header| {
                header.set_size(if letter == b'x' { 0 } else { size });
            })
            .image("next.png", 6)
            .whole()
    };
    for (extended, letter) in [(both.clone(), b'x'), ([name.as_bytes(), b"\0"].concat(), b'L')] {
        let place = Place::with(&archive(&extended, letter));
        let opened = place.open();
        assert_eq!(opened.notes, Vec::<String>::new());
        assert_eq!(keys(&opened.train.source), [name.clone(), "next.png".to_owned()]);
        assert_eq!(numbers(&opened.train.source), [Some(5), Some(6)]);
    }
    for broken in [b"999 path=x.png\n".as_slice(), b"12 path=x.png\n", b"no record\n", b"8 a:b:c\n"]
    {
        let sized = [record(&format!("size={size}")).as_slice(), broken].concat();
        let (found, notes) = opened(&archive(&sized, b'x'));
        assert_eq!(found, [Some(6)], "{notes}");
        assert!(
            notes.contains("at offset 1024: short.png is left out: its extended header"),
            "{notes}"
        );
    }
    // A global header and the long name of a link change nothing.
    let bytes = Archive::default()
        .member("pax_global_header", &record("comment=x"), kind(b'g'))
        .member("link", b"somewhere\0", kind(b'K'))
        .image("a.png", 1)
        .whole();
    assert_eq!(opened(&bytes), (vec![Some(1)], String::new()));
}

#[test]
fn sizes_in_base_256_are_sizes() {
    let binary = |size: u64| {
        move |header: &mut Header| {
            let field = &mut header.as_old_mut().size;
            field.fill(0);
            field[0] = 0x80;
            field[4..].copy_from_slice(&size.to_be_bytes());
        }
    };
    let image = png(3);
    let size = image.len() as u64;
    let bytes = Archive::default().member("a.png", &image, binary(size)).image("b.png", 4).whole();
    assert_eq!(opened(&bytes), (vec![Some(3), Some(4)], String::new()));
    for huge in [1 << 40, u64::MAX - 100] {
        let bytes =
            Archive::default().image("a.png", 4).member("b.png", &image, binary(huge)).whole();
        let (found, notes) = opened(&bytes);
        assert_eq!(found, [Some(4)]);
        assert!(notes.contains("in the middle of b.png"), "{notes}");
    }
}

#[test]
fn what_is_no_file_is_left_out_and_empty_members_are_unreadable_images() {
    let kind = |kind: EntryType| move |header: &mut Header| header.set_entry_type(kind);
    let bytes = Archive::default()
        .member("folder.png/", b"", kind(EntryType::Directory))
        .member("old.png/", b"", |_| {})
        .member("hard.png", b"", kind(EntryType::Link))
        .member("soft.png", b"", kind(EntryType::Symlink))
        .member("pipe.png", b"", kind(EntryType::Fifo))
        .image("./a.png", 1)
        .image("._a.png", 9)
        .image("__MACOSX/a.png", 9)
        .file("empty.png", b"")
        .file("none", b"text")
        .whole();
    let place = Place::with(&bytes);
    let opened = place.open();
    assert_eq!(keys(&opened.train.source), ["a.png", "empty.png"]);
    assert_eq!(numbers(&opened.train.source), [Some(1), None]);
    let error = opened.train.source.read(1).unwrap_err();
    let at = bytes.windows(9).position(|window| window == b"empty.png").unwrap() + 512;
    let shard = place.at("a.tar");
    assert_eq!(error.name, format!("empty.png in {} at offset {at}", shard.display()));
    assert_eq!(error.reason, "the file is empty");
    let notes = opened.notes.join("\n");
    assert!(
        notes.contains("2 links are left out") && notes.contains("hard.png at offset 1024"),
        "{notes}"
    );
    assert!(notes.contains("1 without ending"), "{notes}");
}

#[test]
fn of_members_of_one_name_the_last_one_is_taken_and_of_one_key_the_first() {
    let bytes = Archive::default()
        .image("a.png", 1)
        .file("a.cls", b"3")
        .image("b.png", 2)
        .image("a.png", 7)
        .file("a.cls", b"4")
        .image("b.jpg", 8)
        .file("c.d.png", b"a map of a, which is no image of its own")
        .whole();
    let place = Place::with(&bytes);
    let opened = place.open();
    assert_eq!(keys(&opened.train.source), ["b.png", "a.png"]);
    assert_eq!(numbers(&opened.train.source), [Some(2), Some(7)]);
    assert_eq!(classes(&opened.train), [None, Some("4")]);
    let notes = opened.notes.join("\n");
    assert!(notes.contains("2 members of one name are there twice"), "{notes}");
    assert!(notes.contains("1 images have the key of another one"), "{notes}");
    assert!(notes.contains("1 .d.png"), "{notes}");
}

#[test]
fn keys_of_different_shards_are_different() {
    let place = Place::new();
    Archive::default().image("0.png", 1).write(&place.at("x/0.tar"));
    Archive::default().image("0.png", 2).write(&place.at("x/1.tar"));
    Archive::default().image("0.png", 3).write(&place.at("y/0.tar"));
    let source = place.open().train.source;
    assert_eq!(keys(&source), ["x/0.tar/0.png", "x/1.tar/0.png", "y/0.tar/0.png"]);
    assert_eq!(keys(&place.open_at("{x,y}").unwrap().train.source), keys(&source));
}

#[test]
fn what_is_no_archive_costs_only_itself() {
    let place = Place::new();
    Archive::default().image("a.png", 1).write(&place.at("good.tar"));
    write(&place.at("page.tar"), &b"<html>not found</html>".repeat(100));
    write(&place.at("short.tar"), b"<html>");
    write(&place.at("empty.tar"), b"");
    write(&place.at("zeros.tar"), &[0; 4096]);
    let opened = place.open();
    assert_eq!(numbers(&opened.train.source), [Some(1)]);
    let notes = opened.notes.join("\n");
    for text in [
        "page.tar at offset 0: it is no tar archive",
        "short.tar at offset 0: it ends in the middle of a header",
        "empty.tar at offset 0: the file is empty",
    ] {
        assert!(notes.contains(text), "{notes}");
    }
    let error = place.error("page.tar");
    assert!(error.contains("no images in") && error.contains("no tar archive"), "{error}");
    assert!(place.error("zeros.tar").contains("no images in"), "{}", place.error("zeros.tar"));
}

#[test]
fn compressed_archives_are_refused_with_what_unpacks_them() {
    let place = Place::new();
    let whole = Archive::default().image("a.png", 1).whole();
    let packed = crate::data::fixtures::gzip(&whole);
    write(&place.at("named/a.tar.gz"), &packed);
    write(&place.at("called/a.tar"), &packed);
    write(&place.at("zst/a.tar"), b"\x28\xb5\x2f\xfdand so on");
    for (path, file, undo) in [
        ("named", "named/a.tar.gz", "(gunzip)"),
        ("named/a.tar.gz", "named/a.tar.gz", "(gunzip)"),
        ("called", "called/a.tar", "(gunzip)"),
        ("zst", "zst/a.tar", "(unzstd)"),
        ("{called,zst}/a.tar", ".tar", "unpack it first"),
    ] {
        let error = place.error(path);
        assert!(error.contains("is compressed") && error.contains(file), "{error}");
        assert!(error.contains(undo) && error.lines().count() == 1, "{error}");
    }
    write(&place.at("named/b.tar"), &whole);
    let notes = place.open_at("named").unwrap().notes;
    assert_eq!(notes, ["beside the tar shards, left out as compressed: a.tar.gz"]);
}

#[test]
fn a_shard_that_is_cut_off_after_it_was_listed_loses_only_what_is_gone() {
    let (archive, offsets) = three();
    let whole = archive.whole();
    let place = Place::with(&whole);
    let source = place.open().train.source;
    write(&place.at("a.tar"), &whole[..offsets[4] + 520]);
    assert_eq!(numbers(&source), [Some(0), Some(1), None]);
    let error = source.read(2).unwrap_err().to_string();
    let (at, end) = (offsets[4] + 512, offsets[4] + 520);
    assert!(
        error.contains(&format!("a.tar at offset {at}: the shard ends at {end} now")),
        "{error}"
    );
}
