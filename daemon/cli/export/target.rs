//! The destination of an export.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use crate::transfer::export::{ExportError, Medium};

/// The target of an export.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: Kind,
}

/// The kind of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image layout.
    Directory(PathBuf),
    /// A tar in a directory.
    Archive {
        /// The directory.
        folder: PathBuf,
        /// The name of the file.
        name: String,
    },
    /// A tar on standard output.
    Pipe,
}

impl Target {
    /// Decides by the path and what exists there.
    pub(super) fn parse(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            if std::io::stdout().is_terminal() {
                return Err(Failure::misuse(
                    "an archive does not go to a terminal; redirect standard output",
                ));
            }
            return Ok(Target { kind: Kind::Pipe });
        }
        let text = path.to_string_lossy();
        if [".gz", ".tgz", ".zst", ".xz", ".bz2"].iter().any(|ending| text.ends_with(ending)) {
            return Err(Failure::misuse(format!(
                "{text}: an export is not compressed, because layers are; use a name that ends in .tar, or -o - | zstd > {text}"
            )));
        }
        let is_archive = path.is_file() || !path.is_dir() && text.ends_with(".tar");
        if !is_archive {
            if path.exists() && !path.is_dir() {
                return Err(Failure::misuse(format!("{text} is neither a directory nor a regular file")));
            }
            return Ok(Target { kind: Kind::Directory(path.to_owned()) });
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Failure::misuse(format!("{text}: the name is not UTF-8")))?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(Target { kind: Kind::Archive { folder: folder.unwrap_or(Path::new(".")).to_owned(), name } })
    }

    pub(super) fn is_pipe(&self) -> bool {
        self.kind == Kind::Pipe
    }

    /// Returns the folder of the target.
    fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(folder) | Kind::Archive { folder, .. } => Some(folder),
            Kind::Pipe => None,
        }
    }

    /// Opens the folder of the target, if it exists.
    pub(super) fn folder(&self) -> Result<Option<Medium>, Failure> {
        match self.path().filter(|path| path.is_dir()) {
            Some(path) => Medium::open(path).map(Some).map_err(Failure::failed),
            None => Ok(None),
        }
    }

    /// Opens the medium of the target: its folder, or the one above a folder that does not exist yet.
    pub(super) fn medium(&self) -> Result<Option<Medium>, Failure> {
        if let Some(folder) = self.folder()? {
            return Ok(Some(folder));
        }
        let above = self.path().and_then(Path::parent);
        let above = above.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
        above.filter(|path| path.is_dir()).map(Medium::open).transpose().map_err(Failure::failed)
    }

    /// Opens the folder of the target; creates that of an image layout.
    pub(super) fn create(&self) -> Result<Option<Medium>, ExportError> {
        match &self.kind {
            Kind::Directory(folder) => Medium::open(folder).map(Some),
            Kind::Archive { folder, .. } if folder.is_dir() => Medium::open(folder).map(Some),
            Kind::Archive { folder, .. } => {
                Err(ExportError::Refused(format!("the directory {} does not exist", folder.display())))
            }
            Kind::Pipe => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_by_name_and_by_what_exists() {
        let directory = tempfile::tempdir().unwrap();
        let kind = |name: &str| Target::parse(&directory.path().join(name)).map(|target| target.kind).ok();
        let (folder, name) = (directory.path().to_owned(), "a.tar".to_owned());
        assert_eq!(kind("a.tar"), Some(Kind::Archive { folder, name }));
        assert_eq!(kind("new"), Some(Kind::Directory(directory.path().join("new"))));
        assert_eq!(kind("a.tar.gz"), None);
    }
}
