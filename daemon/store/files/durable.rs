//! A model of the files that a power cut leaves of a data directory.
//!
//! The model learns each operation that succeeded. Pessimistic at every point that POSIX leaves open: content that was
//! not synced is lost, whatever its name says; a name that was not synced with its directory is as it was before, also
//! for a file whose content was synced. A rename is atomic: a sync of either directory makes both ends durable, as
//! journals do. Directories that are renamed or removed as a whole, and the files of LMDB, are durable at once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::FileOperation;

/// Files and directories by their path in the data directory; a directory has no content.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// LMDB's file with the index, which LMDB changes and syncs by itself.
const INDEX: &str = "index/data.mdb";

/// The content that a power cut leaves of a file that was never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsynced {
    /// The file is empty.
    Empty,
    /// The file has its length, and zeros.
    Zeros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    /// A file, by its number in [`Model::contents`].
    File(usize),
}

/// A change of names that is not durable.
struct Pending {
    directories: Vec<PathBuf>,
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

/// The names and the content of a data directory: the current ones, and the durable ones.
pub(super) struct Model {
    root: PathBuf,
    current: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// In their order.
    pending: Vec<Pending>,
    /// The content of each file as it was last synced.
    contents: Vec<Option<Vec<u8>>>,
    /// The numbers of the files by inode.
    numbers: HashMap<u64, usize>,
}

impl Model {
    /// Returns a model of a directory in which everything is durable.
    pub(super) fn of(root: &Path) -> Self {
        let mut model = Model {
            root: root.to_owned(),
            current: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            contents: Vec::new(),
            numbers: HashMap::new(),
        };
        for (path, content) in read_tree(root) {
            let node = match content {
                None => Node::Directory,
                Some(content) => {
                    let inode = fs::metadata(root.join(&path)).unwrap().ino();
                    let node = model.new_file(inode);
                    *model.contents.last_mut().unwrap() = Some(content);
                    node
                }
            };
            model.current.insert(path, node);
        }
        model.durable.clone_from(&model.current);
        model
    }

    fn new_file(&mut self, inode: u64) -> Node {
        let number = self.contents.len();
        self.contents.push(None);
        self.numbers.insert(inode, number);
        Node::File(number)
    }

    /// Learns an operation that succeeded.
    pub(super) fn learn(&mut self, operation: FileOperation<'_>) {
        match operation {
            FileOperation::Open(_) | FileOperation::Write | FileOperation::SetLength => {}
            FileOperation::Create(path) => self.created(path),
            FileOperation::CreateDirectory(path) => self.created_directory(path),
            FileOperation::Sync(file) => self.synced(file),
            FileOperation::SyncDirectory(path) => {
                let directory = self.relative(path);
                self.synced_directory(&directory);
            }
            FileOperation::Rename(from, to) => {
                let (from, to) = (self.relative(from), self.relative(to));
                match self.current.remove(&from) {
                    Some(Node::Directory) => self.renamed_directory(&from, &to),
                    Some(node) => self.changed(Some(from), Some((to, node))),
                    // A file that was not created by way of the layer, such as one of LMDB.
                    None => {}
                }
            }
            FileOperation::Link(file, name) => {
                let (file, name) = (self.relative(file), self.relative(name));
                if let Some(node) = self.current.get(&file).copied() {
                    self.changed(None, Some((name, node)));
                }
            }
            FileOperation::RemoveFile(path) => {
                let path = self.relative(path);
                if self.current.remove(&path).is_some() {
                    self.changed(Some(path), None);
                }
            }
            FileOperation::RemoveDirectory(path) => {
                let path = self.relative(path);
                self.current.remove(&path);
                self.durable.remove(&path);
            }
        }
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).expect("the path is in the data directory").to_owned()
    }

    fn created(&mut self, path: &Path) {
        // An unnamed file is created in a directory; it is gone after a power cut.
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        let path = self.relative(path);
        if metadata.is_file() && !self.current.contains_key(&path) {
            let node = self.new_file(metadata.ino());
            self.changed(None, Some((path, node)));
        }
    }

    fn created_directory(&mut self, path: &Path) {
        let path = self.relative(path);
        let missing: Vec<_> =
            path.ancestors().filter(|path| !self.current.contains_key(*path)).map(Path::to_owned).collect();
        for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            self.changed(None, Some((path, Node::Directory)));
        }
    }

    fn renamed_directory(&mut self, from: &Path, to: &Path) {
        for names in [&mut self.current, &mut self.durable] {
            let moved: Vec<_> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            names.insert(to.to_owned(), Node::Directory);
            for path in moved {
                if let Some(node) = names.remove(&path) {
                    let rest = path.strip_prefix(from).unwrap();
                    names.insert(
                        if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) },
                        node,
                    );
                }
            }
        }
    }

    fn changed(&mut self, removed: Option<PathBuf>, added: Option<(PathBuf, Node)>) {
        if let Some((path, node)) = &added {
            self.current.insert(path.clone(), *node);
        }
        let paths = removed.iter().chain(added.iter().map(|(path, _)| path));
        let directories = paths.map(|path| path.parent().unwrap().to_owned()).collect();
        self.pending.push(Pending { directories, removed, added });
    }

    fn synced(&mut self, file: &File) {
        let inode = file.metadata().unwrap().ino();
        // By way of /proc, as the file may be open for writing only.
        let content = fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if let (Some(number), Ok(content)) = (self.numbers.get(&inode), content) {
            self.contents[*number] = Some(content);
        }
    }

    fn synced_directory(&mut self, directory: &Path) {
        let (synced, mut pending): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.directories.iter().any(|one| one == directory));
        for Pending { removed, added, .. } in synced {
            if let Some(removed) = removed {
                // That the name once came into being must not make it durable later.
                pending.retain(|earlier| earlier.added.as_ref().is_none_or(|(path, _)| *path != removed));
                self.durable.remove(&removed);
            }
            if let Some((path, node)) = added {
                self.durable.insert(path, node);
            }
        }
        self.pending = pending;
    }

    /// Returns the files that a power cut would leave now.
    pub(super) fn after_power_cut(&self, unsynced: Unsynced) -> Tree {
        let mut tree: Tree =
            self.durable.iter().map(|(path, node)| (path.clone(), self.content(*node, unsynced))).collect();
        tree.remove(Path::new(INDEX));
        if let Ok(index) = fs::read(self.root.join(INDEX)) {
            tree.insert("index".into(), None);
            tree.insert(INDEX.into(), Some(index));
        }
        tree
    }

    fn content(&self, node: Node, unsynced: Unsynced) -> Option<Vec<u8>> {
        let Node::File(number) = node else { return None };
        let lost = || match unsynced {
            Unsynced::Empty => Vec::new(),
            Unsynced::Zeros => vec![0; self.length(number)],
        };
        Some(self.contents[number].clone().unwrap_or_else(lost))
    }

    fn length(&self, number: usize) -> usize {
        let name = self.current.iter().find(|(_, node)| **node == Node::File(number));
        let length = name.and_then(|(path, _)| fs::metadata(self.root.join(path)).ok());
        length.map_or(0, |metadata| usize::try_from(metadata.len()).unwrap())
    }
}

/// Reads all files below a directory, without LMDB's lock file, which means nothing after a restart.
pub(super) fn read_tree(root: &Path) -> Tree {
    fn read(root: &Path, directory: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                tree.insert(path.clone(), None);
                read(root, &path, tree);
            } else if let Ok(content) = fs::read(entry.path())
                && path != Path::new("index/lock.mdb")
            {
                tree.insert(path, Some(content));
            }
        }
    }
    let mut tree = Tree::new();
    read(root, Path::new(""), &mut tree);
    tree
}

/// Writes files into an empty directory.
#[expect(clippy::disallowed_methods, reason = "prepares a data directory for a test")]
pub(super) fn write_tree(tree: &Tree, root: &Path) -> io::Result<()> {
    for (path, content) in tree {
        let path = root.join(path);
        match content {
            None => fs::create_dir_all(path)?,
            Some(content) => fs::write(path, content)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::Files;
    use crate::store::files::crash::{At, Crash};

    #[test]
    fn only_what_was_synced_survives() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (crash, _observed) = Crash::observe(directory.path(), At::Never);
        let files = Files::of(directory.path());
        let create = |name: &str| {
            let file = files.create(&at(name), File::options().write(true).create_new(true)).unwrap();
            files.write_at(&file, b"content", 0).unwrap();
            file
        };
        let sync = |name: &str| files.sync_directory(&at(name), &File::open(at(name)).unwrap()).unwrap();
        let left = || {
            let tree = crash.after_power_cut(Unsynced::Empty);
            let files = tree.into_iter().filter_map(|(path, content)| Some((path, content?)));
            files.map(|(path, content)| format!("{} {}", path.display(), content.len())).collect::<Vec<_>>()
        };
        files.create_directory(&at("a")).unwrap();
        files.create_directory(&at("b")).unwrap();
        sync("");
        files.sync_data(&create("a/1")).unwrap();
        assert!(left().is_empty(), "a synced file without a synced name");
        files.rename(&at("a/1"), &at("b/2")).unwrap();
        assert!(left().is_empty());
        sync("b");
        assert_eq!(left(), ["b/2 7"]);
        sync("a");
        assert_eq!(left(), ["b/2 7"], "the old name does not come back");
        drop(create("a/3"));
        sync("a");
        assert_eq!(left(), ["a/3 0", "b/2 7"], "a synced name without synced content");
        assert_eq!(crash.after_power_cut(Unsynced::Zeros)[Path::new("a/3")], Some(vec![0; 7]));
        files.remove_file(&at("b/2")).unwrap();
        assert_eq!(left(), ["a/3 0", "b/2 7"], "a removal that is not synced");
        sync("b");
        assert_eq!(left(), ["a/3 0"]);
    }
}
