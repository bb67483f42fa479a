//! Puts the members of one archive together to samples: an image, and what says its class.

use super::index::{LabelText, NO_LABEL, Remarks, ShardIndex};
use super::walk::{Member, MemberKind, Walk, Walked};
use crate::data::scan::{is_image_name, is_visible_name};
use crate::shown;
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest `.cls` and `.txt` member that can hold a class, in bytes.
const MOST_TEXT: u64 = 100;
/// The largest `.json` member that is looked into.
const MOST_JSON: u64 = 1 << 20;

/// Lists the images of an archive of `size` bytes. `found` counts them while it goes on. Also returns whether all of it
/// could be read, which a network may deny for a while.
pub(super) fn list(file: &File, size: u64, found: &AtomicUsize) -> (ShardIndex, bool) {
    let mut walk = Walk::new(file, size);
    let mut samples = Samples::default();
    while let Some(walked) = walk.next() {
        let walked = match walked {
            Walked::Member(member) if member.kind == MemberKind::File => {
                match samples.take(&member, &mut walk) {
                    Ok(image) => {
                        found.fetch_add(usize::from(image), Ordering::Relaxed);
                        continue;
                    }
                    Err(error) => walk.fail(member.header, &error),
                }
            }
            other => other,
        };
        match walked {
            Walked::Damage(at, text) => samples.remarks.damaged(at, text),
            Walked::Member(member) => samples.leave(&member),
        }
    }
    (samples.finish(), !walk.failed)
}

/// The samples of one archive.
#[derive(Default)]
struct Samples {
    /// The number in `list` of each key.
    numbers: HashMap<Vec<u8>, usize>,
    list: Vec<Sample>,
    /// The texts of all labels, and the number of each.
    texts: Vec<LabelText>,
    text_numbers: HashMap<LabelText, u32>,
    remarks: Remarks,
}

#[derive(Default)]
struct Sample {
    /// Name, offset and size of the image.
    image: Option<(Vec<u8>, u64, u64)>,
    cls: Option<u32>,
    json: Option<u32>,
    txt: Option<u32>,
}

impl Samples {
    /// Takes in a file. Returns whether it is another image.
    fn take(&mut self, member: &Member, walk: &mut Walk<'_>) -> io::Result<bool> {
        let name = plain_name(&member.name);
        if !name.split(|&byte| byte == b'/').all(|part| is_visible_name(OsStr::from_bytes(part))) {
            return Ok(false);
        }
        let (key, kind) = split_name(name);
        let image = is_image(&kind);
        if !image && !["cls", "json", "txt"].contains(&kind.as_str()) {
            self.remarks.left_out(kind);
            return Ok(false);
        }
        let number = *self.numbers.entry(key.to_vec()).or_insert(self.list.len());
        if number == self.list.len() {
            self.list.push(Sample::default());
        }
        if image {
            return Ok(self.take_image(number, name, member));
        }
        let text = match kind.as_str() {
            "json" => self.json_label(member, walk)?,
            _ => self.text_label(member, walk, kind == "txt")?,
        };
        let sample = &mut self.list[number];
        let slot = match kind.as_str() {
            "cls" => &mut sample.cls,
            "json" => &mut sample.json,
            _ => &mut sample.txt,
        };
        if text.is_some() && std::mem::replace(slot, text).is_some() {
            self.remark("members of one name are there twice: the last one is taken", member);
        }
        Ok(false)
    }

    fn take_image(&mut self, number: usize, name: &[u8], member: &Member) -> bool {
        let image = (name.to_vec(), member.data, member.size);
        match &mut self.list[number].image {
            slot @ None => {
                *slot = Some(image);
                true
            }
            // As when the archive is unpacked, the last one of a name stays.
            Some(old) if old.0 == name => {
                *old = image;
                self.remark("members of one name are there twice: the last one is taken", member);
                false
            }
            Some(_) => {
                self.remark("images have the key of another one, which is taken", member);
                false
            }
        }
    }

    /// Reads what a `.json` member says of the class.
    fn json_label(&mut self, member: &Member, walk: &mut Walk<'_>) -> io::Result<Option<u32>> {
        const UNKNOWN: &str = ".json members are no JSON with a label that is a number or a text";
        if member.size > MOST_JSON {
            self.remark(UNKNOWN, member);
            return Ok(None);
        }
        let bytes = walk.read(member.data, member.size as usize)?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        let fields = value.as_ref().and_then(Value::as_object);
        let given =
            |key| fields.and_then(|fields| fields.get(key)).filter(|value| !value.is_null());
        let label = match given("label").or_else(|| given("class")) {
            None if fields.is_some() => return Ok(None),
            Some(Value::Number(number)) => whole_number(number),
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        };
        if label.is_none() {
            self.remark(UNKNOWN, member);
        }
        Ok(label.filter(|text| !text.is_empty()).map(|text| self.number_of((text, false))))
    }

    /// Reads a member that is the class as text, or a caption.
    fn text_label(
        &mut self,
        member: &Member,
        walk: &mut Walk<'_>,
        caption: bool,
    ) -> io::Result<Option<u32>> {
        let bytes = match member.size {
            0..=MOST_TEXT => walk.read(member.data, member.size as usize)?,
            _ => Vec::new(),
        };
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if !text.is_empty() && !text.contains(['\n', '\r']) {
            return Ok(Some(self.number_of((text.to_owned(), caption))));
        }
        if caption {
            self.remarks.captions(1);
        } else {
            self.remark(".cls members are no number or name", member);
        }
        Ok(None)
    }

    fn number_of(&mut self, text: LabelText) -> u32 {
        if let Some(&number) = self.text_numbers.get(&text) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.text_numbers.insert(text, number);
        number
    }

    /// Counts a member that is no file.
    fn leave(&mut self, member: &Member) {
        match member.kind {
            MemberKind::Link => self.remark("links are left out, as they have no content", member),
            MemberKind::Sparse => {
                self.remark("sparse files are left out: pack them without holes", member);
            }
            MemberKind::File | MemberKind::Folder | MemberKind::Other => {}
        }
    }

    fn remark(&mut self, what: &str, member: &Member) {
        self.remarks.count(what, || {
            let name = shown::text(Path::new(OsStr::from_bytes(&member.name)));
            format!("{name} at offset {}", member.header)
        });
    }

    fn finish(mut self) -> ShardIndex {
        self.list.sort_by_key(|sample| sample.image.as_ref().map(|&(_, at, _)| at));
        let mut index = ShardIndex::default();
        for sample in self.list {
            let Some((name, at, size)) = sample.image else {
                self.remarks.count("samples have no image", String::new);
                continue;
            };
            index.offsets.push(at);
            // Such an image is refused by its size when it is read.
            index.sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
            index.labels.push(sample.cls.or(sample.json).or(sample.txt).unwrap_or(NO_LABEL));
            index.names.extend(name);
            index.name_ends.push(index.names.len() as u32);
        }
        index.texts = self.texts;
        index.remarks = self.remarks;
        index
    }
}

/// Returns the name without `./` and `/` before it.
fn plain_name(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"./").or(name.strip_prefix(b"/")) {
        name = rest;
    }
    name
}

/// Divides a name at the first dot of its last part. The second half is in lower case.
fn split_name(name: &[u8]) -> (&[u8], String) {
    let base = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = name[base..].iter().position(|&byte| byte == b'.').map_or(name.len(), |at| base + at);
    let kind = name.get(dot + 1..).unwrap_or_default();
    (&name[..dot], String::from_utf8_lossy(kind).to_ascii_lowercase())
}

/// Returns whether members of a kind are images: `jpg`, but not `seg.png`, which is something about an image.
fn is_image(kind: &str) -> bool {
    !kind.contains('.') && is_image_name(Path::new(&format!("image.{kind}")))
}

/// Returns a number as text if it is a whole one.
fn whole_number(number: &serde_json::Number) -> Option<String> {
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15)?;
        Some(float as i64)
    });
    whole.map(|whole| whole.to_string())
}
