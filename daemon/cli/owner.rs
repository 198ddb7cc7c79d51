//! Root works on a data directory as whoever it belongs to: what a command writes there the daemon has to read.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use super::Failure;
use crate::config::Config;

/// Refuses a data directory that is none, so that a wrong path does not become one, and lets root be its owner from now
/// on.
pub(super) fn enter(config: &Config) -> Result<(), Failure> {
    let path = &config.storage.path;
    // Where the index is lost, the layout says whose it is.
    let (index, layout) = (path.join("index/data.mdb"), path.join("index.json"));
    match std::fs::metadata(&index).or_else(|_| std::fs::metadata(&layout)) {
        Ok(metadata) => become_owner(path, metadata.uid(), metadata.gid()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Failure::failed(format!("{} is not yours to look into; use sudo", path.display())))
        }
        Err(_) => {
            let line =
                format!("there is no registry in {} yet; start one, or say --data DIR", path.display());
            Err(Failure::failed(line))
        }
    }
}

/// Lets root be the owner of the data directory from now on, if the file of users is in it, and else be of its group: the
/// daemon has to read what is made. There need not be a registry yet, nor the directory.
pub(super) fn enter_for_users(config: &Config) -> Result<(), Failure> {
    let data = &config.storage.path;
    let (Ok(inside), Some(folder)) = (data.canonicalize(), config.auth.htpasswd.parent()) else {
        return Ok(());
    };
    let is_inside = folder.canonicalize().is_ok_and(|folder| folder.starts_with(&inside));
    if is_inside { become_owner_if_any(data) } else { join_group(data) }
}

/// Lets root be the owner of a data directory from now on, if there is one already.
pub(super) fn become_owner_if_any(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) => become_owner(path, metadata.uid(), metadata.gid()),
        Err(_) => Ok(()),
    }
}

/// Whether a directory belongs to whoever runs this.
pub(super) fn owns(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == geteuid().as_raw())
}

fn join_group(data: &Path) -> Result<(), Failure> {
    let group = std::fs::metadata(data).map(|metadata| Gid::from_raw(metadata.gid()));
    match group {
        Ok(group) if geteuid().is_root() => setgid(group).map_err(|error| {
            Failure::failed(format!("cannot join the group of {}: {error}", data.display()))
        }),
        _ => Ok(()),
    }
}

fn become_owner(path: &Path, user: u32, group: u32) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    groups_of(user, group).and_then(|()| setgid(group)).and_then(|()| setuid(user)).map_err(|error| {
        Failure::failed(format!(
            "cannot become the owner of {}: {error}; run this as that user",
            path.display()
        ))
    })
}

/// Takes the groups that a service of this user has: a key may be for one of them.
fn groups_of(user: Uid, group: Gid) -> nix::Result<()> {
    let name = User::from_uid(user).ok().flatten().and_then(|user| CString::new(user.name).ok());
    match name {
        Some(name) => initgroups(&name, group),
        None => setgroups(&[group]),
    }
}
