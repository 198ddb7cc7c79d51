//! `holdfast metrics`, and the file that a daemon writes its metrics to.
#![expect(clippy::disallowed_methods, reason = "the metrics file is outside of the data directory")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::{Failure, absolute, ask, print, runtime};
use crate::config::Config;
use crate::store;

/// Every program may read the file, whatever the umask of the daemon is.
const MODE: u32 = 0o644;

/// Prints the metrics of a running daemon, or those that one has left in its file. A daemon is not started for that.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    // Who may not look at the directory can only ask.
    let may_look = File::open(config.storage.path.join("index/data.mdb")).is_ok();
    let runs = store::daemon_runs(&config.storage.path);
    if (runs || !may_look)
        && let Some(text) = runtime()?.block_on(ask::metrics(config, runs))
    {
        return print(&text);
    }
    let Some(file) = &config.metrics.file else {
        return Err(Failure::failed(
            "no daemon can be asked (service.control, or listen and metrics.access), and metrics.file, which has the \
             metrics of its end, is not set",
        ));
    };
    match fs::read_to_string(file) {
        Ok(text) => print(&text),
        Err(error) => Err(Failure::failed(format!(
            "no daemon can be asked (service.control, or listen and metrics.access), and cannot read {}: {error}",
            file.display()
        ))),
    }
}

/// Writes the file: a new one under another name, which then takes its place.
pub(super) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    // A link in a directory of others is not followed.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(new, path)
}

/// Refuses a file whose directory cannot be written, and says what to do.
pub(super) fn check_file(config: &Config) -> Result<(), Failure> {
    let Some(directory) = config.metrics.file.as_deref().and_then(Path::parent) else { return Ok(()) };
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) => Err(Failure::failed(format!(
            "metrics.file is in {}, which is not there; make that directory",
            absolute(directory)
        ))),
        Err(error) => Err(Failure::failed(format!(
            "metrics.file cannot be written to {0}: {1}; the registry's user has to be able to write there, and a service \
             has to be told of it: systemctl edit holdfast, with ReadWritePaths={0} in [Service]",
            absolute(directory),
            error.desc()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_can_be_read_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("holdfast.prom"), directory.path().join("other"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join("holdfast.prom.new")).unwrap();
        write_file(&path, "one\n").unwrap();
        write_file(&path, "two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(write_file(&directory.path().join("none/x"), "").is_err());
    }
}
