//! The htpasswd file, as Apache's `htpasswd -B` writes it: `NAME:BCRYPT` on each line.
//!
//! Every edit replaces the whole file atomically, so that a reader sees the old content or the new. A lock of the
//! directory (`flock`) serialises edits of the daemon and the command line. Lines that this release does not understand
//! are preserved, and no user can log in with them.
#![expect(
    clippy::disallowed_methods,
    reason = "the htpasswd file lies beside the data and has its own rules"
)]

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{getegid, geteuid};

use crate::base::{Durability, replace_file};

/// The shortest password that can be set, in code points. Earlier passwords stay valid.
pub const SHORTEST_PASSWORD: usize = 8;
/// The longest password that bcrypt does not truncate, in bytes.
const LONGEST_PASSWORD: usize = 72;

/// The name of a user: 1 to 64 bytes of letters of any script, digits, `.`, `_`, `-`, `@` or `+`. `-` alone is invalid:
/// rules and the log use it for the anonymous user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

impl UserName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserName {
    type Err = HtpasswdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_alphanumeric() || "._-@+".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) && text != "-" {
            return Ok(UserName(text.to_owned()));
        }
        Err(HtpasswdError::Name(text.escape_debug().to_string()))
    }
}

/// A user, a password or the htpasswd file is invalid, or the file cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// The user name is invalid.
    #[error(
        "invalid user name \"{0}\"; use 1 to 64 bytes of letters, digits, and . _ - @ +, but not - alone"
    )]
    Name(String),
    /// The password is too short, or bcrypt would truncate it.
    #[error(
        "a password must have at least {SHORTEST_PASSWORD} characters, at most {LONGEST_PASSWORD} bytes and no zero byte; choose another one"
    )]
    Password,
    /// The user already exists.
    #[error("user {0} already exists; use `holdfast user passwd {0}` to change the password")]
    Exists(UserName),
    /// The user is the last one who can log in.
    #[error("{0} is the last user who can log in and cannot be removed")]
    Last(UserName),
    /// The user is the last one with full rights.
    #[error("{0} is the last user with full rights and cannot be removed")]
    LastWithFullRights(UserName),
    /// The user does not exist.
    #[error("there is no user {0}; `holdfast user list` lists the users")]
    Unknown(UserName),
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation that failed, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// bcrypt failed.
    #[error("cannot hash the password: {0}")]
    Hash(#[from] bcrypt::BcryptError),
    /// The system returned no random bytes.
    #[error("the system returned no random bytes")]
    Random,
}

/// Reads a regular file.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // With O_NONBLOCK, opening a FIFO in place of the file does not wait for a writer.
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl HtpasswdError {
    /// Returns true if the process or the system lacked descriptors or memory, so that a retry may succeed.
    pub(super) fn is_lack_of_resources(&self) -> bool {
        let HtpasswdError::Io { source, .. } = self else { return false };
        is_lack_of_resources(source)
    }
}

/// Returns true if the process or the system lacked descriptors or memory.
pub(super) fn is_lack_of_resources(error: &io::Error) -> bool {
    const CODES: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// Creates the directory of a file and locks it against other editors of its files.
pub(super) fn lock_directory(path: &Path) -> Result<(Flock<File>, &Path), HtpasswdError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let unlocked = File::open(directory).map_err(failed("open", directory))?;
    let locked = Flock::lock(unlocked, FlockArg::LockExclusive);
    let locked = locked.map_err(|(_, error)| failed("lock", directory)(error.into()))?;
    Ok((locked, directory))
}

/// The content of an htpasswd file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Htpasswd {
    lines: Vec<String>,
}

impl Htpasswd {
    /// Reads the file; a missing file has no users.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Io`].
    pub fn read(path: &Path) -> Result<Self, HtpasswdError> {
        match read_file(path) {
            Ok(bytes) => Ok(Htpasswd::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Htpasswd::default()),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// Parses the text of a file. Lines without a user are preserved.
    pub fn parse(text: &str) -> Self {
        Htpasswd { lines: text.lines().map(|line| line.trim_end().to_owned()).collect() }
    }

    /// Returns the names of the users, in the order of the file.
    pub fn names(&self) -> Vec<UserName> {
        self.lines.iter().filter_map(|line| user(line)?.0.parse().ok()).collect()
    }

    /// Returns names and hashes of the users who can log in; of several lines with one name the first applies. Logs the
    /// users who cannot.
    pub(super) fn users(&self) -> HashMap<String, String> {
        let mut users = HashMap::new();
        for login in self.logins() {
            match login {
                Ok((name, hash)) => drop(users.entry(name.to_owned()).or_insert_with(|| hash.to_owned())),
                Err(problem) => log::warn!("{problem}"),
            }
        }
        users
    }

    /// Returns a message for each user who cannot log in.
    pub fn problems(&self) -> Vec<String> {
        self.logins().filter_map(Result::err).collect()
    }

    /// Returns name and hash of each line with a user, or why the user cannot log in.
    fn logins(&self) -> impl Iterator<Item = Result<(&str, &str), String>> {
        self.lines.iter().filter_map(|line| user(line)).map(|(name, hash)| {
            if let Err(error) = name.parse::<UserName>() {
                return Err(format!("a user cannot log in: {error}"));
            }
            match hash.parse::<bcrypt::HashParts>() {
                Ok(parts) if parts.get_cost() <= HIGHEST_COST => Ok((name, hash)),
                Ok(parts) => Err(format!(
                    "user {name} cannot log in: the hash has cost {}, and at most {HIGHEST_COST} is verified; set the \
                     password again",
                    parts.get_cost()
                )),
                Err(_) => {
                    Err(format!("user {name} cannot log in: the hash is not bcrypt; set the password again"))
                }
            }
        })
    }

    /// Returns true if the file has only empty lines.
    pub(super) fn is_blank(&self) -> bool {
        self.lines.iter().all(String::is_empty)
    }

    fn position(&self, name: &UserName) -> Option<usize> {
        self.lines.iter().position(|line| user(line).is_some_and(|(known, _)| known == name.as_str()))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Exists`] or [`HtpasswdError::Password`].
    pub fn add(&mut self, name: &UserName, password: &str) -> Result<(), HtpasswdError> {
        if self.position(name).is_some() {
            return Err(HtpasswdError::Exists(name.clone()));
        }
        check_new_password(password)?;
        self.set(name, password, COST)
    }

    /// Changes the password of a user.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Unknown`] or [`HtpasswdError::Password`].
    pub fn change(&mut self, name: &UserName, password: &str) -> Result<(), HtpasswdError> {
        self.position(name).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        check_new_password(password)?;
        self.set(name, password, COST)
    }

    pub(super) fn set(&mut self, name: &UserName, password: &str, cost: u32) -> Result<(), HtpasswdError> {
        let line = format!("{name}:{}", bcrypt::hash(password, cost)?);
        match self.position(name) {
            Some(at) => self.lines[at] = line,
            None => self.lines.push(line),
        }
        Ok(())
    }

    /// Removes a user with all lines of that name.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Unknown`].
    pub fn remove(&mut self, name: &UserName) -> Result<(), HtpasswdError> {
        self.position(name).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        self.lines.retain(|line| user(line).is_none_or(|(known, _)| known != name.as_str()));
        Ok(())
    }

    /// Edits the file under its lock. If `change` fails, the file stays unchanged.
    ///
    /// # Errors
    /// Returns the error of `change`, or [`HtpasswdError::Io`].
    pub fn edit(
        path: &Path,
        change: impl FnOnce(&mut Htpasswd) -> Result<(), HtpasswdError>,
    ) -> Result<(), HtpasswdError> {
        let (_lock, directory) = lock_directory(path)?;
        let mut file = Htpasswd::read(path)?;
        change(&mut file)?;
        file.replace(path, directory).map_err(failed("write", path))
    }

    fn replace(&self, path: &Path, directory: &Path) -> io::Result<()> {
        let old = fs::metadata(path).ok();
        let mode = old.as_ref().map_or(0o640, |old| old.mode() & 0o777);
        // A file that root creates gets the owner of its directory, or the daemon could not read it. In a directory of
        // root it gets the group that the command line switched to.
        let parent = fs::metadata(directory)?;
        let owner = match old {
            Some(old) => (old.uid(), old.gid()),
            None if parent.uid() == 0 && getegid().as_raw() != 0 => (0, getegid().as_raw()),
            None => (parent.uid(), parent.gid()),
        };
        replace_file(path, mode, Durability::Synced, |output| {
            for line in &self.lines {
                writeln!(output, "{line}")?;
            }
            let current = output.get_ref().metadata()?;
            if (current.uid(), current.gid()) != owner {
                let changed = fchown(output.get_ref(), Some(owner.0), Some(owner.1));
                // Only root can change the owner. Any other account that may replace the file owns the directory, and
                // becomes the owner.
                if geteuid().is_root() {
                    changed?;
                }
            }
            Ok(())
        })
    }
}

/// The bcrypt cost of new hashes: 2^10 rounds, about a tenth of a second on a small board.
const COST: u32 = 10;

/// The highest bcrypt cost that is verified, the highest that Apache's `htpasswd` makes: 2^17 rounds take a small board
/// a minute, and each further step doubles that.
const HIGHEST_COST: u32 = 17;

/// Refuses a password that may not be set: on the command line, on the admin page, and for one's own account.
fn check_new_password(password: &str) -> Result<(), HtpasswdError> {
    let is_short = password.chars().count() < SHORTEST_PASSWORD;
    if is_short || is_truncated(password) { Err(HtpasswdError::Password) } else { Ok(()) }
}

/// Returns true for a password of which bcrypt would use only the beginning.
pub(super) fn is_truncated(password: &str) -> bool {
    password.len() > LONGEST_PASSWORD || password.contains('\0')
}

/// Returns the name and the hash of a line, or `None` for comments and empty lines.
fn user(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') { None } else { line.split_once(':') }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> HtpasswdError {
    move |source| HtpasswdError::Io { action, path: path.to_owned(), source }
}
