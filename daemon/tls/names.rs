//! The names in the certificate, and those that clients ask for in vain.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// How many missing names are logged within [`AGAIN`]: a client can ask for any number of them.
const MOST: usize = 32;
/// After how long names are logged again.
const AGAIN: Duration = Duration::from_hours(24);

/// Logs once each name that clients ask for and that is not in the certificate.
pub(super) struct MissingNames {
    /// The names of the configuration.
    configured: Vec<String>,
    seen: Mutex<Seen>,
}

struct Seen {
    since: Instant,
    names: HashSet<String>,
}

/// Reads the names and addresses of a certificate.
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

/// Returns true if a certificate for `names` is one for `name`, which is in lower case.
fn covers(names: &BTreeSet<String>, name: &str) -> bool {
    let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    names.contains(name) || wildcard.is_some_and(|wildcard| names.contains(&wildcard))
}

/// Returns a name as certificates have it: in lower case, without the dot at its end, an address in its short form.
fn canonical(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().map_or(name, |address| address.to_canonical().to_string())
}

impl MissingNames {
    pub(super) fn new(configured: Vec<String>) -> Self {
        MissingNames { configured, seen: Mutex::new(Seen { since: Instant::now(), names: HashSet::new() }) }
    }

    /// Logs a name that a client has asked for, if the certificate is not for it and it was not logged before.
    pub(super) fn note(&self, served: &BTreeSet<String>, name: &str) {
        let name = canonical(name);
        if !covers(served, &name)
            && let Some(line) = self.line(&name)
        {
            log::warn!("{line}");
        }
    }

    /// Returns the line for a missing name, if one is due.
    fn line(&self, name: &str) -> Option<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.since.elapsed() >= AGAIN {
            *seen = Seen { since: Instant::now(), names: HashSet::new() };
        }
        if seen.names.len() > MOST || seen.names.contains(name) {
            return None;
        }
        let is_last = seen.names.len() == MOST;
        seen.names.insert(name.to_owned());
        drop(seen);
        if is_last {
            return Some(format!(
                "clients have asked for {MOST} names that are not in the certificate; further ones are not logged for a day"
            ));
        }
        let all: Vec<String> = self.configured.iter().cloned().chain([name.to_owned()]).collect();
        Some(format!(
            "a client has asked for {name}, which is not in the certificate; to add it, set in [tls]: names = {all:?} \
             (HOLDFAST_TLS_NAMES={})",
            all.join(",")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_covers_its_names_and_one_label_of_a_wildcard() {
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
    fn a_name_is_logged_once_with_the_line_to_add_and_not_too_many_are() {
        let missing = MissingNames::new(vec!["pi.lan".into()]);
        let line = missing.line("hub.lan").unwrap();
        assert!(
            line.contains("asked for hub.lan") && line.contains("names = [\"pi.lan\", \"hub.lan\"]"),
            "{line}"
        );
        assert!(line.contains("HOLDFAST_TLS_NAMES=pi.lan,hub.lan"), "{line}");
        assert_eq!(missing.line("hub.lan"), None);
        let lines = (0..1000).filter_map(|number| missing.line(&format!("{number}.lan"))).count();
        assert_eq!(lines, MOST);
        assert!(missing.seen.lock().unwrap().names.len() <= MOST + 1);
        missing.seen.lock().unwrap().since -= AGAIN;
        assert!(missing.line("hub.lan").is_some());
    }

    #[test]
    fn the_names_of_a_certificate_are_read() {
        let names = ["pi.lan", "192.0.2.7", "fe80::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        assert_eq!(of_certificate(made.cert.der()), names.into());
        assert!(of_certificate(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
