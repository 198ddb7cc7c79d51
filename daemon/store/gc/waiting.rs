//! Content that waits for the end of its grace period: what it is, how much, and until when. The commands and the admin page say it
//! by the same sentence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::human::{count, date, size};
use crate::store::index::tables::candidates::{Amount, Remaining};

/// What a collection has left to later ones, because its grace period has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingContent {
    /// Manifests without a tag.
    pub manifests: u64,
    /// The files that are freed then, with those of the manifests.
    pub blobs: Amount,
    /// True if more waits than was counted: the layers of very many manifests are not.
    #[serde(default)]
    pub at_least: bool,
    /// The time at which the first of them is due, in seconds since 1970.
    pub from: Option<u64>,
    /// The time at which the last of them is due.
    pub until: Option<u64>,
}

impl WaitingContent {
    /// Sets the times, counted from `now` in seconds since 1970.
    pub(in crate::store) fn set_times(&mut self, remaining: Remaining, now: u64) {
        let at = |time: Duration| now.saturating_add(time.as_secs());
        let times = remaining.range();
        self.from = times.map(|(first, _)| at(first));
        self.until = times.map(|(_, last)| at(last));
    }

    /// Sets the amounts to those that a collection without grace periods would free, if they were counted: the manifests with
    /// their layers. Without them more waits than the manifests themselves and the blobs of no manifest.
    pub(in crate::store) fn set_counted(&mut self, counted: Option<(u64, Amount)>) {
        match counted {
            Some((manifests, blobs)) => (self.manifests, self.blobs) = (manifests, blobs),
            None => self.at_least = self.manifests > 0,
        }
    }

    /// Returns true if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.manifests == 0 && self.blobs.count == 0
    }

    /// Returns true if all that waits is held by open imports and exports: no grace period ends it.
    pub fn waits_for_transfers(&self) -> bool {
        !self.is_empty() && self.until.is_none()
    }

    /// Says what waits, how much, and until when: `1 image, 3 blobs (1.5 GiB) wait until 2026-11-28 00:25 UTC`.
    pub fn sentence(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        if self.manifests > 0 {
            parts.push(count(self.manifests, "image"));
        }
        if self.blobs.count > 0 {
            parts.push(format!("{} ({})", count(self.blobs.count, "blob"), size(self.blobs.bytes)));
        }
        let verb = if self.manifests.saturating_add(self.blobs.count) == 1 { "waits" } else { "wait" };
        let times = match (self.from, self.until) {
            (Some(from), Some(until)) if until.saturating_sub(from) >= 60 => {
                format!("until {}, the first until {}", date(until), date(from))
            }
            (_, Some(until)) => format!("until {}", date(until)),
            // An open import or export holds it.
            (_, None) => "for a running transfer".to_owned(),
        };
        let least = if self.at_least { "at least " } else { "" };
        Some(format!("{least}{} {verb} {times}", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_says_what_waits_how_much_and_until_when() {
        let mut waiting = WaitingContent {
            manifests: 1,
            blobs: Amount { count: 3, bytes: 3 << 29 },
            ..WaitingContent::default()
        };
        let mut remaining = Remaining::default();
        remaining.add(Duration::from_hours(2));
        waiting.set_times(remaining, 1_764_102_667);
        assert_eq!(waiting.sentence().unwrap(), "1 image, 3 blobs (1.5 GiB) wait until 2025-11-25 22:31 UTC");
        let mut earlier = Remaining::default();
        earlier.add(Duration::from_hours(1));
        remaining.add_all(earlier);
        waiting.set_times(remaining, 1_764_102_667);
        let text = waiting.sentence().unwrap();
        assert!(text.ends_with("until 2025-11-25 22:31 UTC, the first until 2025-11-25 21:31 UTC"), "{text}");
        assert_eq!(WaitingContent::default().sentence(), None);
        let one = WaitingContent { blobs: Amount { count: 1, bytes: 11 }, ..WaitingContent::default() };
        assert_eq!(one.sentence().unwrap(), "1 blob (11 B) waits for a running transfer");
        assert!(one.waits_for_transfers() && !waiting.waits_for_transfers());
        assert!(!WaitingContent::default().waits_for_transfers());
    }

    #[test]
    fn sentence_says_at_least_if_the_layers_were_not_counted() {
        let blobs = Amount { count: 3, bytes: 4 };
        let mut many =
            WaitingContent { manifests: 10_001, blobs, until: Some(0), ..WaitingContent::default() };
        many.set_counted(None);
        assert_eq!(
            many.sentence().unwrap(),
            "at least 10001 images, 3 blobs (4 B) wait until 1970-01-01 00:00 UTC"
        );
        let mut few = WaitingContent { manifests: 2, ..many };
        few.at_least = false;
        few.set_counted(Some((3, Amount { count: 9, bytes: 9 })));
        assert!(few.sentence().unwrap().starts_with("3 images, 9 blobs (9 B) wait until "));
        let mut none = WaitingContent { blobs, ..WaitingContent::default() };
        none.set_counted(None);
        assert!(!none.at_least, "no manifest, no layers");
    }
}
