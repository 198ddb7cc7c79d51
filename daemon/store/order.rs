//! The note of whether the index was left in good order; without it the index is looked at before it is used.
//!
//! `index/clean` is empty while nobody uses the index and the last who did ended in good order. The daemon takes it away
//! when it begins. A command line that changes the index where no daemon runs writes the boot of the machine into it: if
//! it is killed the index is in order all the same, after a power cut it may not be. `index/suspect` says that somebody
//! beside the daemon met damage.
#![expect(clippy::disallowed_methods, reason = "notes have no content that could be lost")]

use std::fs::{self, File};
use std::io::{self, Write};

use super::clock;
use super::disk::{Disk, found, sync_directory};
use super::error::StoreError;

const CLEAN: &str = "index/clean";
const SUSPECT: &str = "index/suspect";

/// How the index was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By someone who ended in good order.
    Good,
    /// By a command line that was killed, while the machine was on.
    Killed,
    /// Nobody knows: it has to be looked at.
    Unknown,
}

impl Disk {
    /// How the index was left.
    pub(super) fn order(&self) -> Order {
        if self.top(SUSPECT).exists() {
            return Order::Unknown;
        }
        match fs::read_to_string(self.top(CLEAN)) {
            Ok(boot) if boot.is_empty() => Order::Good,
            Ok(boot) if boot == clock::boot() => Order::Killed,
            _ => Order::Unknown,
        }
    }

    /// How the index was left; forgets it, for good.
    pub(super) fn take_order(&self) -> Result<Order, StoreError> {
        let order = self.order();
        let forget = || -> io::Result<()> {
            found(fs::remove_file(self.top(CLEAN)))?;
            found(fs::remove_file(self.top(SUSPECT)))?;
            sync_directory(&self.index_directory())
        };
        forget().map_err(|error| StoreError::io("forget how the index was left", error))?;
        Ok(order)
    }

    /// Notes that the index was left in good order.
    pub(super) fn note_good_order(&self) {
        // Without the note it is looked at, which costs a moment.
        if let Err(error) = File::create(self.top(CLEAN)) {
            log::debug!("the end in good order is not noted: {error}");
        }
    }

    /// Notes, before a command line changes the index, that it does, if the note says anything.
    pub(super) fn note_change(&self) -> Result<(), StoreError> {
        if self.order() != Order::Good {
            return Ok(());
        }
        let boot = clock::boot();
        let note = || -> io::Result<()> {
            let mut file = File::create(self.top(CLEAN))?;
            file.write_all(boot.as_bytes())?;
            file.sync_all()
        };
        if !boot.is_empty() && note().is_ok() {
            return Ok(());
        }
        // A full disk takes no note, and collects all the same.
        let forget = || -> io::Result<()> {
            found(fs::remove_file(self.top(CLEAN)))?;
            sync_directory(&self.index_directory())
        };
        forget().map_err(|error| StoreError::io("note that the index is changed", error))
    }

    /// Notes that a command line which has changed the index ended in good order.
    pub(super) fn note_end_of_change(&self) {
        if self.order() == Order::Killed {
            self.note_good_order();
        }
    }

    /// Notes that a command line met damage in the index.
    pub(super) fn note_damage(&self) {
        if let Err(error) = File::create(self.top(SUSPECT)) {
            log::warn!("the damage to the index is not noted: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_end_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), |_| {}).unwrap();
        assert_eq!(disk.take_order().unwrap(), Order::Unknown);
        disk.note_good_order();
        assert_eq!(disk.order(), Order::Good);
        disk.note_change().unwrap();
        assert_eq!(disk.order(), Order::Killed);
        disk.note_end_of_change();
        assert_eq!(disk.order(), Order::Good);
        disk.note_change().unwrap();
        fs::write(disk.top(CLEAN), "another boot").unwrap();
        assert_eq!(disk.order(), Order::Unknown);
        disk.note_good_order();
        disk.note_damage();
        assert_eq!(disk.take_order().unwrap(), Order::Unknown);
        disk.note_end_of_change();
        assert_eq!(disk.order(), Order::Unknown, "nothing is noted where nothing was");
    }
}
