//! Moves archives out of the import folder, to `done/` or `failed/`, with a report beside each.
//!
//! The steps are in a file of the folder first (`.moving`), and each of them can be repeated: a crash between them is finished by
//! the next look at the folder, so that no part of an archive stays behind and no report is lost.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, RenameFlags, fsync, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::folder::{Archive, FileId, Folder, FolderError, entry_in, is_archive_name};
use super::notes::{NEW, read_note, remove_note, write_file, write_note};

const DONE: &str = "done";
const FAILED: &str = "failed";
/// The steps of a move.
const JOURNAL: &str = ".moving";
/// The archive that is being imported.
const ATTEMPT: &str = ".importing";
/// The imports of an archive that a crash may end before it is given up.
pub const ATTEMPTS: u32 = 3;
/// The ending of reports.
const REPORT: &str = ".txt";
/// The longest name of a file.
const MAX_NAME: usize = 255;

/// The places for archives that have been imported, or could not be.
#[derive(Debug)]
pub struct ArchiveMover<'a> {
    folder: &'a Folder,
    done: File,
    failed: File,
}

/// A move that has begun.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    is_done: bool,
    files: Vec<(String, FileId)>,
    report_name: String,
    report: String,
}

/// An import that has begun.
#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    files: Vec<(String, FileId)>,
    count: u32,
}

impl<'a> ArchiveMover<'a> {
    /// Opens the places of a folder, and creates them where they are missing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(folder: &'a Folder) -> Result<Self, FolderError> {
        folder.check_writable()?;
        let device = |file: &File, name: &str| {
            file.metadata().map(|metadata| metadata.dev()).map_err(|error| folder.io(name, error))
        };
        let own = device(&folder.root, "")?;
        let open = |name: &str| {
            match mkdirat(&folder.root, name, Mode::from_raw_mode(0o770)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error @ (Errno::ROFS | Errno::ACCESS)) => return Err(folder.read_only(error)),
                Err(error) => return Err(folder.failed(name, error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&folder.root, name, flags, Mode::empty());
            let opened = File::from(opened.map_err(|error| folder.failed(name, error))?);
            // A file can be moved within its file system only.
            if device(&opened, name)? == own { Ok(opened) } else { Err(folder.failed(name, Errno::XDEV)) }
        };
        Ok(ArchiveMover { done: open(DONE)?, failed: open(FAILED)?, folder })
    }

    /// Moves an archive, and writes its report. An earlier archive of the same name is replaced.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn put(&self, archive: &Archive, is_done: bool, report: String) -> Result<(), FolderError> {
        let report_name = report_name(archive.name());
        let moving = Move { is_done, files: files_of(archive), report_name, report };
        write_note(&self.folder.root, JOURNAL, &moving)
            .map_err(|error| self.folder.failed(JOURNAL, error))?;
        self.carry_out(&moving)
    }

    /// Notes that the import of an archive begins; returns how many imports of it a crash has ended before.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn begin(&self, archive: &Archive) -> Result<u32, FolderError> {
        let (root, files) = (&self.folder.root, files_of(archive));
        let noted = read_note(root, ATTEMPT, |_: &Attempt| true).and_then(|last| {
            let crashes = last.filter(|last| last.files == files).map_or(0, |last| last.count);
            write_note(root, ATTEMPT, &Attempt { files, count: crashes.saturating_add(1) }).map(|()| crashes)
        });
        noted.map_err(|error| self.folder.failed(ATTEMPT, error))
    }

    /// Notes that the import has ended.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn end(&self) -> Result<(), FolderError> {
        remove_note(&self.folder.root, ATTEMPT).map_err(|error| self.folder.failed(ATTEMPT, error))
    }

    /// Finishes a move that a crash has interrupted.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn finish(&self) -> Result<(), FolderError> {
        let is_plain = |name: &str| is_archive_name(name) && !name.contains('/') && name.len() <= MAX_NAME;
        let is_valid = |moving: &Move| {
            is_plain(&moving.report_name) && moving.files.iter().all(|(name, _)| is_plain(name))
        };
        match read_note(&self.folder.root, JOURNAL, is_valid) {
            Ok(Some(moving)) => self.carry_out(&moving),
            Ok(None) => Ok(()),
            Err(error) => Err(self.folder.failed(JOURNAL, error)),
        }
    }

    fn carry_out(&self, moving: &Move) -> Result<(), FolderError> {
        let (place, name) = if moving.is_done { (&self.done, DONE) } else { (&self.failed, FAILED) };
        for (at, (file, id)) in moving.files.iter().enumerate() {
            // One that is another file now stays, and is imported itself.
            if self.folder.entry(file).is_none_or(|now| now.id != *id) {
                continue;
            }
            match renameat(&self.folder.root, file, place, file) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    self.move_back(&moving.files[..at], place);
                    return Err(self.abandon(&format!("{name}/{file}"), error));
                }
            }
        }
        let report = &moving.report_name;
        let written = write_file(place, report, moving.report.as_bytes()).and_then(|()| fsync(place));
        written.map_err(|error| self.abandon(&format!("{name}/{report}"), error))?;
        remove_note(&self.folder.root, JOURNAL).map_err(|error| self.folder.failed(JOURNAL, error))
    }

    /// Moves the first parts of an archive back, so that it stays whole. Best effort.
    fn move_back(&self, files: &[(String, FileId)], place: &File) {
        for (file, id) in files {
            if entry_in(place, file).is_some_and(|moved| moved.id == *id) {
                let _ = renameat_with(place, file, &self.folder.root, file, RenameFlags::NOREPLACE);
            }
        }
    }

    /// Forgets a move that failed.
    fn abandon(&self, name: &str, error: Errno) -> FolderError {
        // One that stays is tried again by the next look, and fails in the same way.
        let _ = remove_note(&self.folder.root, JOURNAL);
        self.folder.failed(name, error)
    }
}

/// Returns the name of the report: that of the archive with `.txt`, cut to the longest name.
fn report_name(archive: &str) -> String {
    let mut end = archive.len().min(MAX_NAME - REPORT.len() - NEW.len());
    while !archive.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{REPORT}", &archive[..end])
}

fn files_of(archive: &Archive) -> Vec<(String, FileId)> {
    archive.files.iter().map(|file| (file.name.clone(), file.id.clone())).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as the user of the folder")]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn folder(path: &Path) -> Folder {
        Folder::open(path, Path::new("/data")).unwrap()
    }

    fn read(path: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(path.join(name)).ok()
    }

    #[test]
    fn archives_are_moved_with_their_reports() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["a.tar.001", "a.tar.002", "b.tar"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        let folder = folder(path);
        let archives = folder.archives().unwrap();
        let mover = ArchiveMover::open(&folder).unwrap();
        mover.put(&archives[0], true, "good".into()).unwrap();
        mover.put(&archives[1], false, "bad".into()).unwrap();
        assert_eq!(folder.archives().unwrap(), []);
        assert_eq!(read(path, "done/a.tar.002").unwrap(), "a.tar.002");
        assert_eq!(read(path, "done/a.tar.001.txt").unwrap(), "good");
        assert_eq!(
            (read(path, "failed/b.tar").unwrap(), read(path, "failed/b.tar.txt").unwrap()),
            ("b.tar".into(), "bad".into())
        );
        assert_eq!(read(path, JOURNAL), None);
    }

    #[test]
    fn a_move_that_was_interrupted_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["a.tar.001", "a.tar.002"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        let folder = folder(path);
        let archive = folder.archives().unwrap().remove(0);
        let files: Vec<_> = archive.files.iter().map(|file| (file.name.clone(), file.id.clone())).collect();
        let moving =
            Move { is_done: true, files, report_name: "a.tar.001.txt".into(), report: "good".into() };
        std::fs::write(path.join(JOURNAL), serde_json::to_vec(&moving).unwrap()).unwrap();
        let mover = ArchiveMover::open(&folder).unwrap();
        std::fs::rename(path.join("a.tar.001"), path.join("done/a.tar.001")).unwrap();
        mover.finish().unwrap();
        assert_eq!(read(path, "done/a.tar.002").unwrap(), "a.tar.002");
        assert_eq!((read(path, "done/a.tar.001.txt").unwrap(), read(path, JOURNAL)), ("good".into(), None));
        // A file that has come meanwhile stays.
        std::fs::write(path.join("a.tar.002"), "another").unwrap();
        std::fs::write(path.join(JOURNAL), serde_json::to_vec(&moving).unwrap()).unwrap();
        mover.finish().unwrap();
        assert_eq!(read(path, "a.tar.002").unwrap(), "another");
    }

    #[test]
    fn an_archive_that_cannot_be_moved_stays_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["a.tar.001", "a.tar.002"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        std::fs::create_dir_all(path.join("done/a.tar.002")).unwrap();
        let folder = folder(path);
        let archive = folder.archives().unwrap().remove(0);
        let mover = ArchiveMover::open(&folder).unwrap();
        let error = mover.put(&archive, true, "report".into()).unwrap_err();
        assert!(error.to_string().contains("a.tar.002"), "{error}");
        let files = ["a.tar.001", "a.tar.002", "done/a.tar.001", "done/a.tar.001.txt", JOURNAL];
        assert_eq!(files.map(|name| path.join(name).exists()), [true, true, false, false, false]);
        assert!(folder.is_unchanged(&archive));
        std::fs::remove_dir(path.join("done/a.tar.002")).unwrap();
        mover.put(&archive, true, "report".into()).unwrap();
        assert_eq!(read(path, "done/a.tar.001.txt").unwrap(), "report");
    }

    #[test]
    fn steps_that_lead_out_of_the_folder_are_not_carried_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mover_folder = folder(path);
        let mover = ArchiveMover::open(&mover_folder).unwrap();
        let text = r#"{"is_done":true,"files":[],"report_name":"../x","report":"y"}"#;
        for text in [text, "nonsense", ""] {
            std::fs::write(path.join(JOURNAL), text).unwrap();
            mover.finish().unwrap();
            assert_eq!((read(path, JOURNAL), read(path, "x")), (None, None));
        }
        symlink("/etc/passwd", path.join(JOURNAL)).unwrap();
        mover.finish().unwrap();
        assert_eq!(read(path, JOURNAL), None);
        assert_eq!(report_name(&"ä".repeat(200)).len(), 250);
    }

    #[test]
    fn crashes_during_the_import_of_an_archive_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.tar", "b.tar"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        let folder = folder(directory.path());
        let archives = folder.archives().unwrap();
        let mover = ArchiveMover::open(&folder).unwrap();
        let begin = |at: usize| mover.begin(&archives[at]).unwrap();
        assert_eq!([begin(0), begin(0), begin(0), begin(1), begin(0)], [0, 1, 2, 0, 0]);
        mover.end().unwrap();
        assert_eq!(begin(0), 0);
        std::fs::write(directory.path().join(ATTEMPT), "nonsense").unwrap();
        assert_eq!(begin(0), 0);
    }

    #[test]
    fn places_that_are_links_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/tmp", directory.path().join("done")).unwrap();
        assert!(ArchiveMover::open(&folder(directory.path())).is_err());
    }
}
