//! The file of users, as Apache's `htpasswd -B` writes it: `NAME:BCRYPT` on each line.
//!
//! It is replaced as a whole, so that a reader sees the old one or the new one. Lines that this release does
//! not understand stay as they are, and nobody logs in with them.
#![expect(
    clippy::disallowed_methods,
    reason = "the file of users lies beside the data and has its own rules"
)]

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{getegid, geteuid};

/// The longest password that bcrypt takes in whole, in bytes.
const LONGEST_PASSWORD: usize = 72;

/// The name of a user: 1 to 64 letters, digits, `.`, `_`, `-`, `@` or `+`. `-` alone is none: in the log it stands for
/// nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

impl UserName {
    /// The name.
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

/// What is wrong with a user, a password or their file.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// Not the name of a user.
    #[error("\"{0}\" is no user name; use 1 to 64 letters, digits, and . _ - @ +, but not - alone")]
    Name(String),
    /// A password that bcrypt would cut off, or none.
    #[error("a password has 1 to 72 bytes and no zero byte; choose another one")]
    Password,
    /// The user is there already.
    #[error("user {0} exists already; use `holdfast user passwd {0}` to change the password")]
    Exists(UserName),
    /// Nobody else could log in.
    #[error("{0} is the last user who can log in, and stays")]
    Last(UserName),
    /// Nobody else may do everything.
    #[error("{0} is the last user who may do everything, and stays")]
    LastMaster(UserName),
    /// There is no such user.
    #[error("there is no user {0}; `holdfast user list` shows who there is")]
    Unknown(UserName),
    /// The file cannot be read or output.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The hash could not be made.
    #[error("cannot hash the password: {0}")]
    Hash(#[from] bcrypt::BcryptError),
    /// There are no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// Reads a regular file. Opening a FIFO in its place does not wait for the other end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl HtpasswdError {
    /// Returns true if the process or the system lacked descriptors or memory: the file may be read in a moment.
    pub(super) fn is_lack_of_resources(&self) -> bool {
        const CODES: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
        let HtpasswdError::Io { source, .. } = self else { return false };
        source.raw_os_error().is_some_and(|code| CODES.contains(&code))
    }
}

/// What tells that a file has changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    inode: u64,
    size: u64,
}

impl Stamp {
    /// The stamp of a file; nothing if it is not there.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            size: metadata.size(),
        })
    }
}

/// The file of users in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Htpasswd {
    lines: Vec<String>,
}

impl Htpasswd {
    /// Reads the file; one that is not there has no users.
    ///
    /// # Errors
    /// [`HtpasswdError::Io`].
    pub fn read(path: &Path) -> Result<Self, HtpasswdError> {
        match read_file(path) {
            Ok(bytes) => Ok(Htpasswd::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Htpasswd::default()),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// Reads the text of a file; lines that are no users are kept as they are.
    pub fn parse(text: &str) -> Self {
        Htpasswd { lines: text.lines().map(|line| line.trim_end().to_owned()).collect() }
    }

    /// The names of the users, in the order of the file.
    pub fn names(&self) -> Vec<UserName> {
        self.lines.iter().filter_map(|line| user(line)?.0.parse().ok()).collect()
    }

    /// Names and hashes of those who can log in; the first line of a name counts. Who cannot is told in the log.
    pub(super) fn users(&self) -> HashMap<String, String> {
        let mut users = HashMap::new();
        for (name, hash) in self.lines.iter().filter_map(|line| user(line)) {
            if let Err(error) = name.parse::<UserName>() {
                log::warn!("a user cannot log in: {error}");
            } else if hash.parse::<bcrypt::HashParts>().is_err() {
                log::warn!("user {name} cannot log in: the hash is not bcrypt; set the password again");
            } else {
                users.entry(name.to_owned()).or_insert_with(|| hash.to_owned());
            }
        }
        users
    }

    /// Whether nobody has written anything into it.
    pub(super) fn is_blank(&self) -> bool {
        self.lines.iter().all(String::is_empty)
    }

    fn position(&self, name: &UserName) -> Option<usize> {
        self.lines.iter().position(|line| user(line).is_some_and(|(known, _)| known == name.as_str()))
    }

    /// Adds a user who is not there yet.
    ///
    /// # Errors
    /// [`HtpasswdError::Exists`] or [`HtpasswdError::Password`].
    pub fn add(&mut self, name: &UserName, password: &str) -> Result<(), HtpasswdError> {
        if self.position(name).is_some() {
            return Err(HtpasswdError::Exists(name.clone()));
        }
        self.set(name, password, COST)
    }

    /// Changes the password of a user.
    ///
    /// # Errors
    /// [`HtpasswdError::Unknown`] or [`HtpasswdError::Password`].
    pub fn change(&mut self, name: &UserName, password: &str) -> Result<(), HtpasswdError> {
        self.position(name).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        self.set(name, password, COST)
    }

    pub(super) fn set(&mut self, name: &UserName, password: &str, cost: u32) -> Result<(), HtpasswdError> {
        if password.is_empty() || is_cut_off(password) {
            return Err(HtpasswdError::Password);
        }
        let line = format!("{name}:{}", bcrypt::hash(password, cost)?);
        match self.position(name) {
            Some(at) => self.lines[at] = line,
            None => self.lines.push(line),
        }
        Ok(())
    }

    /// Removes a user, and every line of that name.
    ///
    /// # Errors
    /// [`HtpasswdError::Unknown`].
    pub fn remove(&mut self, name: &UserName) -> Result<(), HtpasswdError> {
        self.position(name).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        self.lines.retain(|line| user(line).is_none_or(|(known, _)| known != name.as_str()));
        Ok(())
    }

    /// Changes the file as a whole, one editor at a time; a change that is refused leaves it as it was.
    ///
    /// # Errors
    /// What `change` says, or [`HtpasswdError::Io`].
    pub fn edit(
        path: &Path,
        change: impl FnOnce(&mut Htpasswd) -> Result<(), HtpasswdError>,
    ) -> Result<(), HtpasswdError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let unlocked = File::open(directory).map_err(failed("open", directory))?;
        let handle = Flock::lock(unlocked, FlockArg::LockExclusive)
            .map_err(|(_, error)| failed("lock", directory)(error.into()))?;
        let mut file = Htpasswd::read(path)?;
        change(&mut file)?;
        file.replace(path, directory)?;
        handle.sync_all().map_err(failed("sync", directory))
    }

    fn replace(&self, path: &Path, folder: &Path) -> Result<(), HtpasswdError> {
        let temporary = path.with_extension("new");
        let failed = failed("write", path);
        let old = fs::metadata(path).ok();
        let mode = old.as_ref().map_or(0o640, |old| old.mode() & 0o777);
        let mut output = create_anew(&temporary, mode).map_err(&failed)?;
        // Whatever the umask takes away.
        output.set_permissions(Permissions::from_mode(mode)).map_err(&failed)?;
        // A file that root makes belongs to whom the directory belongs to, or the daemon could not read it. In a directory
        // of root's it has the group that the caller has taken.
        let beside = fs::metadata(folder).map_err(&failed)?;
        let owner = match old {
            Some(old) => (old.uid(), old.gid()),
            None if beside.uid() == 0 && getegid().as_raw() != 0 => (0, getegid().as_raw()),
            None => (beside.uid(), beside.gid()),
        };
        for line in &self.lines {
            writeln!(output, "{line}").map_err(&failed)?;
        }
        let current = output.metadata().map_err(&failed)?;
        if (current.uid(), current.gid()) != owner {
            let given = std::os::unix::fs::fchown(&output, Some(owner.0), Some(owner.1));
            // Only root can give a file away. Whoever else may replace it owns the directory, and keeps it.
            if geteuid().is_root() {
                given.map_err(&failed)?;
            }
        }
        output.sync_all().map_err(&failed)?;
        fs::rename(&temporary, path).map_err(&failed)
    }
}

/// Makes a file in the place of what an edit that was cut off has left. Somebody else may write to the directory, and
/// have put a link there: what it points at is not touched.
fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(mode).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// What a password costs: 2 to the power of this many rounds.
const COST: u32 = 10;

/// Returns true for a password of which bcrypt takes only the beginning.
pub(super) fn is_cut_off(password: &str) -> bool {
    password.len() > LONGEST_PASSWORD || password.contains('\0')
}

/// The name and the hash in a line; nothing for comments and empty lines.
fn user(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') { None } else { line.split_once(':') }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> HtpasswdError {
    move |source| HtpasswdError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_what_it_does_not_understand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        fs::write(&path, "# ours\nold:$apr1$x$y\n").unwrap();
        let bob: UserName = "bob".parse().unwrap();
        Htpasswd::edit(&path, |file| file.set(&bob, "secret", 4)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\nold:$apr1$x$y\nbob:$2"), "{text}");
        let users = Htpasswd::read(&path).unwrap().users();
        assert!(bcrypt::verify("secret", &users["bob"]).unwrap() && !users.contains_key("old"));
        assert!(matches!(Htpasswd::edit(&path, |file| file.add(&bob, "x")), Err(HtpasswdError::Exists(_))));
        Htpasswd::edit(&path, |file| file.remove(&bob)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# ours\nold:$apr1$x$y\n");
        assert!(Htpasswd::edit(&path, |file| file.change(&bob, "x")).is_err());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("htpasswd"), directory.path().join("target"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join("htpasswd.new")).unwrap();
        Htpasswd::edit(&path, |file| file.set(&"bob".parse().unwrap(), "secret", 4)).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert!(Htpasswd::read(&path).unwrap().users().contains_key("bob"));
        // What an edit left that was cut off does not stop the next one.
        fs::write(directory.path().join("htpasswd.new"), "half").unwrap();
        Htpasswd::edit(&path, |file| file.set(&"eve".parse().unwrap(), "secret", 4)).unwrap();
        assert_eq!(Htpasswd::read(&path).unwrap().users().len(), 2);
    }

    #[test]
    fn who_cannot_log_in_is_no_user() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let file = Htpasswd::parse(&format!("-:{hash}\na b:{hash}\nold:$apr1$x$y\n--:{hash}\n"));
        assert_eq!(file.users().into_keys().collect::<Vec<_>>(), ["--"]);
        assert_eq!(file.names().iter().map(UserName::as_str).collect::<Vec<_>>(), ["old", "--"]);
        assert!("-".parse::<UserName>().is_err());
    }

    #[test]
    fn a_password_that_would_be_cut_off_is_refused() {
        let name = "a".parse().unwrap();
        let mut file = Htpasswd::default();
        for password in ["", "a\0b", &"x".repeat(73)] {
            assert!(matches!(file.set(&name, password, 4), Err(HtpasswdError::Password)));
        }
        assert!("a:b".parse::<UserName>().is_err() && "".parse::<UserName>().is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let file = Htpasswd::parse(&text);
            let _ = (file.users(), file.names());
        }
    }
}
