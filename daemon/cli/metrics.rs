//! `holdfast metrics`, and the file that a daemon writes its metrics to for the textfile collector.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::control_client;
use super::failure::Failure;
use super::offline::{absolute, runtime};
use super::output::print;
use crate::base::{Durability, replace_file};
use crate::config::Config;
use crate::store;

/// Permissions of the file: readable by every program, whatever the umask of the daemon.
const MODE: u32 = 0o644;

/// Prints the metrics of a running daemon, or those that the last one left in its file. Never starts a daemon.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    // A user who may not read the directory cannot tell whether a daemon runs, and has to try the control socket.
    let is_readable = File::open(config.storage.path.join("index/data.mdb")).is_ok();
    let daemon_runs = store::daemon_runs(&config.storage.path);
    if (daemon_runs || !is_readable)
        && let Some(text) = runtime()?.block_on(control_client::metrics(config, daemon_runs))
    {
        return print(&text);
    }
    let Some(file) = &config.metrics.file else {
        return Err(Failure::failed(
            "no daemon answers; start it (`holdfast serve`, or systemctl start holdfast), or set metrics.file, which keeps the \
             metrics of the last exit",
        ));
    };
    match fs::read_to_string(file) {
        Ok(text) => print(&text),
        Err(error) => Err(Failure::failed(format!(
            "no daemon answers, and cannot read {}: {error}; start the daemon, which writes it each minute",
            file.display()
        ))),
    }
}

/// Replaces the file, without a sync: the next minute has new metrics.
pub(super) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    replace_file(path, MODE, Durability::Cached, |file| file.write_all(text.as_bytes()))
}

/// Refuses a `metrics.file` whose directory cannot be written to, and says what to do.
pub(super) fn check_file(config: &Config) -> Result<(), Failure> {
    let Some(directory) = config.metrics.file.as_deref().and_then(Path::parent) else { return Ok(()) };
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) => Err(Failure::failed(format!(
            "the directory of metrics.file, {}, does not exist; create it",
            absolute(directory)
        ))),
        Err(error) => Err(Failure::failed(format!(
            "cannot write metrics.file in {0}: {1}; let the registry's user write there, and for a service run systemctl \
             edit holdfast, and set ReadWritePaths={0} under [Service]",
            absolute(directory),
            error.desc()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test prepares files")]
    fn file_is_replaced_atomically_and_readable_by_all() {
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
