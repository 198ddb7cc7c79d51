//! The SANs of the certificate, and requested names that are missing in it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::base::{Clock, Lock};

/// The largest number of missing names that are logged per [`PERIOD`]: a client can request any number of them.
const MAX_LOGGED: usize = 32;
/// The period after which names are logged again.
const PERIOD: Duration = Duration::from_hours(24);

/// Logs each requested name that is missing in the certificate, once per [`PERIOD`].
pub(super) struct MissingNames {
    /// `tls.names` of the configuration.
    configured: Vec<String>,
    clock: Clock,
    seen: Lock<Seen>,
}

struct Seen {
    since: Instant,
    names: HashSet<String>,
}

/// Returns the SANs of a certificate: names in lower case, and addresses.
pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return BTreeSet::new() };
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// Returns true if a certificate with the SANs `names` is valid for `name`, which is canonical (RFC 9525 section 6.3: a
/// wildcard covers one label).
pub(super) fn covers(names: &BTreeSet<String>, name: &str) -> bool {
    let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    names.contains(name) || wildcard.is_some_and(|wildcard| names.contains(&wildcard))
}

/// Returns a name as certificates have it: in lower case and without a trailing dot; an address in its short form.
pub(super) fn canonical(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().map_or(name, |address| address.to_canonical().to_string())
}

impl MissingNames {
    pub(super) fn new(configured: Vec<String>) -> Self {
        Self::with_clock(configured, Clock::system())
    }

    pub(super) fn configured(&self) -> &[String] {
        &self.configured
    }

    fn with_clock(configured: Vec<String>, clock: Clock) -> Self {
        let seen = Seen { since: clock.now(), names: HashSet::new() };
        MissingNames { configured, clock, seen: Lock::new(seen) }
    }

    /// Logs a requested name if it is missing in the SANs `served` and was not logged before.
    pub(super) fn note(&self, served: &BTreeSet<String>, name: &str) {
        let name = canonical(name);
        if !covers(served, &name)
            && let Some(line) = self.line(&name)
        {
            log::warn!("{line}");
        }
    }

    /// Returns the log line for a missing name, or `None` if it was logged or the limit is reached.
    fn line(&self, name: &str) -> Option<String> {
        let mut seen = self.seen.lock();
        let now = self.clock.now();
        if now - seen.since >= PERIOD {
            *seen = Seen { since: now, names: HashSet::new() };
        }
        if seen.names.len() > MAX_LOGGED || seen.names.contains(name) {
            return None;
        }
        let is_last = seen.names.len() == MAX_LOGGED;
        seen.names.insert(name.to_owned());
        drop(seen);
        if is_last {
            return Some(format!(
                "clients have requested {MAX_LOGGED} names that are not in the certificate; further ones are not logged for a day"
            ));
        }
        let all: Vec<String> = self.configured.iter().cloned().chain([name.to_owned()]).collect();
        Some(format!(
            "a client has requested {name}, which is not in the certificate; to add it, set in [tls]: names = {all:?} \
             (HOLDFAST_TLS_NAMES={})",
            all.join(",")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_covers_one_label() {
        let names: BTreeSet<String> =
            ["pi.lan", "*.home.lan", "192.0.2.7", "fe80::1"].map(str::to_owned).into();
        for name in ["pi.lan", "PI.lan.", "a.home.lan", "192.0.2.7", "::ffff:192.0.2.7", "FE80:0::1"] {
            assert!(covers(&names, &canonical(name)), "{name}");
        }
        for name in ["pi", "x.pi.lan", "a.b.home.lan", "home.lan", "192.0.2.8", "fe80::2"] {
            assert!(!covers(&names, &canonical(name)), "{name}");
        }
    }

    #[test]
    fn missing_names_are_logged_once_and_up_to_the_limit() {
        let clock = Clock::manual(0);
        let missing = MissingNames::with_clock(vec!["pi.lan".into()], clock.clone());
        let line = missing.line("hub.lan").unwrap();
        assert!(
            line.contains("requested hub.lan") && line.contains("names = [\"pi.lan\", \"hub.lan\"]"),
            "{line}"
        );
        assert!(line.contains("HOLDFAST_TLS_NAMES=pi.lan,hub.lan"), "{line}");
        assert_eq!(missing.line("hub.lan"), None);
        let lines = (0..1000).filter_map(|number| missing.line(&format!("{number}.lan"))).count();
        assert_eq!(lines, MAX_LOGGED);
        assert!(missing.seen.lock().names.len() <= MAX_LOGGED + 1);
        clock.advance(PERIOD);
        assert!(missing.line("hub.lan").is_some());
    }

    #[test]
    fn sans_of_a_certificate_are_read() {
        let names = ["pi.lan", "192.0.2.7", "fe80::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        assert_eq!(of_certificate(made.cert.der()), names.into());
        assert!(of_certificate(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
