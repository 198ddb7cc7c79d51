//! The names that the admin page adds to the certificate of the own authority, one in a line of the file `names` beside it.
//! The configuration belongs to root, and the daemon cannot write it.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::ServerName;

use super::error::TlsError;
use super::names::canonical;
use crate::base::{Durability, replace_file};

/// The most names that are added.
const MAX_NAMES: usize = 32;
/// The largest file, in bytes.
const LARGEST_FILE: u64 = 16 << 10;
const FILE: &str = "names";

/// A name is not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The name is no DNS name and no address of a host.
    #[error("{0:?} is neither a DNS name nor an address of a host")]
    Invalid(String),
    /// There are too many names.
    #[error("at most {MAX_NAMES} names can be added; remove one, or set tls.names in the configuration")]
    TooMany,
    /// The name was not added.
    #[error("{0:?} is not among the added names")]
    Unknown(String),
    /// The certificate is from files.
    #[error("the registry's own authority did not issue the certificate")]
    NotOwn,
    /// The certificate cannot be issued, or the file cannot be written.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Returns a name as the certificate gets it. Wildcards are for the configuration.
pub(super) fn valid_name(text: &str) -> Result<String, NameError> {
    let name = canonical(text.trim_matches(['[', ']']));
    let is_valid = match name.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified() && !address.is_multicast(),
        Err(_) => matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_))),
    };
    if is_valid { Ok(name) } else { Err(NameError::Invalid(text.chars().take(80).collect())) }
}

/// Reads the names. Lines that are no names have no effect, and a file that cannot be read has no names; both are logged.
pub(super) fn read(directory: &Path) -> BTreeSet<String> {
    let path = directory.join(FILE);
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text));
    if let Err(error) = read
        && error.kind() != io::ErrorKind::NotFound
    {
        log::error!("cannot read {}: {error}; the certificate lacks the names in it", path.display());
    }
    if text.len() as u64 == LARGEST_FILE {
        // The last line may be cut to another name.
        text.truncate(text.rfind('\n').unwrap_or(0));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut names = BTreeSet::new();
    for line in lines {
        match valid_name(line) {
            Ok(name) if names.len() < MAX_NAMES => {
                names.insert(name);
            }
            Ok(name) => log::warn!("{}: {name} is ignored: at most {MAX_NAMES} names", path.display()),
            Err(error) => log::warn!("{}: a line is ignored: {error}", path.display()),
        }
    }
    names
}

/// Returns the names with one more.
pub(super) fn with(names: &BTreeSet<String>, name: String) -> Result<BTreeSet<String>, NameError> {
    let mut names = names.clone();
    names.insert(name);
    if names.len() > MAX_NAMES { Err(NameError::TooMany) } else { Ok(names) }
}

/// Replaces the file.
pub(super) fn write(directory: &Path, names: &BTreeSet<String>) -> Result<(), TlsError> {
    let path = directory.join(FILE);
    let written = replace_file(&path, 0o640, Durability::Synced, |file| {
        names.iter().try_for_each(|name| writeln!(file, "{name}"))
    });
    written.map_err(|error| TlsError::Io("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_names_and_addresses_of_hosts_are_valid() {
        for (text, name) in [("Hub.LAN.", "hub.lan"), ("[fe80::1]", "fe80::1"), ("192.0.2.7", "192.0.2.7")] {
            assert_eq!(valid_name(text).unwrap(), name);
        }
        let long = format!("{}.lan", "a".repeat(64));
        for text in
            ["", "*.lan", "a b", "a\nb", "0.0.0.0", "::", "224.0.0.1", "a..b", "pi.lan:5000", "é.lan", &long]
        {
            assert!(matches!(valid_name(text), Err(NameError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn names_read_back_and_odd_lines_have_no_effect() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).is_empty());
        let names: BTreeSet<String> = (0..MAX_NAMES).map(|number| format!("n{number}.lan")).collect();
        write(directory.path(), &names).unwrap();
        assert_eq!(read(directory.path()), names);
        assert!(matches!(with(&names, "more.lan".into()), Err(NameError::TooMany)));
        assert!(with(&names, "n1.lan".into()).is_ok());
        let text = format!("# by hand\n*.lan\nhub.lan\n{}\n", "n.lan more\n".repeat(4000));
        replace_file(&directory.path().join(FILE), 0o640, Durability::Cached, |file| {
            file.write_all(text.as_bytes())
        })
        .unwrap();
        assert_eq!(read(directory.path()), ["hub.lan".to_owned()].into());
    }
}
