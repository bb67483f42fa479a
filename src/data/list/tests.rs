use super::*;
use crate::config::{DataConfig, DataFormat};
use crate::data::Dataset;
use crate::data::fixtures::{pattern, write_image};
use image::ImageFormat::Png;
use std::fs;
use tempfile::{TempDir, tempdir};

/// Returns a folder with some images, and a list with this name and text.
fn listed(images: &[&str], name: &str, text: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    for (number, image) in images.iter().enumerate() {
        write_image(&dir.path().join(image), &pattern(8, 8, number as u8), Png);
    }
    let list = dir.path().join(name);
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(&list, text).unwrap();
    (dir, list)
}

fn opened(list: &Path) -> Result<Opened, String> {
    open(list, TruncatedImages::Skip).map_err(|error| error.to_string())
}

/// Returns key, class and blue of each image, and `-` where there is none.
fn rows(part: &Part) -> Vec<String> {
    let row = |index| {
        let class = part.source.label(index).map(|label| part.classes[label as usize].clone());
        let blue = part.source.read(index).map(|image| image.get_pixel(0, 0).0[2].to_string());
        let dash = || "-".to_owned();
        format!(
            "{} {} {}",
            part.source.key(index),
            class.unwrap_or_else(dash),
            blue.unwrap_or_else(|_| dash())
        )
    };
    (0..part.source.len()).map(row).collect()
}

#[test]
fn images_come_in_the_order_of_the_list_from_its_folder() {
    let images = ["b/1.png", "a/2.png", "top.png"];
    let text =
        b"\xef\xbb\xbf# of mine\r\ntop.png dog\r\n\r\nb/1.png cat\r\n./a/2.png\r\nb/1.png cat";
    let (dir, list) = listed(&images, "list.txt", text);
    let Opened { train, val, notes, .. } = opened(&list).unwrap();
    assert!(val.is_none());
    assert_eq!(rows(&train), ["top.png dog 2", "b/1.png cat 0", "./a/2.png - 1", "b/1.png cat 0"]);
    assert_eq!(train.classes, ["cat", "dog"]);
    assert_eq!(notes, ["1 line repeats a path: an image counts as often as it is listed"]);
    assert_eq!(train.source.name(1), dir.path().join("b/1.png").display().to_string());
    assert!(train.source.bytes(1) > 50);
    let absolute = format!("{}\n", dir.path().join("a/2.png").display());
    let (_other, list) = listed(&[], "x.lst", absolute.as_bytes());
    assert_eq!(rows(&opened(&list).unwrap().train)[0], format!("{} - 1", absolute.trim()));
}

#[test]
fn paths_need_not_be_utf_8() {
    let (dir, list) = listed(&[], "x.csv", b"path,class\nod\xff/d.png,a\xfe\n");
    let odd = dir.path().join(OsStr::from_bytes(b"od\xff"));
    write_image(&odd.join("d.png"), &pattern(8, 8, 5), Png);
    let Opened { train, .. } = opened(&list).unwrap();
    assert_eq!(train.source.read(0).unwrap().get_pixel(0, 0).0[2], 5);
    assert_eq!(train.source.key(0), "od\u{fffd}/d.png");
}

#[test]
fn numbers_of_classes_are_sorted_as_numbers_and_named_by_a_file_beside_the_list() {
    let images = ["0.png", "1.png", "2.png", "3.png"];
    let (dir, list) = listed(&images, "val.txt", b"0.png 10\n1.png 2\n2.png -1\n3.png 0\n");
    let classes = |list: &Path| {
        opened(list).map(|opened| (opened.train.classes.join(" "), rows(&opened.train).join(" ")))
    };
    let bare = ("0 2 10".to_owned(), "0.png 10 0 1.png 2 1 2.png - 2 3.png 0 3".to_owned());
    assert_eq!(classes(&list).unwrap(), bare);
    let names = dir.path().join("classes.txt");
    let eleven: Vec<String> = ('a'..='k').map(String::from).collect();
    fs::write(&names, eleven.join("\r\n")).unwrap();
    let expected = "0.png k 0 1.png c 1 2.png - 2 3.png a 3".to_owned();
    assert_eq!(classes(&list).unwrap(), (eleven.join(" "), expected));
    fs::write(&names, "a\nb\n").unwrap();
    let error = classes(&list).unwrap_err();
    assert!(error.contains("classes.txt has unexpected content: it names 2 classes"), "{error}");
    assert!(error.ends_with("val.txt has the class 10"), "{error}");
    // Names are put in the order of the file, if it has them all.
    fs::write(&list, "0.png b\n1.png a\n").unwrap();
    fs::write(&names, "b\nc\na\n").unwrap();
    assert_eq!(classes(&list).unwrap().0, "b c a");
    fs::write(&names, "b\nc\n").unwrap();
    assert_eq!(classes(&list).unwrap().0, "a b");
}

#[test]
fn a_column_of_parts_divides_a_table() {
    let images = ["0.png", "1.png", "2.png", "3.png", "4.png"];
    let text = b"file,label,split\n0.png,x,test\n1.png,y,Train\n2.png,x,valid\n3.png,x,train\n4.png,y,extra\n";
    let (_dir, list) = listed(&images, "x.csv", text);
    let Opened { train, val, notes, .. } = opened(&list).unwrap();
    assert_eq!(rows(&train), ["1.png y 1", "3.png x 3"]);
    assert_eq!(rows(&val.unwrap()), ["2.png x 2"]);
    assert_eq!(notes, ["left out, by their part: 1 of extra, 1 of test"]);
    let (_dir, list) = listed(&images, "x.csv", b"file,fold\n0.png,1\n1.png,2\n");
    let Opened { train, val, notes, .. } = opened(&list).unwrap();
    assert_eq!((train.source.len(), val.is_none()), (2, true));
    assert_eq!(
        notes,
        ["the parts in the list aren't used: none is called train, val or test, but 1, 2"]
    );
}

#[test]
fn files_that_are_not_there_count_as_unreadable() {
    let (dir, list) =
        listed(&["a.png", "f.png/x.png"], "x.txt", b"a.png\nnone.png\nf.png\ngone.png\n");
    let Opened { train, notes, .. } = opened(&list).unwrap();
    assert_eq!(rows(&train), ["a.png - 0", "none.png - -", "f.png - -", "gone.png - -"]);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let expected = [
        format!(
            "2 of 4 listed files are not there and count as unreadable, for example {}",
            at("none.png")
        ),
        format!(
            "1 of 4 listed files is a folder and counts as unreadable, for example {}",
            at("f.png")
        ),
    ];
    assert_eq!(notes, expected);
    let error = train.source.read(2).unwrap_err().to_string();
    assert!(error.starts_with(&at("f.png")) && !error.contains('\n'), "{error}");
}

#[test]
fn what_is_no_list_is_told_in_one_line() {
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0; 30][..]].concat();
    let cases: [(&str, &[u8], &str); 7] = [
        ("x.txt", b"", "no images in"),
        (
            "x.txt",
            b"# nothing\n\n \n",
            "looked for paths of images, one a line, or a table with a column path",
        ),
        ("x.csv", b"path,class\n", "looked for paths of images"),
        ("x.txt", &png, "it is no text, so no list of images"),
        ("x.txt", b"\xff\xfea\0.\0p\0n\0g\0\n\0", "it is text in UTF-16: save it as UTF-8"),
        ("x.csv", b"a,b\n1,2\n", "there is no column of paths"),
        (
            "x.txt",
            b"gone.png\nnone.png\n",
            "none of the 2 files that it lists is there, for example ",
        ),
    ];
    for (name, text, expected) in cases {
        let (_dir, list) = listed(&[], name, text);
        let error = opened(&list).map(|_| ()).unwrap_err();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let dir = tempdir().unwrap();
    let error = opened(dir.path()).map(|_| ()).unwrap_err();
    assert!(error.contains("a list of images is a file, this is a folder"), "{error}");
}

#[test]
fn a_list_is_known_by_its_ending_and_splits_like_its_folder() {
    let images: Vec<String> =
        (0..30).map(|number| format!("{}/{number:02}.png", ["a", "b"][number % 2])).collect();
    let mut sorted: Vec<&str> = images.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let lines: Vec<String> = sorted.iter().map(|path| format!("{path}\t{}", &path[..1])).collect();
    let text = lines.join("\n");
    let (dir, list) = listed(&sorted, "all.lst", text.as_bytes());
    let all = |path: &Path, format: DataFormat| -> Dataset {
        let config = DataConfig { path: Some(path.to_owned()), format, ..DataConfig::default() };
        crate::data::open(&config).map_err(|error| error.to_string()).unwrap()
    };
    let keys =
        |data: &Dataset| (0..data.val.len()).map(|index| data.val.key(index)).collect::<Vec<_>>();
    let folder = all(dir.path(), DataFormat::Auto);
    for format in [DataFormat::Auto, DataFormat::List] {
        let data = all(&list, format);
        assert_eq!(
            (data.train.len(), keys(&data), &data.classes),
            (27, keys(&folder), &folder.classes)
        );
        assert!(data.description.starts_with("27 train + 3 val images of a list from "));
    }
    fs::rename(&list, dir.path().join("all.dat")).unwrap();
    let data = all(&dir.path().join("all.dat"), DataFormat::List);
    assert_eq!(data.train.len(), 27);
}

#[test]
fn a_list_takes_less_than_60_bytes_an_image() {
    let mut paths = ListedPaths::new(Path::new("x.txt"));
    let images = 100_000;
    for number in 0..images {
        let class = number / 1300;
        let path =
            format!("/data/imagenet/ILSVRC/Data/train/n{class:08}/n{class:08}_{number:05}.JPEG");
        paths.push(&Listed {
            path: path.as_bytes(),
            class: class.to_string().as_bytes(),
            split: b"",
        });
    }
    paths.finish();
    let bytes = paths.names.capacity()
        + 8 * paths.ends.capacity()
        + 4 * (paths.folders_of.capacity() + paths.labels.capacity() + paths.splits.capacity());
    assert!(bytes < 45 * images, "{bytes}");
    assert_eq!(
        paths.written(1300),
        b"/data/imagenet/ILSVRC/Data/train/n00000001/n00000001_01300.JPEG"
    );
}
