//! Processes that have files of the tree open.

use std::path::{Path, PathBuf};

use rustix::fs::stat;

use super::super::source::SourceError;
use super::tree::Tree;

/// A file of the tree that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The id of the process.
    pub process: u32,
    /// The path of the file, as the process sees it.
    pub path: PathBuf,
}

/// Returns a file of the tree that another process has open. Processes of other users are seen by root only.
///
/// # Errors
/// Fails if the tree or the list of processes cannot be read.
pub fn open_file(tree: &Tree) -> Result<Option<OpenFile>, SourceError> {
    // A process in a container sees the tree under another path, but its files have the same inode numbers.
    let inodes = tree.inodes()?;
    let is_of_tree = |link: &Path, path: &Path| {
        path.starts_with(tree.path())
            || stat(link).is_ok_and(|stat| stat.st_dev == tree.device() && inodes.contains(&stat.st_ino))
    };
    let processes = std::fs::read_dir("/proc").map_err(|error| SourceError::io("/proc", error))?;
    for entry in processes.flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(process) = process.filter(|process| *process != std::process::id()) else { continue };
        // The process may have ended, or belong to another user.
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let link = descriptor.path();
            let path = std::fs::read_link(&link).unwrap_or_default();
            if is_of_tree(&link, &path) {
                return Ok(Some(OpenFile { process, path }));
            }
        }
    }
    Ok(None)
}
