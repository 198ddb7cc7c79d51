//! Drops privileges: root works on a data directory as its owner, so that the daemon can read what a command writes there.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, Gid, Uid, User, access, geteuid, initgroups, setgid, setgroups, setuid};

use super::failure::Failure;
use crate::config::Config;

/// Refuses a path that is not a data directory, so that a typo does not create one; as root, switches to the owner of the
/// directory for the rest of the process.
pub(super) fn enter(config: &Config) -> Result<(), Failure> {
    let path = &config.storage.path;
    let (user, group) = registry_owner(path)?;
    become_owner(path, user, group)
}

/// Refuses a path that is not a data directory.
pub(super) fn require_registry(path: &Path) -> Result<(), Failure> {
    registry_owner(path).map(drop)
}

/// Returns true if this process is root's and the data directory belongs to another user. Refuses a path that is not a data
/// directory, and one that this user may not write to.
pub(super) fn needs_other_user(path: &Path) -> Result<bool, Failure> {
    let (user, _) = registry_owner(path)?;
    if geteuid().is_root() {
        return Ok(user != 0);
    }
    if user != geteuid().as_raw() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Err(Failure::failed(format!(
            "cannot write to {}: it belongs to another user; use sudo",
            path.display()
        )));
    }
    Ok(false)
}

/// Returns the user and the group of the registry in a data directory.
fn registry_owner(path: &Path) -> Result<(u32, u32), Failure> {
    // index.json is there even if the index is lost.
    let (index, layout) = (path.join("index/data.mdb"), path.join("index.json"));
    match std::fs::metadata(&index).or_else(|_| std::fs::metadata(&layout)) {
        Ok(metadata) => Ok((metadata.uid(), metadata.gid())),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Failure::failed(format!("cannot read {}: permission denied; use sudo", path.display())))
        }
        Err(_) => {
            let line = format!(
                "no registry in {}; start one with `holdfast serve`, or pass --data DIR",
                path.display()
            );
            Err(Failure::failed(line))
        }
    }
}

/// As root, switches to the owner of the data directory if the htpasswd file is in it, else to its group, so that the daemon
/// can read the file. Neither a registry nor the directory need exist yet.
pub(super) fn enter_for_users(config: &Config) -> Result<(), Failure> {
    let data = &config.storage.path;
    let (Ok(inside), Some(folder)) = (data.canonicalize(), config.auth.settings.htpasswd.parent()) else {
        return Ok(());
    };
    let is_inside = folder.canonicalize().is_ok_and(|folder| folder.starts_with(&inside));
    if is_inside { become_owner_if_any(data) } else { join_group(data) }
}

/// As root, switches to the owner of a data directory, if it exists.
pub(super) fn become_owner_if_any(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) => become_owner(path, metadata.uid(), metadata.gid()),
        Err(_) => Ok(()),
    }
}

/// Returns true if a directory belongs to the effective user of this process.
pub(super) fn owns(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == geteuid().as_raw())
}

fn join_group(data: &Path) -> Result<(), Failure> {
    let group = std::fs::metadata(data).map(|metadata| Gid::from_raw(metadata.gid()));
    match group {
        Ok(group) if geteuid().is_root() => setgid(group).map_err(|error| {
            Failure::failed(format!(
                "cannot switch to the group of {}: {error}; run this command as its owner",
                data.display()
            ))
        }),
        _ => Ok(()),
    }
}

fn become_owner(path: &Path, user: u32, group: u32) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    set_groups(user, group).and_then(|()| setgid(group)).and_then(|()| setuid(user)).map_err(|error| {
        Failure::failed(format!(
            "cannot switch to the owner of {}: {error}; run this command as that user",
            path.display()
        ))
    })
}

/// Sets the supplementary groups that a service of this user has: a TLS key may be readable by one of them only.
fn set_groups(user: Uid, group: Gid) -> nix::Result<()> {
    let name = User::from_uid(user).ok().flatten().and_then(|user| CString::new(user.name).ok());
    match name {
        Some(name) => initgroups(&name, group),
        None => setgroups(&[group]),
    }
}
