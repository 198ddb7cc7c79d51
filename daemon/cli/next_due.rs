//! The next time at which a background job is due, in `status.json`: written by a daemon that ends, and read by
//! `holdfast wake`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::{boot_id, seconds_since_boot, unix_seconds};

/// The next time at which a background job is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NextDue {
    /// No job runs by itself.
    Never,
    /// At this time.
    At(Moment),
}

/// A moment by both clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// The wall clock, in seconds since 1970.
    wall: u64,
    /// The boot during which the seconds count; empty if the system does not tell its boots apart.
    boot_id: String,
    /// The seconds since that boot, with those that the machine was suspended; none without such a clock.
    seconds_since_boot: Option<u64>,
}

/// The part of `status.json` about the next daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct SavedDue {
    /// The next time at which a job is due; none in a file of a release that did not write it.
    next_due: Option<NextDue>,
}

impl Moment {
    /// Returns the present moment.
    pub(super) fn now() -> Self {
        Moment { wall: unix_seconds(), boot_id: boot_id(), seconds_since_boot: seconds_since_boot().ok() }
    }
}

impl NextDue {
    /// Returns the time after `wait`, in whole seconds; a wait of `None` never ends.
    pub(super) fn after(wait: Option<Duration>, now: &Moment) -> Self {
        let Some(wait) = wait else { return NextDue::Never };
        // Not before the job is due, or its daemon would be started for nothing.
        let seconds = wait.as_secs().saturating_add(1);
        NextDue::At(Moment {
            wall: now.wall.saturating_add(seconds),
            boot_id: now.boot_id.clone(),
            seconds_since_boot: now.seconds_since_boot.map(|passed| passed.saturating_add(seconds)),
        })
    }
}

impl SavedDue {
    /// Returns true if a daemon has to run now. `saved` is the wall clock at which the file was written. During the same boot
    /// the seconds since the boot decide, since the wall clock may jump; else the wall clock does, and one that is behind
    /// the file says nothing.
    pub(super) fn is_due(&self, saved: u64, now: &Moment) -> bool {
        let due = match &self.next_due {
            None => return true,
            Some(NextDue::Never) => return false,
            Some(NextDue::At(due)) => due,
        };
        match (due.seconds_since_boot, now.seconds_since_boot) {
            (Some(due_at), Some(passed)) if !now.boot_id.is_empty() && due.boot_id == now.boot_id => {
                passed >= due_at
            }
            (Some(_) | None, Some(_) | None) => now.wall >= due.wall || now.wall < saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: u64 = 1_700_000_000;

    fn at(wall: u64, boot: &str, seconds: impl Into<Option<u64>>) -> Moment {
        Moment { wall, boot_id: boot.to_owned(), seconds_since_boot: seconds.into() }
    }

    /// A file of a daemon that ended 100 seconds after the boot `a`; its job is due an hour later.
    fn in_an_hour() -> SavedDue {
        let next_due = NextDue::after(Some(Duration::from_secs(3599)), &at(SAVED, "a", 100));
        SavedDue { next_due: Some(next_due) }
    }

    #[test]
    fn the_same_boot_counts_its_own_seconds() {
        let is_due = |wall, seconds| in_an_hour().is_due(SAVED, &at(wall, "a", seconds));
        assert!(!is_due(SAVED, 101) && !is_due(SAVED + 3600, 3699) && is_due(SAVED + 3600, 3700));
        // A wall clock that jumps changes nothing.
        assert!(!is_due(SAVED + 1_000_000, 200) && !is_due(60, 200) && is_due(60, 3700));
    }

    #[test]
    fn another_boot_counts_by_the_wall_clock() {
        let is_due = |wall, seconds| in_an_hour().is_due(SAVED, &at(wall, "b", seconds));
        assert!(!is_due(SAVED + 3599, 9999) && is_due(SAVED + 3600, 1));
        // A clock that is behind the file says nothing.
        assert!(is_due(SAVED - 1, 1) && is_due(60, 1) && !is_due(SAVED, 1));
    }

    #[test]
    fn a_system_without_boots_counts_by_the_wall_clock() {
        let saved = |boot: &str, seconds: Option<u64>| {
            let next_due = NextDue::after(Some(Duration::from_secs(3599)), &at(SAVED, boot, seconds));
            SavedDue { next_due: Some(next_due) }
        };
        assert!(!saved("", Some(1)).is_due(SAVED, &at(SAVED + 10, "", 999_999)));
        assert!(saved("", Some(1)).is_due(SAVED, &at(SAVED + 3600, "", 2)));
        assert!(!saved("a", None).is_due(SAVED, &at(SAVED + 10, "a", 999_999)));
        assert!(saved("a", Some(1)).is_due(SAVED, &at(SAVED + 3600, "a", None)));
    }

    #[test]
    fn never_is_never_and_an_unknown_time_is_due() {
        let never = SavedDue { next_due: Some(NextDue::after(None, &at(SAVED, "a", 100))) };
        assert!(!never.is_due(SAVED, &at(SAVED * 2, "b", 1)) && !never.is_due(SAVED, &at(60, "a", 1)));
        assert!(SavedDue { next_due: None }.is_due(SAVED, &at(SAVED, "a", 101)));
    }

    #[test]
    fn due_times_never_overflow() {
        let far = NextDue::after(Some(Duration::MAX), &at(u64::MAX, "a", u64::MAX));
        assert_eq!(far, NextDue::At(at(u64::MAX, "a", u64::MAX)));
        assert!(
            !SavedDue { next_due: Some(NextDue::after(Some(Duration::MAX), &at(1, "a", 1))) }
                .is_due(1, &at(SAVED, "a", 100))
        );
    }

    #[test]
    fn the_file_is_read_back() {
        let parse = |text: &str| serde_json::from_str::<SavedDue>(text).unwrap();
        for due in [NextDue::Never, NextDue::At(at(1, "a", 2)), NextDue::At(at(1, "", None))] {
            let text = serde_json::json!({ "saved": 1, "next_due": due, "tags": 3 }).to_string();
            assert_eq!(parse(&text), SavedDue { next_due: Some(due) });
        }
        assert_eq!(parse(r#"{"saved":1,"tags":3}"#), SavedDue { next_due: None });
        assert!(serde_json::from_str::<SavedDue>(r#"{"next_due":"soon"}"#).is_err());
    }
}
