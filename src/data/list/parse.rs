//! Takes lists of images apart: plain ones with a path in each line, and tables with a header.

use crate::data::scan::is_image_name;
use csv::ByteRecord;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Usual names of columns of paths; an earlier one goes first.
const PATHS: [&str; 18] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "imagepath",
    "img",
    "img_path",
    "image_file",
    "image_name",
    "relpath",
    "rel_path",
    "photo",
    "picture",
    "name",
];
/// Usual names of columns of classes; an earlier one goes first.
const CLASSES: [&str; 15] = [
    "class",
    "label",
    "class_name",
    "label_name",
    "classname",
    "category",
    "target",
    "labels",
    "species",
    "class_id",
    "label_id",
    "class_label",
    "category_id",
    "cls",
    "y",
];
/// Usual names of columns that say which part an image belongs to.
const SPLITS: [&str; 6] = ["split", "set", "subset", "partition", "part", "fold"];
/// The longest path that a system takes. A longer one comes from a quote that isn't closed.
const LONGEST: usize = 4096;

/// What a list says of one image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    pub path: &'a [u8],
    /// Empty if it has none.
    pub class: &'a [u8],
    /// The part that it belongs to. Empty if the list doesn't say.
    pub split: &'a [u8],
}

/// Calls `each` for every image of a list, in order. Returns what people should know of how it was read.
///
/// # Errors
/// Returns one line on what is wrong and in which line.
pub(super) fn parse(
    list: &Path,
    text: &[u8],
    mut each: impl FnMut(Listed<'_>),
) -> Result<Option<String>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if let Some(delimiter) = delimiter(list, text) {
        table(text, delimiter, each)
    } else {
        let folder = list.parent().unwrap_or(Path::new(""));
        let mut spaces = None;
        for line in lines(text) {
            let exists = |path: &[u8]| folder.join(OsStr::from_bytes(path)).exists();
            let (path, class) = apart(line, &mut spaces, exists);
            check(path, || "a line".to_owned())?;
            each(Listed { path, class, split: b"" });
        }
        Ok(None)
    }
}

fn check(path: &[u8], place: impl FnOnce() -> String) -> Result<(), String> {
    if path.len() > LONGEST {
        return Err(format!(
            "{} has a path of {} bytes; is a quote not closed?",
            place(),
            path.len()
        ));
    }
    Ok(())
}

/// Returns the lines of a plain list that are neither empty nor comments.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && line[0] != b'#')
}

/// Returns path and class of a line. A class stands behind a tab, or behind a space or a comma that follows a name of an
/// image. `spaces` remembers whether names without such an ending have spaces in them, which the first of them tells.
fn apart<'a>(
    line: &'a [u8],
    spaces: &mut Option<bool>,
    exists: impl Fn(&[u8]) -> bool,
) -> (&'a [u8], &'a [u8]) {
    let separates = |byte: &u8| matches!(byte, b' ' | b',' | b'\t');
    let at = |place: usize| {
        let class = &line[place..];
        let skipped = class.iter().take_while(|byte| separates(byte)).count();
        (line[..place].trim_ascii(), class[skipped..].trim_ascii())
    };
    let is_image = |path: &[u8]| is_image_name(Path::new(OsStr::from_bytes(path)));
    if let Some(tab) = line.iter().position(|byte| *byte == b'\t') {
        return at(tab);
    }
    if is_image(line) {
        return (line, b"");
    }
    let mut places = line.iter().enumerate().filter(|(_, byte)| separates(byte)).map(|(at, _)| at);
    if let Some(place) = places.clone().find(|place| is_image(&line[..*place])) {
        return at(place);
    }
    match places.next_back() {
        Some(place) if !*spaces.get_or_insert_with(|| exists(line)) => at(place),
        _ => (line, b""),
    }
}

/// Returns what stands between the columns of a table, or `None` if the list is a plain one.
fn delimiter(list: &Path, text: &[u8]) -> Option<u8> {
    let ending = list.extension().unwrap_or_default().to_ascii_lowercase();
    if ending == "tsv" {
        return Some(b'\t');
    }
    let first = lines(text).next().unwrap_or_default();
    let count = |delimiter: &u8| first.split(|byte| byte == delimiter).count();
    let likely = *[b',', b';', b'\t'].iter().rev().max_by_key(|byte| count(byte))?;
    if ending == "csv" {
        return Some(likely);
    }
    let mut fields = first.split(|byte| *byte == likely);
    fields.any(|field| rank(field, &PATHS).is_some()).then_some(likely)
}

/// Returns the place of a column's name in a list of usual ones.
fn rank(name: &[u8], known: &[&str]) -> Option<usize> {
    let name = name.trim_ascii();
    known.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Which column holds what.
struct Header {
    path: usize,
    class: Option<usize>,
    split: Option<usize>,
    /// Whether the first row is an image already.
    bare: bool,
    note: Option<String>,
}

impl Header {
    fn of(first: &ByteRecord) -> Result<Self, String> {
        let ranked = |known: &[&str]| {
            let mut columns: Vec<_> = first
                .iter()
                .enumerate()
                .filter_map(|(column, name)| Some((rank(name, known)?, column)))
                .collect();
            columns.sort_unstable();
            columns.into_iter().map(|(_, column)| column).collect::<Vec<_>>()
        };
        let name = |column: &usize| {
            String::from_utf8_lossy(first.get(*column).unwrap_or_default()).trim().to_owned()
        };
        let (paths, splits) = (ranked(&PATHS), ranked(&SPLITS));
        let Some(&path) = paths.first() else { return Self::bare(first) };
        let classes: Vec<usize> =
            ranked(&CLASSES).into_iter().filter(|column| *column != path).collect();
        let others: Vec<String> =
            paths.iter().skip(1).chain(classes.iter().skip(1)).map(&name).collect();
        let class = classes.first().copied();
        let taken = class.map(|class| format!(" and classes from {}", name(&class)));
        let note = (!others.is_empty()).then(|| {
            format!(
                "paths are taken from the column {}{}; also there: {}",
                name(&path),
                taken.unwrap_or_default(),
                others.join(", ")
            )
        });
        Ok(Self { path, class, split: splits.first().copied(), bare: false, note })
    }

    /// Returns the columns of a table without header: the first name of an image, and what follows it.
    fn bare(first: &ByteRecord) -> Result<Self, String> {
        let is_image =
            |field: &[u8]| is_image_name(Path::new(OsStr::from_bytes(field.trim_ascii())));
        let Some(path) = first.iter().position(is_image) else {
            let names: Vec<_> = first.iter().map(String::from_utf8_lossy).collect();
            let (known, names) = (PATHS[..4].join(", "), names.join(", "));
            return Err(format!(
                "there is no column of paths (called {known} or the like); its columns: {names}"
            ));
        };
        let class = [path + 1].into_iter().find(|class| *class < first.len());
        Ok(Self { path, class, split: None, bare: true, note: None })
    }
}

fn table(
    text: &[u8],
    delimiter: u8,
    mut each: impl FnMut(Listed<'_>),
) -> Result<Option<String>, String> {
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).delimiter(delimiter);
    let mut reader = reader.from_reader(text);
    let mut record = ByteRecord::new();
    let failed = |error: csv::Error| error.to_string();
    if !reader.read_byte_record(&mut record).map_err(failed)? {
        return Ok(None);
    }
    let Header { path, class, split, bare, note } = Header::of(&record)?;
    let mut row = |record: &ByteRecord| -> Result<(), String> {
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).unwrap_or_default().trim_ascii()
        };
        let path = record.get(path).unwrap_or_default().trim_ascii();
        if path.is_empty() {
            return Err(format!("line {line} has no path"));
        }
        check(path, || format!("line {line}"))?;
        each(Listed { path, class: field(class), split: field(split) });
        Ok(())
    };
    if bare {
        row(&record)?;
    }
    while reader.read_byte_record(&mut record).map_err(failed)? {
        row(&record)?;
    }
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &[u8]) -> Result<Vec<[String; 3]>, String> {
        let mut rows = Vec::new();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        parse(Path::new(name), text, |Listed { path, class, split }| {
            rows.push([path, class, split].map(shown));
        })?;
        Ok(rows)
    }

    #[test]
    fn a_plain_list_has_a_path_and_perhaps_a_class_in_each_line() {
        let list =
            b"\xef\xbb\xbf# photos\r\n\r\na.jpg\r\nb c.JPEG 65\n d.png,cat \ne.png\tbig dog\n\
            my photo.jpg, golden retriever\nx.jpg copy.jpg\n./#f.png\nnone/g 3\nnone/h\n";
        let expected = [
            ["a.jpg", ""],
            ["b c.JPEG", "65"],
            ["d.png", "cat"],
            ["e.png", "big dog"],
            ["my photo.jpg", "golden retriever"],
            ["x.jpg copy.jpg", ""],
            ["./#f.png", ""],
            ["none/g", "3"],
            ["none/h", ""],
        ];
        let rows = read("list.txt", list).unwrap();
        let rows: Vec<_> = rows.iter().map(|[path, class, _]| [path.as_str(), class]).collect();
        assert_eq!(rows, expected);
        let mut spaces = None;
        assert_eq!(apart(b"IMG 0001", &mut spaces, |_| true), (&b"IMG 0001"[..], &b""[..]));
        assert_eq!(apart(b"IMG 0002", &mut spaces, |_| false), (&b"IMG 0002"[..], &b""[..]));
    }

    #[test]
    fn tables_are_read_by_their_header_whatever_stands_between_columns() {
        let expected = [["a, b.jpg", "the \"cat\"", "train"], ["c.jpg", "dog", "test"]];
        let quoted = "Label,ID,FileName,Split\r\n\"the \"\"cat\"\"\",1,\"a, b.jpg\",train\r\ndog,2,c.jpg,test\r\n";
        let semicolons =
            "id;class;file;set\n1;\"the \"\"cat\"\"\";a, b.jpg;train\n2;dog;c.jpg;test";
        let tabs = "path\tclass\tsplit\na, b.jpg\tthe \"cat\"\ttrain\nc.jpg\tdog\ttest\n";
        for (name, text) in
            [("x.csv", quoted), ("x.txt", quoted), ("x.csv", semicolons), ("x.tsv", tabs)]
        {
            assert_eq!(read(name, text.as_bytes()).unwrap(), expected, "{name} {text}");
        }
        let bare = read("x.csv", b"a.jpg,3\nb.jpg,4\n").unwrap();
        assert_eq!(bare, [["a.jpg", "3", ""], ["b.jpg", "4", ""]]);
        let note = parse(Path::new("x.csv"), b"image,path,label,class_id\n", |_| ()).unwrap();
        let expected = "paths are taken from the column path and classes from label; also there: image, class_id";
        assert_eq!(note.as_deref(), Some(expected));
    }

    #[test]
    fn a_table_that_is_none_is_told_in_one_line() {
        let open = [b"path,class\n\"a.jpg,0\n", &b"b.jpg,1\n".repeat(1000)[..]].concat();
        let cases: [(&[u8], &str); 3] = [
            (
                b"width,height\n1,2\n",
                "there is no column of paths (called path, file, filename, file_name or the like); its columns: width, height",
            ),
            (b"path,class\na.jpg,1\n,2\n", "line 3 has no path"),
            (&open, "line 2 has a path of 8007 bytes; is a quote not closed?"),
        ];
        for (text, expected) in cases {
            assert_eq!(read("x.csv", text).unwrap_err(), expected);
        }
    }
}
