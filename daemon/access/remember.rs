//! Verified credentials, remembered for minutes as a keyed hash and never as themselves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

use super::htpasswd::{HtpasswdError, Stamp, UserName};

/// How many credentials are remembered.
const LIMIT: usize = 1024;

struct Entry {
    user: UserName,
    stamp: Option<Stamp>,
    until: Instant,
}

pub(super) struct Remembered {
    key: hmac::Key,
    lasts: Duration,
    entries: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Remembered {
    /// Remembers nothing yet; the key lives as long as the daemon.
    pub(super) fn new(lasts: Duration) -> Result<Self, HtpasswdError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Remembered { key: key.map_err(|_| HtpasswdError::Random)?, lasts, entries: Mutex::default() })
    }

    fn tag(&self, header: &str) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, header.as_bytes()).as_ref());
        tag
    }

    /// The user that this header was verified for, if that was lately and with the same file of users.
    pub(super) fn find(&self, header: &str, stamp: Option<Stamp>) -> Option<UserName> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&self.tag(header))?;
        (entry.stamp == stamp && entry.until > Instant::now()).then(|| entry.user.clone())
    }

    /// Remembers a header that was verified.
    pub(super) fn keep(&self, header: &str, stamp: Option<Stamp>, user: UserName) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= LIMIT {
            let now = Instant::now();
            entries.retain(|_, entry| entry.until > now && entry.stamp == stamp);
        }
        if entries.len() >= LIMIT {
            entries.clear();
        }
        entries.insert(self.tag(header), Entry { user, stamp, until: Instant::now() + self.lasts });
    }
}
