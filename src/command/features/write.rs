//! Writes features as safetensors, CSV or `NumPy`'s format.

use crate::eval::features::Features;
use crate::model::tensors;
use crate::text::csv::field;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Most bytes of image names in a safetensors header. Readers refuse headers of 100 MB.
const MOST_TEXT: usize = 90_000_000;

/// What goes into the file beside the features.
#[derive(Debug, Clone, Default)]
pub(super) struct About {
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Further texts for the header, such as the checkpoint.
    pub notes: Vec<(String, String)>,
}

/// Writes `features` `[n, dim]` as f32 and `labels` `[n]` as i64, where -1 means no label. The metadata has `names` and
/// `classes` as JSON lists.
///
/// # Errors
/// Returns an error if the file can't be written, or if the names are too long for the format.
pub(super) fn safetensors(
    features: &Features,
    about: &About,
    out: &mut impl Write,
) -> io::Result<()> {
    let json = |texts: &[String]| serde_json::to_string(texts).map_err(io::Error::other);
    let names = json(&features.names)?;
    if names.len() > MOST_TEXT {
        let text = "the image names are too long for a safetensors header; write .csv instead";
        return Err(io::Error::other(text));
    }
    let labels: Vec<i64> =
        features.labels.iter().map(|label| label.map_or(-1, i64::from)).collect();
    let shape = vec![features.len(), features.dim];
    let (values, labels_bytes) =
        (bytemuck::cast_slice(&features.values), bytemuck::cast_slice(&labels));
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).map_err(io::Error::other);
    let views = [
        ("features", view(Dtype::F32, shape, values)?),
        ("labels", view(Dtype::I64, vec![labels.len()], labels_bytes)?),
    ];
    let mut metadata: BTreeMap<String, String> = about.notes.iter().cloned().collect();
    metadata.insert("names".to_owned(), names);
    metadata.insert("classes".to_owned(), json(&about.classes)?);
    out.write_all(&tensors::serialize(views, &metadata)?)
}

/// Writes a line per image: its name, the number and name of its class (empty without a label), and the features as
/// f0, f1, …
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn csv(features: &Features, about: &About, out: &mut impl Write) -> io::Result<()> {
    write!(out, "name,label,class")?;
    (0..features.dim).try_for_each(|column| write!(out, ",f{column}"))?;
    writeln!(out)?;
    for index in 0..features.len() {
        let label = features.labels[index];
        let class = label.and_then(|label| about.classes.get(label as usize));
        let number = label.map(|label| label.to_string()).unwrap_or_default();
        let class = class.map(|class| field(class)).unwrap_or_default();
        write!(out, "{},{number},{class}", field(&features.names[index]))?;
        // Display writes the shortest digits from which the same f32 is read back.
        features.row(index).iter().try_for_each(|value| write!(out, ",{value}"))?;
        writeln!(out)?;
    }
    Ok(())
}

/// Writes the features alone as `NumPy`'s `.npy`, version 1.0: f32 `[n, dim]`.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn npy(features: &Features, out: &mut impl Write) -> io::Result<()> {
    let (n, dim) = (features.len(), features.dim);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {dim}), }}");
    // The format wants magic, length and header together to be a multiple of 64 bytes and to end in a newline.
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding % 64));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    out.write_all(bytemuck::cast_slice(&features.values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn example() -> (Features, About) {
        let features = Features {
            values: vec![1.5, -2.0, 0.1, f32::NAN, 3.0, 4.0],
            dim: 3,
            labels: vec![Some(1), None],
            names: vec!["a, \"b\".png".to_owned(), "c.png".to_owned()],
            faulty: Vec::new(),
        };
        let classes = vec!["cat".to_owned(), "dog, wild".to_owned()];
        (features, About { classes, notes: vec![("layer".to_owned(), "2".to_owned())] })
    }

    #[test]
    fn safetensors_hold_features_labels_and_texts() {
        let (features, about) = example();
        let mut bytes = Vec::new();
        safetensors(&features, &about, &mut bytes).expect("written");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let metadata = header.metadata().clone().expect("texts");
        assert_eq!(metadata["classes"], r#"["cat","dog, wild"]"#);
        assert_eq!(metadata["names"], r#"["a, \"b\".png","c.png"]"#);
        assert_eq!(metadata["layer"], "2");
        let file = SafeTensors::deserialize(&bytes).expect("tensors");
        let (values, labels) = (file.tensor("features"), file.tensor("labels"));
        assert_eq!(values.as_ref().expect("there").shape(), [2, 3]);
        assert_eq!(&values.expect("there").data()[..4], 1.5_f32.to_le_bytes());
        let labels = labels.expect("there").data().to_vec();
        assert_eq!(labels, [1_i64.to_le_bytes(), (-1_i64).to_le_bytes()].concat());
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let (features, about) = example();
        let mut bytes = Vec::new();
        csv(&features, &about, &mut bytes).expect("written");
        let expected = "name,label,class,f0,f1,f2\n\"a, \"\"b\"\".png\",1,\"dog, wild\",1.5,-2,0.1\n\
            c.png,,,NaN,3,4\n";
        assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    }

    #[test]
    fn the_numpy_header_is_aligned() {
        let (features, _) = example();
        let mut bytes = Vec::new();
        npy(&features, &mut bytes).expect("written");
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header) % 64, 0);
        assert_eq!(bytes[10 + header - 1], b'\n');
        assert_eq!(bytes.len(), 10 + header + 6 * 4);
        assert!(String::from_utf8_lossy(&bytes).contains("'shape': (2, 3)"));
    }
}
