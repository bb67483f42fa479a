//! Reads the labels of all rows, and gives the files of a part one numbering of classes.

use super::pages::reason;
use super::values::{byte_arrays, with_nulls};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::Arc;

/// The number of an image without label.
pub(in crate::data) const NO_LABEL: u32 = u32::MAX;

/// The labels of a file.
#[derive(Debug, Default)]
pub(super) struct FileLabels {
    /// The label of each row as an index into `seen`, or [`NO_LABEL`].
    rows: Vec<u32>,
    /// The labels that the file has.
    seen: Vec<Label>,
    index: HashMap<Label, u32>,
    /// Names of the numbers.
    names: Option<Vec<String>>,
    /// Rows whose label can't be read, and why.
    pub lost: Option<(usize, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Label {
    Number(i64),
    Text(String),
}

impl FileLabels {
    pub fn new(names: Option<Vec<String>>) -> Self {
        Self { names, ..Self::default() }
    }

    /// Reads the labels of one row group. Those that can't be read are none.
    pub fn read(&mut self, file: &Arc<File>, chunk: &ColumnChunkMetaData, rows: usize) {
        let before = self.rows.len();
        let read = self.read_values(file, chunk, rows);
        let found = self.rows.len() - before;
        if found < rows {
            let why =
                read.err().unwrap_or_else(|| "the column is shorter than the others".to_owned());
            let (lost, _) = self.lost.get_or_insert((0, why));
            *lost += rows - found;
        }
        self.rows.resize(before + rows, NO_LABEL);
    }

    fn read_values(
        &mut self,
        file: &Arc<File>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<(), String> {
        let pages = SerializedPageReader::new(Arc::clone(file), chunk, rows, None);
        let pages = Box::new(pages.map_err(|error| reason(&error))?);
        let column = chunk.column_descr_ptr();
        if chunk.column_type() == parquet::basic::Type::BYTE_ARRAY {
            for text in byte_arrays(&column, pages, rows)? {
                self.push(text.map(|text| {
                    Label::Text(String::from_utf8_lossy(text.data()).trim().to_owned())
                }));
            }
            return Ok(());
        }
        match get_column_reader(column, pages) {
            ColumnReader::BoolColumnReader(reader) => self.numbers(reader, chunk, rows, i64::from),
            ColumnReader::Int32ColumnReader(reader) => self.numbers(reader, chunk, rows, i64::from),
            ColumnReader::Int64ColumnReader(reader) => {
                self.numbers(reader, chunk, rows, |number| number)
            }
            _ => Err("the column holds no labels".to_owned()),
        }
    }

    fn numbers<D: DataType>(
        &mut self,
        mut reader: ColumnReaderImpl<D>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        number: impl Fn(D::T) -> i64,
    ) -> Result<(), String> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let read = reader.read_records(rows, Some(&mut levels), None, &mut values);
        let (count, ..) = read.map_err(|error| reason(&error))?;
        for value in with_nulls(&chunk.column_descr_ptr(), count, &levels, values) {
            // `datasets` writes -1 where there is no label.
            self.push(value.map(&number).filter(|number| *number >= 0).map(Label::Number));
        }
        Ok(())
    }

    fn push(&mut self, label: Option<Label>) {
        let Some(label) = label.filter(|label| *label != Label::Text(String::new())) else {
            self.rows.push(NO_LABEL);
            return;
        };
        let next = u32::try_from(self.seen.len()).unwrap_or(NO_LABEL);
        let number = *self.index.entry(label).or_insert_with_key(|label| {
            self.seen.push(label.clone());
            next
        });
        self.rows.push(number);
    }

    /// Checks that each number has a name, if there are names.
    ///
    /// # Errors
    /// Returns one line with the number that has none.
    pub fn check(&self) -> Result<(), String> {
        let Some(names) = &self.names else { return Ok(()) };
        let number =
            |label: &Label| if let Label::Number(number) = label { Some(*number) } else { None };
        let highest = self.seen.iter().filter_map(number).max().unwrap_or(0);
        if usize::try_from(highest).is_ok_and(|highest| highest >= names.len()) {
            let count = names.len();
            return Err(format!(
                "a label is {highest}, but there are {count} names of classes in the metadata"
            ));
        }
        Ok(())
    }

    fn name(&self, label: &Label) -> String {
        match (label, &self.names) {
            (Label::Text(text), _) => text.clone(),
            (Label::Number(number), Some(names)) => {
                names.get(*number as usize).cloned().unwrap_or_else(|| number.to_string())
            }
            (Label::Number(number), None) => number.to_string(),
        }
    }
}

/// Returns the label of each image of some files, and the names of the classes. No labels at all are an empty list.
pub(super) fn merge(files: Vec<FileLabels>) -> (Vec<u32>, Vec<String>) {
    let classes = classes(&files);
    if classes.is_empty() {
        return (Vec::new(), classes);
    }
    let numbers: HashMap<&str, u32> =
        classes.iter().zip(0..).map(|(name, number)| (name.as_str(), number)).collect();
    let mut labels = Vec::with_capacity(files.iter().map(|file| file.rows.len()).sum());
    for file in files {
        let map: Vec<u32> = file
            .seen
            .iter()
            .map(|label| numbers.get(file.name(label).as_str()).copied().unwrap_or(NO_LABEL))
            .collect();
        let number = |row: u32| map.get(row as usize).copied().unwrap_or(NO_LABEL);
        labels.extend(file.rows.into_iter().map(number));
    }
    (labels, classes)
}

/// Returns the names of the classes: in the order of the metadata if all files have the same there, otherwise those that
/// there are, sorted.
fn classes(files: &[FileLabels]) -> Vec<String> {
    if let Some(Some(names)) = files.first().map(|file| &file.names)
        && files.iter().all(|file| file.names.as_ref() == Some(names))
    {
        let distinct: BTreeSet<&String> = names.iter().collect();
        if distinct.len() == names.len() {
            return names.clone();
        }
    }
    sorted(files.iter().flat_map(|file| file.seen.iter().map(|label| file.name(label))))
}

/// Returns the distinct names, in the order of numbers if they are all numbers.
pub(in crate::data) fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let distinct: BTreeSet<String> = names.collect();
    let mut names: Vec<String> = distinct.into_iter().collect();
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if numbers.is_some() {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: Option<&[&str]>, rows: &[i64]) -> FileLabels {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let mut labels = FileLabels::new(names);
        for &row in rows {
            labels.push((row >= 0).then_some(Label::Number(row)));
        }
        labels
    }

    #[test]
    fn files_with_other_names_or_numbers_of_classes_get_one_numbering() {
        let same = || labels(Some(&["b", "a"]), &[1, -1, 0]);
        let (numbers, classes) = merge(vec![same(), same()]);
        assert_eq!(classes, ["b", "a"], "the order of the metadata");
        assert_eq!(numbers, [1, NO_LABEL, 0, 1, NO_LABEL, 0]);
        let (numbers, classes) = merge(vec![same(), labels(Some(&["a", "c"]), &[0, 1])]);
        assert_eq!((numbers, classes.join(" ")), (vec![0, NO_LABEL, 1, 0, 2], "a b c".to_owned()));
        let (numbers, classes) = merge(vec![labels(None, &[10, 9]), labels(None, &[100])]);
        assert_eq!((numbers, classes.join(" ")), (vec![1, 0, 2], "9 10 100".to_owned()));
        assert_eq!(merge(vec![labels(None, &[-1])]), (vec![], vec![]));
        assert!(labels(Some(&["a"]), &[1]).check().unwrap_err().contains("a label is 1"));
    }
}
