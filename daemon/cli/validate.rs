//! Validates what a configuration refers to: the data directory, the file of users, certificates and keys.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::failure::Failure;
use super::offline::absolute;
use crate::access::Htpasswd;
use crate::config::{Config, TlsMode};
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

/// Refuses a data directory that cannot be written to, and says what to do: the service's sandbox may forbid it.
pub(super) fn require_writable(data: &Path) -> Result<(), Failure> {
    let existing = data.ancestors().find(|path| path.exists()).unwrap_or(data);
    match access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        Err(error @ (Errno::EROFS | Errno::EACCES)) => Err(Failure::failed(format!(
            "cannot write to {0}: {1}; make the registry's user its owner, and for a service with data outside of \
             /var/lib/holdfast run systemctl edit holdfast, and set ReadWritePaths={0} under [Service]",
            absolute(data),
            error.desc()
        ))),
        // Other errors surface where the directory is used.
        _ => Ok(()),
    }
}
