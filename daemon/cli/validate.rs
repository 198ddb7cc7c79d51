//! Validates what a configuration refers to: the data directory, the file of users, certificates and keys.

use std::fmt::Display;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::failure::Failure;
use super::offline::absolute;
use crate::access::Htpasswd;
use crate::config::{Config, TlsMode};
use crate::intake::{Folder, check_place};
use crate::service::{AccessLog, ServiceError};
use crate::transfer::signers_file;
use crate::{store, tls};

/// Validates everything that a daemon needs to start with this configuration.
pub(super) fn validate_for_start(config: &Config) -> Result<(), Failure> {
    require_writable(&config.storage.path)?;
    validate_files(config)
}

/// Validates a configuration for a reload. The data directory of a running daemon is not checked: a disk that fails under it is
/// no fault of the configuration, and no reason to keep the old one.
pub(super) fn validate_for_reload(config: &Config) -> Result<(), Failure> {
    if !store::daemon_runs(&config.storage.path) {
        require_writable(&config.storage.path)?;
    }
    validate_files(config)
}

/// Validates the files beside the data, with the rights of this process.
fn validate_files(config: &Config) -> Result<(), Failure> {
    Htpasswd::read(&config.auth.settings.htpasswd).map_err(Failure::misuse)?;
    if let AccessLog::File(path) = &config.log.access {
        let written = if path.exists() { path.as_path() } else { path.parent().unwrap_or(path) };
        access(written, AccessFlags::W_OK).map_err(|error| {
            Failure::misuse(ServiceError::AccessLog(path.display().to_string(), error.into()))
        })?;
    }
    validate_certificate(config)
}

/// Validates the certificate, its key, and the authorities of client certificates.
pub(super) fn validate_certificate(config: &Config) -> Result<(), Failure> {
    match &config.tls.mode {
        TlsMode::Files { certificate, key } => tls::validate(certificate, key).map_err(Failure::misuse)?,
        TlsMode::Auto => {}
        TlsMode::Off => return Ok(()),
    }
    config.tls.clients.validate().map_err(Failure::misuse)
}

/// Returns why no signature can be checked: the file of allowed signers (`import.signers`) is missing or malformed. It refuses no
/// start and no reload, because each import reads the file anew, and only imports need it.
pub(super) fn signers_problem(config: &Config) -> Option<String> {
    let path = config.import.signers.as_deref()?;
    let failed =
        |error: &dyn Display| format!("import.signers: {}: {error}; all imports are refused", path.display());
    match signers_file::read(path) {
        Err(error) => Some(failed(&error)),
        Ok(signers) if signers.is_empty() => Some(failed(&"the file names no signer")),
        Ok(_) => None,
    }
}

/// Returns why the import folder (`import.folder`) cannot be used. It refuses no start and no reload: only its imports need it, and
/// a disk may be mounted later.
pub(super) fn import_folder_problem(config: &Config) -> Option<String> {
    let folder = config.import.folder.as_deref()?;
    let data = std::path::absolute(&config.storage.path).ok()?;
    let named = |error: &dyn Display| format!("import.folder: {error}; nothing is imported from it");
    if let Err(error) = check_place(folder, &data) {
        return Some(named(&error));
    }
    // The daemon creates that one.
    let is_created = !folder.exists() && folder.parent() == Some(&data);
    if is_created {
        return None;
    }
    let problem = Folder::open(folder, &data).and_then(|folder| folder.check_writable());
    problem.err().map(|error| named(&error))
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// Refuses a data directory that cannot exist, whichever user runs the daemon.
pub(super) fn require_possible(data: &Path) -> Result<(), Failure> {
    let existing = nearest_existing(data);
    if existing.exists() && !existing.is_dir() {
        return Err(Failure::failed(format!(
            "storage.path: {} cannot be a directory, because {} is a file; set another path",
            absolute(data),
            absolute(existing)
        )));
    }
    Ok(())
}

/// Refuses an access log whose directory does not exist, whichever user runs the daemon.
pub(super) fn require_access_log_directory(config: &Config) -> Result<(), Failure> {
    let AccessLog::File(path) = &config.log.access else { return Ok(()) };
    match path.parent() {
        Some(directory) if !directory.is_dir() => {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            Err(Failure::misuse(ServiceError::AccessLog(path.display().to_string(), error)))
        }
        _ => Ok(()),
    }
}

/// Refuses a data directory that cannot be written to, and says what to do: the service's sandbox may forbid it.
pub(super) fn require_writable(data: &Path) -> Result<(), Failure> {
    require_possible(data)?;
    let existing = nearest_existing(data);
    match access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        Err(Errno::EROFS) => Err(Failure::failed(format!(
            "cannot write to {0}: its file system is read-only; mount it read-write, or, for a service with data outside of \
             /var/lib/holdfast, run systemctl edit holdfast, and set ReadWritePaths={0} under [Service]",
            absolute(data)
        ))),
        Err(error @ Errno::EACCES) => Err(Failure::failed(format!(
            "cannot write to {0}: {1}; make the registry's user its owner, and for a service with data outside of \
             /var/lib/holdfast run systemctl edit holdfast, and set ReadWritePaths={0} under [Service]",
            absolute(data),
            error.desc()
        ))),
        // Other errors surface where the directory is used.
        _ => Ok(()),
    }
}
