//! Notes in the import folder, which outlive a crash.
//!
//! Another user of the folder may have written them: they are read with a limit, and one that has no valid content is removed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum length of a note, in bytes.
const MAX_NOTE: u64 = 64 << 20;
/// The ending of files that are written.
pub(super) const NEW: &str = ".new";

/// Reads a note; `None` without one.
pub(super) fn read_note<T: DeserializeOwned>(
    folder: &File,
    name: &str,
    is_valid: impl Fn(&T) -> bool,
) -> Result<Option<T>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return remove_note(folder, name).map(|()| None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    let read = file.take(MAX_NOTE).read_to_end(&mut text);
    let note = read.ok().and_then(|_| serde_json::from_slice::<T>(&text).ok());
    match note.filter(is_valid) {
        Some(note) => Ok(Some(note)),
        None => remove_note(folder, name).map(|()| None),
    }
}

/// Writes a note; durable on return.
pub(super) fn write_note(folder: &File, name: &str, note: &impl Serialize) -> Result<(), Errno> {
    // Notes hold strings and numbers only, which always have a JSON form.
    let text = serde_json::to_vec(note).unwrap_or_default();
    write_file(folder, name, &text)?;
    fsync(folder)
}

/// Removes a note, if there is one.
pub(super) fn remove_note(folder: &File, name: &str) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => fsync(folder),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file, so that it is either whole or not there.
pub(super) fn write_file(folder: impl AsFd, name: &str, text: &[u8]) -> Result<(), Errno> {
    let (folder, new) = (folder.as_fd(), format!("{name}{NEW}"));
    match unlinkat(folder, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &new, flags, Mode::from_raw_mode(0o660))?);
    let written = file.write_all(text).and_then(|()| file.sync_all());
    let written = written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let written = written.and_then(|()| renameat(folder, &new, folder, name));
    if written.is_err() {
        // On a full disk the part that was written would stay.
        let _ = unlinkat(folder, &new, AtFlags::empty());
    }
    written
}
