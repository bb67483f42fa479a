//! Finds the two parts of a data set by the names of their folders, which everybody spells differently.

use super::DataError;
use super::scan::{has_images, is_image_name, is_visible_name};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Words for the training part.
const TRAINING: [&str; 5] = ["train", "training", "trn", "trainset", "trainingset"];
/// Words for the part that validation takes. An earlier one goes first where there are several.
const VALIDATION: [&str; 20] = [
    "val",
    "valset",
    "valid",
    "validset",
    "validation",
    "validationset",
    "validate",
    "dev",
    "devset",
    "devel",
    "development",
    "eval",
    "evalset",
    "evaluation",
    "holdout",
    "test",
    "testset",
    "testing",
    "testingset",
    "tst",
];
/// Words that may stand beside one of the above, as in `train_images` or `seg_test`.
const BESIDE: [&str; 14] = [
    "set", "split", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos",
    "samples", "part", "folder", "seg",
];
/// Folders around the whole data set, as archives have them, that are looked through for its parts.
const DEPTH: usize = 3;

/// What the name of a folder says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Train(usize),
    /// With the place of its word in [`VALIDATION`].
    Validation(usize),
}

impl Role {
    /// Returns the word that stands for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Train(_) => TRAINING[0],
            Self::Validation(rank) => VALIDATION[rank],
        }
    }

    /// Returns the same role for all words that mean training.
    pub fn merged(self) -> Self {
        if let Self::Train(_) = self { Self::Train(0) } else { self }
    }
}

/// The roles whose images are taken for the two parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AssignedRoles {
    /// `None` stands for images without a role.
    pub train: Option<Role>,
    pub val: Option<Role>,
}

/// Decides which roles become the two parts, of those that there are. What has no role is taken only if nothing is for
/// training by its name.
pub(super) fn assign(present: &BTreeSet<Option<Role>>) -> AssignedRoles {
    let named = |is: fn(&Role) -> bool| present.iter().flatten().copied().find(is);
    let train = named(|role| matches!(role, Role::Train(_)));
    let val = named(|role| matches!(role, Role::Validation(_)));
    match (train, present.contains(&None)) {
        (None, true) => AssignedRoles { train: None, val },
        (None, false) => AssignedRoles { train: val, val: None },
        (train, _) => AssignedRoles { train, val },
    }
}

/// Returns what the name of a file says: that of a whole shard name like `train-00000-of-00005-0123456789abcdef`, or the
/// only word of a part in a name.
pub(super) fn file_role(file: &Path) -> Option<Role> {
    let stem = file.file_stem()?.to_str()?;
    let shard = stem.find("-of-").and_then(|at| stem[..at].rfind('-')).map(|at| &stem[..at]);
    let name = shard.unwrap_or(stem);
    role(Path::new(name)).or_else(|| {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        let roles: BTreeSet<Role> = words.filter_map(|word| role(Path::new(word))).collect();
        if roles.len() == 1 { roles.first().copied() } else { None }
    })
}

/// The folders that the images of a data set are in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FolderParts {
    pub train: PathBuf,
    pub val: Option<PathBuf>,
    /// What the keys of the training images begin with.
    pub prefix: PathBuf,
    /// What people should know about the choice.
    pub notes: Vec<String>,
}

impl FolderParts {
    fn whole(path: &Path) -> Self {
        Self { train: path.to_owned(), val: None, prefix: PathBuf::new(), notes: Vec::new() }
    }
}

/// Returns the parts of the data set at `path`. A folder without parts is one part as a whole, and so is a file.
///
/// # Errors
/// Returns an error if the folder can't be listed.
pub(super) fn find(path: &Path) -> Result<FolderParts, DataError> {
    if !path.is_dir() {
        return Ok(FolderParts::whole(path));
    }
    let mut listing = Listing::of(path)?;
    let parts = listing.parts(path);
    if parts.val.is_some() || !parts.prefix.as_os_str().is_empty() {
        return Ok(parts);
    }
    // An archive often has the whole data set in one folder.
    for _ in 0..DEPTH {
        let [only] = listing.folders.as_slice() else { break };
        let inner = only.clone();
        let Ok(next) = Listing::of(&inner) else { break };
        let found = next.parts(&inner);
        if !listing.loose && found.val.is_some() {
            return Ok(found);
        }
        listing = next;
    }
    Ok(parts)
}

/// What lies directly in a folder.
struct Listing {
    /// Sub-folders that aren't hidden, by name.
    folders: Vec<PathBuf>,
    /// Whether there are images, too.
    loose: bool,
}

impl Listing {
    fn of(path: &Path) -> Result<Self, DataError> {
        let io = |error| DataError::io(path, error);
        let (mut folders, mut loose) = (Vec::new(), false);
        for entry in std::fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(io)?);
            if !is_visible_name(&name) {
                continue;
            }
            let path = entry.path();
            if kind.is_dir() || kind.is_symlink() && path.is_dir() {
                folders.push(path);
            } else {
                loose |= is_image_name(&path);
            }
        }
        folders.sort_unstable();
        Ok(Self { folders, loose })
    }

    fn parts(&self, path: &Path) -> FolderParts {
        let named = |wanted: fn(Role) -> Option<usize>| {
            let ranked =
                self.folders.iter().filter_map(|folder| Some((wanted(role(folder)?)?, folder)));
            ranked.min().map(|(_, folder)| folder)
        };
        let train = named(|role| if let Role::Train(rank) = role { Some(rank) } else { None });
        let val = named(|role| if let Role::Validation(rank) = role { Some(rank) } else { None });
        match (train, val) {
            (Some(train), Some(val)) => FolderParts {
                train: train.clone(),
                val: Some(val.clone()),
                prefix: PathBuf::new(),
                notes: self.unused(&[train, val]).into_iter().collect(),
            },
            (Some(only), None) | (None, Some(only)) => self.one_part(path, only),
            (None, None) => FolderParts::whole(path),
        }
    }

    /// Decides whether one folder with the name of a part is one, or a class like the folders beside it.
    fn one_part(&self, path: &Path, only: &Path) -> FolderParts {
        let classes = Listing::of(only)
            .is_ok_and(|inner| inner.folders.iter().any(|folder| has_images(folder)));
        let others: Vec<&PathBuf> =
            self.folders.iter().filter(|folder| *folder != only && has_images(folder)).collect();
        if others.is_empty() && (classes || !self.loose) {
            return FolderParts {
                train: only.to_owned(),
                val: None,
                prefix: only.file_name().map(PathBuf::from).unwrap_or_default(),
                notes: self.unused(&[only]).into_iter().collect(),
            };
        }
        let mut parts = FolderParts::whole(path);
        if classes {
            parts.notes.push(format!(
                "{} and {} are taken as classes; for a training and a validation part, call them train and val",
                folder_name(only),
                others.iter().take(3).map(|folder| folder_name(folder)).collect::<Vec<_>>().join(", ")
            ));
        }
        parts
    }

    /// Says which images lie beside the parts and are left out.
    fn unused(&self, parts: &[&Path]) -> Option<String> {
        let beside = self.folders.iter().filter(|folder| !parts.contains(&folder.as_path()));
        let mut left: Vec<String> =
            beside.filter(|folder| has_images(folder)).map(|folder| folder_name(folder)).collect();
        if self.loose {
            left.push("the images directly in the folder".to_owned());
        }
        let used: Vec<String> = parts.iter().map(|part| folder_name(part)).collect();
        (!left.is_empty())
            .then(|| format!("beside {}, left out: {}", used.join(" and "), left.join(", ")))
    }
}

fn folder_name(folder: &Path) -> String {
    format!("{}/", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Returns what the name of a folder says, in any case, with numbers (`train2017`) and with words like `images`.
pub(super) fn role(folder: &Path) -> Option<Role> {
    let name = folder.file_name()?.to_str()?.to_ascii_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()));
    let mut found = None;
    for word in words.filter(|word| !word.is_empty() && !BESIDE.contains(word)) {
        let training = TRAINING.iter().position(|known| *known == word).map(Role::Train);
        let place = VALIDATION.iter().position(|known| *known == word).map(Role::Validation);
        let role = training.or(place)?;
        if found.replace(role).is_some() {
            return None; // `train_val` is no part of its own
        }
    }
    found
}

/// Returns what the path of a shard says, relative to the data set: its folders first, then its name.
pub(super) fn shard_role(file: &Path) -> Option<Role> {
    let mut folders = file.parent().into_iter().flat_map(Path::iter);
    let folder = folders.find_map(|folder| role(Path::new(folder)));
    folder.or_else(|| file_role(file)).map(Role::merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_known_in_every_spelling() {
        let is = |name: &str| role(Path::new(name));
        for name in [
            "train",
            "Train",
            "TRAINING",
            "train_images",
            "Train-Set",
            "trainset",
            "train2017",
            "seg_train",
        ] {
            assert!(matches!(is(name), Some(Role::Train(_))), "{name}");
        }
        for name in [
            "val",
            "Valid",
            "VALIDATION",
            "dev",
            "Eval",
            "test",
            "Testing",
            "test_set",
            "val2017",
            "Validation Set",
        ] {
            assert!(matches!(is(name), Some(Role::Validation(_))), "{name}");
        }
        for name in [
            "trains",
            "train_station",
            "test tube",
            "trainval",
            "cat",
            "2017",
            "images",
            "training-test",
        ] {
            assert_eq!(is(name), None, "{name}");
        }
        assert!(
            is("val") < is("Validation") && is("dev") < is("test") && is("eval") < is("testing")
        );
    }
}
