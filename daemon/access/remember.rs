//! Cache of verified credentials, right and wrong ones, as keyed hashes.
//!
//! A right password is trusted for minutes, so that bcrypt does not run for each request. It is recognised for a day, so that
//! throttling never refuses it. A wrong one is remembered as well: a program that repeats an old password costs nothing and uses
//! up no budget. A changed file of users ends the trust and the memory of wrong passwords; a changed line ends everything.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

use super::credentials::Credentials;
use super::htpasswd::{HtpasswdError, Stamp, UserName};

/// The number of right credentials that are remembered.
const RIGHT: usize = 1024;
/// The number of wrong ones.
const WRONG: usize = 4096;
/// How long a right password is recognised.
const RECOGNISED: Duration = Duration::from_hours(24);

/// A keyed hash.
pub(super) type Tag = [u8; 32];

struct Right {
    user: UserName,
    /// The keyed hash of the user's line.
    line: Tag,
    stamp: Option<Stamp>,
    since: Instant,
}

#[derive(Default)]
struct Wrong {
    tags: HashMap<Tag, Option<Stamp>>,
    order: VecDeque<Tag>,
}

pub(super) struct Remembered {
    key: hmac::Key,
    lasts: Duration,
    right: Mutex<HashMap<Tag, Right>>,
    wrong: Mutex<Wrong>,
}

impl Remembered {
    /// Remembers nothing yet; the key lives as long as the daemon.
    pub(super) fn new(lasts: Duration) -> Result<Self, HtpasswdError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| HtpasswdError::Random)?;
        Ok(Remembered { key, lasts, right: Mutex::default(), wrong: Mutex::default() })
    }

    fn tag(&self, kind: &str, name: &str, secret: &str) -> Tag {
        // The length keeps a name and a password from being read as others.
        let text = format!("{kind} {} {name}{secret}", name.len());
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, text.as_bytes()).as_ref());
        tag
    }

    /// The keyed hash of credentials.
    pub(super) fn tag_of(&self, credentials: &Credentials) -> Tag {
        self.tag("credentials", &credentials.name, &credentials.password)
    }

    /// A number for a name that clients cannot predict.
    pub(super) fn number_of(&self, name: &str) -> usize {
        let tag = self.tag("name", name, "");
        usize::from_le_bytes(std::array::from_fn(|at| tag[at]))
    }

    /// Returns the user whose credentials these are, if they were verified lately and with the same file of users.
    pub(super) fn find(&self, tag: &Tag, stamp: Option<Stamp>) -> Option<UserName> {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = right.get(tag)?;
        (entry.stamp == stamp && entry.since.elapsed() < self.lasts).then(|| entry.user.clone())
    }

    /// Returns true for credentials that were right within a day, if their user still has that line.
    pub(super) fn recognises(&self, tag: &Tag, hashes: &HashMap<String, String>) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = right.get(tag).filter(|entry| entry.since.elapsed() < RECOGNISED) else {
            return false;
        };
        let name = entry.user.as_str();
        hashes.get(name).is_some_and(|hash| self.tag("line", name, hash) == entry.line)
    }

    /// Remembers credentials that are right.
    pub(super) fn keep(&self, tag: Tag, stamp: Option<Stamp>, user: UserName, hash: &str) {
        let line = self.tag("line", user.as_str(), hash);
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= RIGHT && !right.contains_key(&tag) {
            let oldest = right.iter().min_by_key(|(_, entry)| entry.since).map(|(tag, _)| *tag);
            oldest.map(|oldest| right.remove(&oldest));
        }
        right.insert(tag, Right { user, line, stamp, since: Instant::now() });
    }

    /// Returns true for credentials that were wrong with the same file of users.
    pub(super) fn is_wrong(&self, tag: &Tag, stamp: Option<Stamp>) -> bool {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.tags.get(tag).is_some_and(|known| *known == stamp)
    }

    /// Remembers credentials that are wrong.
    pub(super) fn keep_wrong(&self, tag: Tag, stamp: Option<Stamp>) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.tags.insert(tag, stamp).is_none() {
            wrong.order.push_back(tag);
        }
        if wrong.order.len() > WRONG
            && let Some(oldest) = wrong.order.pop_front()
        {
            wrong.tags.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials { name: name.into(), password: password.into() }
    }

    #[test]
    fn credentials_are_told_apart_and_their_number_is_bounded() {
        let remembered = Remembered::new(Duration::from_mins(1)).unwrap();
        let tag = |name: &str, password: &str| remembered.tag_of(&credentials(name, password));
        assert_ne!(tag("ab", "c"), tag("a", "bc"));
        for number in 0..WRONG + 10 {
            remembered.keep_wrong(tag("alice", &number.to_string()), None);
        }
        assert!(!remembered.is_wrong(&tag("alice", "0"), None));
        assert!(remembered.is_wrong(&tag("alice", &WRONG.to_string()), None));
        assert_eq!(remembered.wrong.lock().unwrap().tags.len(), WRONG);
        for number in 0..RIGHT + 10 {
            remembered.keep(tag("alice", &number.to_string()), None, "alice".parse().unwrap(), "hash");
        }
        assert_eq!(remembered.right.lock().unwrap().len(), RIGHT);
        assert!(remembered.find(&tag("alice", &RIGHT.to_string()), None).is_some());
    }

    #[test]
    fn credentials_are_recognised_until_their_line_changes() {
        let remembered = Remembered::new(Duration::ZERO).unwrap();
        let tag = remembered.tag_of(&credentials("alice", "one"));
        let users = |hash: &str| HashMap::from([("alice".to_owned(), hash.to_owned())]);
        assert!(!remembered.recognises(&tag, &users("hash")));
        remembered.keep(tag, None, "alice".parse().unwrap(), "hash");
        assert!(remembered.recognises(&tag, &users("hash")));
        assert!(remembered.find(&tag, None).is_none(), "its time of trust is over");
        assert!(
            !remembered.recognises(&tag, &users("other")) && !remembered.recognises(&tag, &HashMap::new())
        );
    }
}
