//! The warnings of the overview: conditions that an operator has to resolve.

use super::format::When;
use super::limits::{SENTENCE, shorten};
use super::request::AdminRequest;
use super::state::Certificate;
use crate::base::clock::{self, RELEASED};
use crate::base::human::size;
use crate::store::Overview;

/// The remaining validity below which a certificate from files is a warning, in seconds.
const EXPIRES_SOON: u64 = 21 * 86400;

/// A warning.
pub(super) struct Warning {
    /// True if the warning is shown as an error: pushes are refused, clients fail, or the registry is exposed.
    pub(super) serious: bool,
    pub(super) text: String,
}

impl Warning {
    pub(super) fn new(serious: bool, text: impl AsRef<str>) -> Self {
        Warning { serious, text: shorten(text.as_ref(), SENTENCE) }
    }
}

/// Returns all current warnings. The cause of a disk failure, and warnings about the store, are for users who see all of
/// the registry.
pub(super) fn all(
    request: &AdminRequest,
    store: &Overview,
    sees_all: bool,
    is_implicitly_open: bool,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(cause) = &store.read_only {
        let cause = if sees_all { cause.as_str() } else { "its disk failed." };
        warnings.push(Warning::new(true, format!("The registry accepts no more pushes: {cause}")));
    }
    if let Some(warning) = store.delay.warning() {
        warnings.push(Warning::new(true, format!("Check the disk: {warning}.")));
    }
    if let Some(fault) = request.access.rules_fault() {
        // The path and the mistake are for users who see all of the registry.
        let fault = if sees_all { fault.as_str() } else { "cannot use the rules of the admin page" };
        let text =
            format!("Some users lack rights: {fault}. Mend or remove the file, and reload the daemon.");
        warnings.push(Warning::new(true, text));
    }
    warnings.extend(space(store));
    if sees_all {
        warnings.extend(index(store));
    }
    warnings.extend(clock_or_certificate(request.context.certificate.as_ref(), clock::unix_seconds()));
    warnings.extend(exposure(request, is_implicitly_open));
    warnings
}

/// Warns of a full disk or quota.
fn space(store: &Overview) -> Option<Warning> {
    let free = store.free_bytes.saturating_sub(store.reserve_bytes);
    if free == 0 {
        let text =
            "The disk is full: pushes are refused. Delete images and run a collection, or free disk space.";
        return Some(Warning::new(true, text));
    }
    if let Some(quota) = store.quota_bytes {
        let left = quota.saturating_sub(store.counts.bytes.saturating_add(store.uploading));
        if left < quota / 10 {
            let text = format!("The quota is nearly used up: {} left for pushes.", size(left));
            return Some(Warning::new(left == 0, text));
        }
    }
    let is_nearly_full = free < store.total_bytes / 10;
    is_nearly_full
        .then(|| Warning::new(false, format!("The disk is nearly full: {} left for pushes.", size(free))))
}

/// Warns of an index that is nearly full, or that was rebuilt with possibly missing names.
fn index(store: &Overview) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let (used, usable) = store.index;
    if used > usable / 100 * 85 {
        warnings.push(Warning::new(false, "The index is nearly full: increase storage.index_map_size."));
    }
    if store.collection_is_held {
        warnings.push(Warning::new(
            false,
            "Names may have been lost with a damaged index. Automatic collections are off until you run one by hand; push \
             missing images first.",
        ));
    }
    warnings
}

/// Warns of a wrong clock, or else of a certificate from files that ends. With a wrong clock no date can be judged.
fn clock_or_certificate(certificate: Option<&Certificate>, now: u64) -> Option<Warning> {
    if now < RELEASED || certificate.is_some_and(|certificate| certificate.clock_is_behind) {
        let text = format!(
            "The clock of the registry is wrong: it says {}. Times on these pages are wrong, too.",
            When::at(now).date()
        );
        return Some(Warning::new(false, text));
    }
    let until = certificate.filter(|certificate| !certificate.is_own)?.until?;
    let when = When::at(until);
    if until <= now {
        let text = format!("The certificate of the registry expired on {}. Replace its files.", when.date());
        return Some(Warning::new(true, text));
    }
    (until < now + EXPIRES_SOON).then(|| {
        Warning::new(false, format!("The certificate of the registry expires {when}. Replace its files."))
    })
}

/// Warns of a registry that is open to more clients than its operator may expect.
fn exposure(request: &AdminRequest, is_implicitly_open: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if request.access.is_open() && !request.admin.settings.loopback_only {
        warnings.push(Warning::new(
            false,
            "The registry is open: every client on its network may push and delete. Add users, or set auth.anonymous.",
        ));
    }
    if request.context.unnamed_proxy && is_implicitly_open {
        warnings.push(Warning::new(
            true,
            "The registry is open to everyone who can reach the proxy on this machine: it has no users, and the proxy is \
             not configured. Add it to http.trusted_proxies, or add a user (holdfast user add NAME).",
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = RELEASED + 86400;

    fn certificate(is_own: bool, until: u64) -> Certificate {
        Certificate {
            is_own,
            until: Some(until),
            fingerprint: None,
            covers_host: true,
            configured: Vec::new(),
            clock_is_behind: false,
        }
    }

    #[test]
    fn only_certificates_from_files_are_watched() {
        let warned = |certificate: Certificate| {
            clock_or_certificate(Some(&certificate), NOW).map(|warning| warning.serious)
        };
        assert_eq!(warned(certificate(true, NOW)), None);
        assert_eq!(warned(certificate(false, NOW)), Some(true));
        assert_eq!(warned(certificate(false, NOW + EXPIRES_SOON - 1)), Some(false));
        assert_eq!(warned(certificate(false, NOW + EXPIRES_SOON)), None);
    }

    #[test]
    fn wrong_clock_hides_the_certificate() {
        for (now, clock_is_behind) in [(RELEASED - 1, false), (NOW, true)] {
            let certificate = Certificate { clock_is_behind, ..certificate(false, 0) };
            let warning = clock_or_certificate(Some(&certificate), now).unwrap();
            assert!(!warning.serious && warning.text.starts_with("The clock"), "{}", warning.text);
        }
    }
}
