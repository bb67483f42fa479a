use super::super::scan::is_visible_name;
use super::*;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};
use walkdir::WalkDir;

/// The time that a folder must be unchanged before its times are trusted: longer than a tick of a disk's clock.
pub(super) const MARGIN: Duration = Duration::from_millis(40);
const SETTLED: Duration = Duration::from_millis(80);

/// A tree, and a folder for its list.
struct Place {
    tree: TempDir,
    lists: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { tree: tempdir().unwrap(), lists: tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    fn write(&self, name: &str) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), "").unwrap();
    }

    fn tree(&self) -> Tree {
        KeptLists::at(self.lists.path(), false).list(self.tree.path()).unwrap()
    }

    /// Lists the tree with what is known of it, checks the result against a plain walk, and returns how many folders were
    /// taken from the index.
    fn check(&self, what: &str) -> usize {
        let mut tree = self.tree();
        let known = tree.folders.iter().filter(|f| matches!(f.content, Content::Known(_))).count();
        let others = tree.others();
        let paths = |names: &Names| -> Vec<PathBuf> {
            let paths = (0..names.len()).filter_map(|at| names.get(at));
            paths
                .map(|(group, name)| join(Path::new(""), &joined(names.group_name(group), name)))
                .collect()
        };
        let (images, plain_others) = plain(self.tree.path());
        assert_eq!(paths(&others), plain_others, "{what}: others");
        assert_eq!(paths(&tree.into_images(&vec![false; others.len()])), images, "{what}: images");
        known
    }

    fn list(&self) -> Option<PathBuf> {
        fs::read_dir(self.lists.path()).unwrap().next().map(|entry| entry.unwrap().path())
    }
}

/// Lists a tree as it was done before there was an index: images by name, and other files.
fn plain(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || is_visible_name(entry.file_name());
    let (mut images, mut others) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(visible) {
        let (path, is_file) = match &entry {
            Ok(entry) => (entry.path().to_owned(), entry.file_type().is_file()),
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap().to_owned();
                let dangles = path.is_symlink() && !path.exists() && is_image_name(&path);
                (path, dangles)
            }
        };
        if is_file {
            let list = if is_image_name(&path) { &mut images } else { &mut others };
            list.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    images.sort_unstable();
    others.sort_unstable();
    (images, others)
}

type Change<'a> = (&'a str, usize, Box<dyn Fn() + 'a>);

#[expect(clippy::too_many_lines, reason = "a table of changes")]
#[test]
fn a_list_is_that_of_a_plain_walk_before_and_after_every_change() {
    let (place, far) = (Place::new(), tempdir().unwrap());
    for name in
        ["b/1.png", "b/sub/2.png", "b/z.png", "b-c/3.png", "b.jpg", "a/x", "a/.hidden/4.png"]
    {
        place.write(name);
    }
    fs::write(far.path().join("real.jpg"), "").unwrap();
    fs::create_dir(far.path().join("class")).unwrap();
    fs::write(far.path().join("class/5.png"), "").unwrap();
    symlink(far.path().join("real.jpg"), place.at("b/link.jpg")).unwrap();
    symlink(far.path().join("class"), place.at("linked")).unwrap();
    symlink(place.tree.path(), place.at("b/sub/loop")).unwrap();
    symlink("../b-c", place.at("a/beside")).unwrap();
    symlink("/nowhere.png", place.at("a/dangling.png")).unwrap();
    symlink(far.path().join("later"), place.at("a/later")).unwrap();
    std::thread::sleep(SETTLED);
    assert_eq!(place.check("nothing known"), 0);
    let all = place.check("all known");
    assert_eq!(all, 7, "the root, a, a/beside, b, b/sub, b-c, linked");

    // The folders that can't be taken from the index then: the changed ones, those that are gone, and those with links
    // into them.
    let far = far.path();
    let changes: Vec<Change<'_>> = vec![
        ("a new file", 1, Box::new(|| place.write("b/0.png"))),
        (
            "a file renamed to another class",
            2,
            Box::new(|| {
                fs::rename(place.at("b/1.png"), place.at("b/sub/1.png")).unwrap();
            }),
        ),
        (
            "a file gone from a folder with two paths",
            2,
            Box::new(|| {
                fs::remove_file(place.at("b-c/3.png")).unwrap();
            }),
        ),
        (
            "a file in a linked folder",
            1,
            Box::new(|| fs::write(far.join("class/6.png"), "").unwrap()),
        ),
        (
            "the target of a file link is a folder now",
            1,
            Box::new(|| {
                fs::remove_file(far.join("real.jpg")).unwrap();
                fs::create_dir(far.join("real.jpg")).unwrap();
                fs::write(far.join("real.jpg/7.png"), "").unwrap();
            }),
        ),
        (
            "a link to nowhere leads somewhere",
            1,
            Box::new(|| {
                fs::create_dir(far.join("later")).unwrap();
                fs::write(far.join("later/8.png"), "").unwrap();
            }),
        ),
        (
            "a link leads elsewhere",
            2,
            Box::new(|| {
                fs::remove_file(place.at("linked")).unwrap();
                symlink(far.join("later"), place.at("linked")).unwrap();
            }),
        ),
        ("a folder gone", 2, Box::new(|| fs::remove_dir_all(place.at("b/sub")).unwrap())),
        (
            "a folder in the place of another",
            4,
            Box::new(|| {
                fs::rename(place.at("b-c"), far.join("b-c")).unwrap();
                place.write("b-c/9.png");
            }),
        ),
        ("a new class", 1, Box::new(|| place.write("new/10.png"))),
        (
            "times put back",
            1,
            Box::new(|| {
                let folder = File::open(place.at("b")).unwrap();
                let modified = folder.metadata().unwrap().modified().unwrap();
                place.write("b/sly.png");
                folder.set_modified(modified).unwrap();
            }),
        ),
    ];
    for (what, changed, change) in changes {
        std::thread::sleep(SETTLED);
        place.check("all of it becomes known");
        let all = place.check("all of it is known");
        change();
        assert_eq!(place.check(what) + changed, all, "{what}");
    }
}

#[test]
fn a_folder_that_was_changed_just_before_it_was_listed_is_listed_again() {
    let place = Place::new();
    place.write("a/1.png");
    let lists = KeptLists {
        margin: Some(Duration::from_hours(1)),
        ..KeptLists::at(place.lists.path(), false)
    };
    for _ in 0..2 {
        let tree = lists.list(place.tree.path()).unwrap();
        assert!(tree.folders.iter().all(|folder| matches!(folder.content, Content::Listed(_))));
        assert!(tree.kept().is_empty());
    }
    std::thread::sleep(SETTLED);
    assert_eq!((place.check("old enough now"), place.check("and known")), (0, 2));
}

#[test]
fn folders_that_are_trusted_are_not_listed_again_and_relisting_is_forced() {
    let place = Place::new();
    place.write("a/1.png");
    std::thread::sleep(SETTLED);
    assert_eq!((place.check("first"), place.check("second")), (0, 2));
    // An index that says otherwise shows that it is what is read.
    let file = place.list().unwrap();
    let root = place.tree.path().canonicalize().unwrap();
    let forged = {
        let mut tree = place.tree();
        let folder = tree.folders.iter_mut().find(|folder| &*folder.path == b"a").unwrap();
        folder.content = Content::Listed(b"\x00\x05\x002.png".to_vec());
        index::write(&file, &root, &tree.kept()).unwrap();
        place.tree()
    };
    assert_eq!(forged.into_images(&[]).get(0).map(|(_, name)| name), Some(&b"2.png"[..]));
    let anew = KeptLists::at(place.lists.path(), true).list(place.tree.path()).unwrap();
    assert_eq!(anew.into_images(&[]).get(0).map(|(_, name)| name), Some(&b"1.png"[..]));
    assert_eq!(place.check("written anew"), 2);
}

#[test]
fn a_small_tree_leaves_no_list_and_a_cache_that_cannot_be_written_is_no_error() {
    let place = Place::new();
    place.write("a/1.png");
    std::thread::sleep(SETTLED);
    let mut usual = KeptLists::at(place.lists.path(), false);
    usual.worth = 2;
    usual.list(place.tree.path()).unwrap();
    assert_eq!((place.list(), usual.size()), (None, (0, 0)));
    place.check("a list of one");
    assert_eq!(usual.size().0, 1);
    usual.list(place.tree.path()).unwrap();
    assert_eq!(place.list(), None, "the tree has become small");
    let file = place.lists.path().join("file");
    fs::write(&file, "").unwrap();
    let (nowhere, mut none) =
        (KeptLists::at(&file.join("below"), false), KeptLists::at(&file, false));
    none.folder = None;
    for lists in [nowhere, none] {
        assert_eq!(lists.list(place.tree.path()).unwrap().images(), 1);
    }
}

#[test]
fn an_index_that_is_damaged_or_a_stranger_s_is_written_anew() {
    let place = Place::new();
    place.write("a/1.png");
    std::thread::sleep(SETTLED);
    place.check("first");
    let file = place.list().unwrap();
    let good = fs::read(&file).unwrap();
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    for (what, bytes, mode) in [
        ("damaged", &damaged[..], 0o600),
        ("cut off", &good[..good.len() / 2], 0o600),
        ("empty", &[], 0o600),
        ("writable by others", &good, 0o666),
    ] {
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!((place.check(what), place.check(what)), (0, 2), "{what}");
    }
}

#[test]
fn processes_that_list_at_once_leave_a_whole_list() {
    let place = Place::new();
    for number in 0..300 {
        place.write(&format!("{}/{number}.png", number % 7));
    }
    std::thread::sleep(SETTLED);
    let until = SystemTime::now() + Duration::from_millis(400);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while SystemTime::now() < until {
                    let lists = KeptLists::at(place.lists.path(), true);
                    assert_eq!(lists.list(place.tree.path()).unwrap().images(), 300);
                    assert_eq!(place.tree().images(), 300);
                }
            });
        }
    });
    assert_eq!(place.check("afterwards"), 8);
}

#[test]
fn a_folder_that_may_not_be_read_is_named_with_and_without_an_index() {
    let place = Place::new();
    place.write("a/1.png");
    fs::create_dir(place.at("b")).unwrap();
    symlink(place.at("gone"), place.at("gone")).unwrap();
    std::thread::sleep(SETTLED);
    place.check("first");
    fs::rename(place.at("b"), place.at("c")).unwrap();
    fs::set_permissions(place.at("c"), fs::Permissions::from_mode(0o0)).unwrap();
    for _ in 0..2 {
        let tree = place.tree();
        // Root may read it all the same.
        let refused = fs::read_dir(place.at("c")).is_err();
        let named: Vec<&str> = tree.unreadable.iter().map(String::as_str).collect();
        let expected = format!("{} (Permission denied (os error 13))", place.at("c").display());
        assert_eq!(named, if refused { vec![expected.as_str()] } else { vec![] });
    }
    fs::set_permissions(place.at("c"), fs::Permissions::from_mode(0o700)).unwrap();
}
