//! Chooses the columns of a Parquet file that hold images and labels.

use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use std::collections::BTreeMap;

/// Usual names of columns of images; an earlier one goes first.
const IMAGES: [&str; 16] = [
    "image",
    "img",
    "images",
    "picture",
    "photo",
    "pixel_values",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "image_bytes",
    "img_bytes",
    "bytes",
    "content",
    "data",
    "file",
];
/// Usual names of columns of labels; an earlier one goes first.
const LABELS: [&str; 15] = [
    "label",
    "labels",
    "fine_label",
    "class",
    "class_label",
    "target",
    "category",
    "cls",
    "class_id",
    "label_id",
    "class_name",
    "label_name",
    "species",
    "coarse_label",
    "y",
];

/// The names of the columns that are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChosenNames {
    pub image: String,
    pub label: Option<String>,
}

/// The columns of a file that are taken, as numbers of leaves of its schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub names: ChosenNames,
    pub image: usize,
    pub path: Option<usize>,
    pub label: Option<usize>,
    /// Names of the classes that the file has for the numbers in its label column.
    pub classes: Option<Vec<String>>,
    /// Says what was chosen if there was a choice.
    pub note: Option<String>,
}

impl Columns {
    /// Chooses the columns of a file. With `wanted`, those that were chosen before.
    ///
    /// # Errors
    /// Returns one line with the file's columns if there is none of images, or not the wanted one.
    pub fn of(file: &FileMetaData, wanted: Option<&ChosenNames>) -> Result<Self, String> {
        let schema = file.schema_descr();
        let fields = file.schema().get_fields();
        let features = features(file);
        let kind = |name: &str| features.get(name).map_or("", |feature| feature.kind.as_str());
        let rank = |name: &str, names: &[&str], marked: &str| {
            let known = names.iter().position(|known| known.eq_ignore_ascii_case(name));
            (kind(name) != marked, known.unwrap_or(names.len()))
        };
        let images: Vec<_> = fields
            .iter()
            .filter_map(|field| image(field, schema))
            .filter(|(name, ..)| ["", "Image", "Value"].contains(&kind(name))) // sound is stored alike
            .collect();
        let taken = match wanted {
            Some(wanted) => images.iter().find(|(name, ..)| *name == wanted.image),
            None => images.iter().min_by_key(|(name, ..)| rank(name, &IMAGES, "Image")),
        };
        let wanted_image = wanted.map(|wanted| wanted.image.as_str());
        let Some(&(image, bytes, path)) = taken else {
            return Err(absent(
                wanted_image,
                "images (a struct of bytes and path, or a binary column)",
                fields,
            ));
        };
        let wanted_label = wanted.map(|wanted| wanted.label.as_deref());
        let mut labels: Vec<_> =
            fields.iter().filter_map(|field| Some((field.name(), label(field, schema)?))).collect();
        labels.retain(|(name, _)| {
            let usual = rank(name, &LABELS, "ClassLabel") != (true, LABELS.len());
            *name != image && wanted_label.map_or(usual, |wanted| wanted == Some(*name))
        });
        let label = labels.iter().min_by_key(|(name, _)| rank(name, &LABELS, "ClassLabel"));
        if let Some(Some(name)) = wanted_label
            && label.is_none()
        {
            return Err(absent(Some(name), "labels", fields));
        }
        let names = ChosenNames {
            image: image.to_owned(),
            label: label.map(|(name, _)| (*name).to_owned()),
        };
        let classes = label.and_then(|(name, _)| features.get(*name)?.names.clone());
        let images: Vec<&str> = images.iter().map(|(name, ..)| *name).collect();
        let label_names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
        let note = note(&names, &images, &label_names);
        Ok(Self { names, image: bytes, path, label: label.map(|(_, leaf)| *leaf), classes, note })
    }
}

/// Says which column there isn't, and which there are.
fn absent(wanted: Option<&str>, what: &str, fields: &[TypePtr]) -> String {
    let columns: Vec<String> = fields.iter().map(|field| shown(field)).collect();
    let columns = if columns.is_empty() { "none".to_owned() } else { columns.join(", ") };
    match wanted {
        None => format!("there is no column of {what}; its columns: {columns}"),
        Some(name) => {
            let what = what.split(' ').next().unwrap_or_default();
            format!(
                "there is no column {name} of {what}, as other files have it; its columns: {columns}"
            )
        }
    }
}

/// Says what was taken and what else could have been.
fn note(names: &ChosenNames, images: &[&str], labels: &[&str]) -> Option<String> {
    let beside = |taken: &str, all: &[&str]| {
        all.iter().filter(|name| **name != taken).map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let label = names.label.as_deref().unwrap_or_default();
    let others = [beside(&names.image, images), beside(label, labels)].concat();
    if others.is_empty() {
        return None;
    }
    let label = names.label.as_ref().map(|label| format!(" and labels from {label}"));
    Some(format!(
        "images are taken from the column {}{}; also there: {}",
        names.image,
        label.unwrap_or_default(),
        others.join(", ")
    ))
}

/// What the `datasets` library of Hugging Face says of a column.
struct Feature {
    kind: String,
    names: Option<Vec<String>>,
}

/// Reads what `datasets` writes into a file's metadata.
fn features(file: &FileMetaData) -> BTreeMap<String, Feature> {
    let pairs = file.key_value_metadata();
    let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"));
    let json = text.and_then(|pair| pair.value.as_ref());
    let json: Option<serde_json::Value> = json.and_then(|text| serde_json::from_str(text).ok());
    let features = json.as_ref().and_then(|json| json.pointer("/info/features")?.as_object());
    let feature = |value: &serde_json::Value| {
        let kind = value.get("_type").and_then(|kind| kind.as_str()).unwrap_or_default();
        let names = value.get("names").and_then(|names| names.as_array());
        let name = |name: &serde_json::Value| name.as_str().map(str::to_owned);
        let names = names.and_then(|names| names.iter().map(name).collect::<Option<Vec<_>>>());
        Feature { kind: kind.to_owned(), names: names.filter(|names| !names.is_empty()) }
    };
    features
        .map(|features| {
            features.iter().map(|(name, value)| (name.clone(), feature(value))).collect()
        })
        .unwrap_or_default()
}

fn repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED
}

fn is_bytes(field: &Type) -> bool {
    field.is_primitive()
        && !repeated(field)
        && field.get_physical_type() == PhysicalType::BYTE_ARRAY
}

fn is_text(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.converted_type() != ConvertedType::NONE || info.logical_type_ref().is_some()
}

/// Returns the number of the leaf with this path.
fn leaf(schema: &SchemaDescriptor, path: &[&str]) -> Option<usize> {
    schema.columns().iter().position(|column| column.path().parts() == path)
}

/// Returns name, bytes and path of a field that can hold images.
fn image<'a>(
    field: &'a Type,
    schema: &SchemaDescriptor,
) -> Option<(&'a str, usize, Option<usize>)> {
    let name = field.name();
    if field.is_primitive() {
        return (is_bytes(field) && !is_text(field))
            .then(|| leaf(schema, &[name]))?
            .map(|bytes| (name, bytes, None));
    }
    if repeated(field) || is_text(field) {
        return None;
    }
    let child = |wanted: &str| {
        let mut children = field.get_fields().iter();
        children.find(|child| child.name() == wanted && is_bytes(child))?;
        leaf(schema, &[name, wanted])
    };
    Some((name, child("bytes")?, child("path")))
}

/// Returns the leaf of a field that can hold labels: a number, a text, or true and false.
fn label(field: &Type, schema: &SchemaDescriptor) -> Option<usize> {
    let fits = field.is_primitive()
        && !repeated(field)
        && match field.get_physical_type() {
            PhysicalType::INT32 | PhysicalType::INT64 | PhysicalType::BOOLEAN => true,
            PhysicalType::BYTE_ARRAY => is_text(field),
            _ => false,
        };
    fits.then(|| leaf(schema, &[field.name()]))?
}

/// Returns name and kind of a field for messages.
fn shown(field: &Type) -> String {
    let kind = if repeated(field) || field.get_basic_info().converted_type() == ConvertedType::LIST
    {
        "list".to_owned()
    } else if field.is_primitive() {
        match field.get_physical_type() {
            PhysicalType::BYTE_ARRAY if is_text(field) => "text".to_owned(),
            PhysicalType::BYTE_ARRAY => "binary".to_owned(),
            other => other.to_string().to_ascii_lowercase(),
        }
    } else {
        let children: Vec<&str> = field.get_fields().iter().map(|child| child.name()).collect();
        format!("struct of {}", children.join(" and "))
    };
    format!("{} ({kind})", field.name())
}
