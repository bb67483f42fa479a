//! Lists trees of files on several threads, and keeps the list of a large one for the next start.
//!
//! The index in the user's cache folder says what every folder held when it was listed. A folder whose times are still the
//! same isn't listed again. See [`stamp`] for when that can be trusted, and [`entries::Kind`] for what is looked at each
//! time all the same.

mod entries;
mod index;
mod kept;
mod stamp;

pub use kept::{KeptLists, list_anew};

use super::DataError;
use super::names::Names;
use super::parallel::in_parallel;
use super::scan::is_image_name;
use crate::shown;
use crate::text::count::Count;
use entries::{Kind, entry};
use index::{Index, KeptFolder};
use stamp::{FolderId, FolderStamp, Found, Looker};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files of a tree.
pub(super) struct Tree {
    folders: Vec<Folder>,
    index: Option<Index>,
    /// Folders that can't be read, with the reason.
    pub unreadable: BTreeSet<String>,
}

/// A folder of the tree.
struct Folder {
    /// Relative to the root.
    path: Box<[u8]>,
    parent: Option<usize>,
    id: FolderId,
    content: Content,
    /// What the folders and links among the entries are, in order.
    below: Vec<Below>,
    /// What the index needs to know, if the times of the folder can be trusted.
    stamp: Option<FolderStamp>,
    targets: Vec<(Vec<u8>, FolderStamp)>,
}

/// Where the entries of a folder are.
enum Content {
    /// In the index.
    Known(Range<usize>),
    /// Listed now.
    Listed(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Below {
    Nothing,
    Image,
    Other,
    /// A folder by its number.
    Folder(usize),
    /// A folder that isn't listed yet. Of a link, it is known which one.
    New(Option<FolderId>),
}

/// A folder that is to be listed.
struct Task {
    path: Box<[u8]>,
    parent: Option<usize>,
    /// The place among those [`Folder::below`] its parent.
    place: usize,
}

/// Lists the files below the folder `root`. `known` is its index.
///
/// # Errors
/// If `root` itself can't be listed.
fn list(root: &Path, known: Option<Index>, looker: &Looker) -> Result<Tree, DataError> {
    let counted = Count::new(format!("listing {}", shown::path(root)), "images");
    let mut tree = Tree { folders: Vec::new(), index: known, unreadable: BTreeSet::new() };
    let mut tasks = vec![Task { path: Box::default(), parent: None, place: 0 }];
    while !tasks.is_empty() {
        let listed = in_parallel(tasks.len(), |at| {
            let task = &tasks[at];
            let folder = visit(root, task, looker, tree.index.as_ref());
            if let Ok(folder) = &folder {
                counted.add(count(folder.content.bytes(tree.index.as_ref())).0);
            }
            folder
        });
        let mut next = Vec::new();
        for (task, folder) in tasks.into_iter().zip(listed) {
            match folder {
                Ok(folder) => tree.add(folder, task.place, &mut next),
                Err(source) if task.parent.is_none() => {
                    return Err(DataError::Read { path: root.to_owned(), source });
                }
                Err(source) => {
                    let path = join(root, &task.path);
                    tree.unreadable.insert(format!("{} ({source})", path.display()));
                    tree.set_below(&task, Below::Nothing);
                }
            }
        }
        tasks = next;
    }
    Ok(tree)
}

/// Lists one folder, or takes what the index says of it.
fn visit(root: &Path, task: &Task, looker: &Looker, index: Option<&Index>) -> io::Result<Folder> {
    let path = join(root, &task.path);
    let Found { stamp, id, lasting } = looker.look(&path)?;
    let known = index.and_then(|index| index.get(&task.path));
    let is_same = |(target, stamp): &(Vec<u8>, FolderStamp)| {
        looker.look(&join(&path, target)).is_ok_and(|found| found.stamp == *stamp)
    };
    let known = known.filter(|known| known.stamp == stamp && known.targets.iter().all(is_same));
    let (content, targets, lasting) = if let Some(known) = known {
        (Content::Known(known.entries.clone()), known.targets.clone(), true)
    } else {
        let entries::Read { entries, targets, lasting: whole } = entries::read(&path, looker)?;
        (Content::Listed(entries), targets, lasting && whole)
    };
    let below = look_below(&path, content.bytes(index));
    let stamp = lasting.then_some(stamp);
    Ok(Folder { path: task.path.clone(), parent: task.parent, id, content, below, stamp, targets })
}

/// Finds out what the folders and links among the entries are.
fn look_below(folder: &Path, entries: &[u8]) -> Vec<Below> {
    let mut found = Vec::new();
    let (mut at, mut links) = (0, Vec::new());
    while let Some((kind, name, next)) = entry(entries, at) {
        match kind {
            Kind::Folder => found.push(Below::New(None)),
            Kind::Link => {
                links.push((found.len(), name));
                found.push(Below::Nothing);
            }
            Kind::Image | Kind::Other => {}
        }
        at = next;
    }
    let looked = in_parallel(links.len(), |at| {
        let name = links[at].1;
        let named = is_image_name(Path::new(OsStr::from_bytes(name)));
        match std::fs::metadata(join(folder, name)) {
            Ok(target) if target.is_dir() => Below::New(Some((target.dev(), target.ino()))),
            Ok(target) if target.is_file() && !named => Below::Other,
            // A link to nowhere counts as one unreadable image, or as nothing if its name isn't that of an image.
            Ok(target) if !target.is_file() => Below::Nothing,
            _ if named => Below::Image,
            _ => Below::Nothing,
        }
    });
    for ((place, _), below) in links.into_iter().zip(looked) {
        found[place] = below;
    }
    found
}

impl Content {
    fn bytes<'a>(&'a self, index: Option<&'a Index>) -> &'a [u8] {
        match self {
            Self::Listed(entries) => entries,
            Self::Known(place) => index.map_or(&[], |index| index.entries(place.clone())),
        }
    }
}

impl Tree {
    /// Adds a folder, and those in it to what is to be listed next.
    fn add(&mut self, mut folder: Folder, place: usize, next: &mut Vec<Task>) {
        let number = self.folders.len();
        if let Some(parent) = folder.parent {
            self.folders[parent].below[place] = Below::Folder(number);
        }
        let (mut at, mut below) = (0, 0);
        let entries = folder.content.bytes(self.index.as_ref());
        while let Some((kind, name, after)) = entry(entries, at) {
            at = after;
            if !matches!(kind, Kind::Folder | Kind::Link) {
                continue;
            }
            if let Below::New(target) = folder.below[below] {
                // A link back to a folder above adds nothing: its files are listed there.
                if target.is_some_and(|target| self.is_above(target, folder.id, folder.parent)) {
                    folder.below[below] = Below::Nothing;
                } else {
                    let path = joined(&folder.path, name).into();
                    next.push(Task { path, parent: Some(number), place: below });
                }
            }
            below += 1;
        }
        self.folders.push(folder);
    }

    fn is_above(&self, target: FolderId, own: FolderId, mut parent: Option<usize>) -> bool {
        let mut found = target == own;
        while let (false, Some(number)) = (found, parent) {
            found = self.folders[number].id == target;
            parent = self.folders[number].parent;
        }
        found
    }

    fn set_below(&mut self, task: &Task, below: Below) {
        if let Some(parent) = task.parent {
            self.folders[parent].below[task.place] = below;
        }
    }

    /// Calls `see` with each file, sorted by path: the number of its folder, whether it is called like an image, and its
    /// name. Calls `leave` with each folder that is done.
    fn walk(
        &mut self,
        mut see: impl FnMut(usize, &[u8], bool, &[u8]),
        mut leave: impl FnMut(&mut Folder),
    ) {
        // Folder, offset of the next entry, and place of the next folder or link.
        let mut stack = vec![(0, 0, 0)];
        while let Some((number, at, below)) = stack.pop() {
            let folder = &self.folders[number];
            let Some((kind, name, next)) = entry(folder.content.bytes(self.index.as_ref()), at)
            else {
                leave(&mut self.folders[number]);
                continue;
            };
            let is_below = matches!(kind, Kind::Folder | Kind::Link);
            stack.push((number, next, below + usize::from(is_below)));
            let what = match kind {
                Kind::Image => Below::Image,
                Kind::Other => Below::Other,
                Kind::Folder | Kind::Link => folder.below[below],
            };
            match what {
                Below::Image => see(number, &folder.path, true, name),
                Below::Other => see(number, &folder.path, false, name),
                Below::Folder(inner) => stack.push((inner, 0, 0)),
                Below::Nothing | Below::New(_) => {}
            }
        }
    }

    /// Returns the files that aren't called like images, sorted by path.
    pub fn others(&mut self) -> Names {
        let mut others = Grouped::new(self.folders.len(), Names::default());
        self.walk(
            |folder, path, is_image, name| {
                if !is_image {
                    others.push(folder, path, name);
                }
            },
            |_| {},
        );
        others.names
    }

    /// Returns the images, sorted by path. `taken` says which of the [others](Self::others) are images.
    pub fn into_images(mut self, taken: &[bool]) -> Names {
        let sizes =
            self.folders.iter().map(|folder| count(folder.content.bytes(self.index.as_ref())));
        let (images, bytes) = sizes.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let mut names = Grouped::new(self.folders.len(), Names::with_capacity(images, bytes));
        let mut taken = taken.iter();
        self.walk(
            |folder, path, is_image, name| {
                if is_image || taken.next() == Some(&true) {
                    names.push(folder, path, name);
                }
            },
            |folder| folder.content = Content::Listed(Vec::new()),
        );
        names.names.shrink();
        names.names
    }

    /// Returns whether the index lacks something that the next start could use.
    fn has_news(&self) -> bool {
        let known = |folder: &&Folder| matches!(folder.content, Content::Known(_));
        let listed = self.folders.iter().filter(|folder| !known(folder) && folder.stamp.is_some());
        let known = self.folders.iter().filter(known).count();
        listed.count() > 0 || self.index.as_ref().is_some_and(|index| index.len() > known)
    }

    /// Returns what the index is to hold.
    fn kept(&self) -> Vec<KeptFolder<'_>> {
        let kept = |folder| {
            let Folder { path, stamp, targets, content, .. }: &Folder = folder;
            let entries = content.bytes(self.index.as_ref());
            Some(KeptFolder { path, stamp: (*stamp)?, targets, entries })
        };
        self.folders.iter().filter_map(kept).collect()
    }

    /// Returns the number of files that are called like images, without links.
    fn images(&self) -> usize {
        self.folders.iter().map(|folder| count(folder.content.bytes(self.index.as_ref())).0).sum()
    }
}

/// Names whose groups are folders of the tree.
struct Grouped {
    names: Names,
    /// The group of each folder that has one.
    groups: Vec<Option<usize>>,
}

impl Grouped {
    fn new(folders: usize, names: Names) -> Self {
        Self { names, groups: vec![None; folders] }
    }

    fn push(&mut self, folder: usize, path: &[u8], name: &[u8]) {
        let group = *self.groups[folder].get_or_insert_with(|| self.names.add_group(path));
        self.names.push(group, name);
    }
}

/// Returns the number of images among the entries of a folder, and the bytes of their names.
fn count(entries: &[u8]) -> (usize, usize) {
    let (mut at, mut images, mut bytes) = (0, 0, 0);
    while let Some((kind, name, next)) = entry(entries, at) {
        if kind == Kind::Image {
            images += 1;
            bytes += name.len();
        }
        at = next;
    }
    (images, bytes)
}

/// Returns a path below a folder. An empty one is the folder itself.
pub(super) fn join(folder: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { folder.to_owned() } else { folder.join(OsStr::from_bytes(path)) }
}

/// Returns a relative path from those of a folder, which may be empty, and of a file in it.
pub(super) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if folder.is_empty() || name.is_empty() { b"" } else { b"/" };
    [folder, separator, name].concat()
}

#[cfg(test)]
mod tests;
