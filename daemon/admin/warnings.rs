//! What needs a person.

use super::visit::Visit;
use super::words::{self, size};
use crate::store::Overview;

/// When this release was made at the earliest: a clock before that is wrong. 2026-01-01, in seconds since 1970.
const MADE: u64 = 1_767_225_600;
/// A certificate of the user's own that ends sooner is a warning, in seconds.
const SOON: u64 = 21 * 86400;

/// Something that needs a person.
pub(super) struct Warning {
    /// Whether something does not work already.
    pub(super) serious: bool,
    pub(super) text: String,
}

/// Everything that needs a person now. Why the disk failed, and what only somebody who does the upkeep can mend, is for
/// those who do. `opens_by_itself` says that the registry is open only because it has no users.
pub(super) fn all(visit: &Visit, store: &Overview, keeps: bool, opens_by_itself: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |serious, text: String| warnings.push(Warning { serious, text });
    if let Some(why) = &store.read_only {
        let why = if keeps { why.as_str() } else { "its disk failed." };
        warn(true, format!("The registry takes no more pushes: {why}"));
    }
    if let Some(warning) = store.delay.warning() {
        warn(true, format!("Check the disk: {warning}."));
    }
    if let Some((serious, text)) = disk(store) {
        warn(serious, text);
    }
    let (used, usable) = store.index;
    if keeps && used > usable / 100 * 85 {
        warn(false, "The index is nearly full: set storage.index_map_size higher.".into());
    }
    if keeps && store.collection_is_held {
        warn(
            false,
            "Names may have been lost with a broken index. Nothing is collected until somebody runs a collection by \
             hand; push what is missing first."
                .into(),
        );
    }
    let certificate = visit.surroundings.certificate.as_ref();
    if words::now() < MADE || certificate.is_some_and(|certificate| certificate.clock_is_behind) {
        let date = words::When::at(words::now()).date();
        warn(
            false,
            format!("The clock of the registry is wrong: it says {date}. Times on these pages are, too."),
        );
    } else if let Some(until) = certificate.filter(|one| !one.is_own).and_then(|one| one.until) {
        let when = words::When::at(until);
        if until <= words::now() {
            warn(true, format!("The certificate of the registry has expired on {}.", when.date()));
        } else if until < words::now() + SOON {
            warn(false, format!("The certificate of the registry expires {when}: replace its files."));
        }
    }
    if visit.access.is_open() && !visit.admin.settings.loopback_only {
        warn(
            false,
            "The registry is open: whoever reaches it may push and delete. Users and auth.anonymous close it."
                .into(),
        );
    }
    if visit.surroundings.unnamed_proxy && opens_by_itself {
        warn(
            true,
            "The registry is open to everyone who can reach the proxy on this machine: it has no users, and the proxy is \
             not named. Name it in http.trusted_proxies, or add a user (holdfast user add NAME)."
                .into(),
        );
    }
    warnings
}

fn disk(store: &Overview) -> Option<(bool, String)> {
    let room = store.free_bytes.saturating_sub(store.reserve_bytes);
    if room == 0 {
        let text = "The disk is full: pushes are refused until something is deleted and collected.";
        return Some((true, text.into()));
    }
    if let Some(quota) = store.quota_bytes {
        let left = quota.saturating_sub(store.counts.bytes.saturating_add(store.uploading));
        if left < quota / 10 {
            return Some((
                left == 0,
                format!("The quota is nearly used up: {} are left for pushes.", size(left)),
            ));
        }
    }
    (room < store.total_bytes / 10)
        .then(|| (false, format!("The disk is nearly full: {} are left for pushes.", size(room))))
}
