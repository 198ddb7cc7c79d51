//! Cache of verified credentials, right and wrong ones, by their keyed hash.
//!
//! A right password is trusted for minutes, so that bcrypt does not run for each request. For a day it is still
//! recognised, so that the throttle never refuses it. A wrong password is cached, too: a client that repeats an old
//! password costs no bcrypt and no budget. A changed htpasswd file ends trust and the cache of wrong passwords; a
//! changed entry of the user ends recognition.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::credentials::Credentials;
use super::htpasswd::{HtpasswdError, UserName};
use super::keyed_hash::{KeyedHash, Tag};
use crate::base::{Clock, FileStamp, Lock};

/// Capacity for right credentials.
const RIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Capacity for wrong credentials.
const WRONG: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// TTL of recognition: the time for which a right password is recognised.
const RECOGNITION_TTL: Duration = Duration::from_hours(24);

struct Right {
    user: UserName,
    /// The keyed hash of the user's htpasswd entry.
    entry: Tag,
    /// The htpasswd file that the password was verified with.
    stamp: Option<FileStamp>,
    verified: Instant,
}

pub(super) struct CredentialCache {
    key: KeyedHash,
    clock: Clock,
    ttl: Duration,
    /// Right credentials in the order of verification. Lookups `peek`: they do not change the order, so that the entry
    /// that was verified first is evicted first.
    right: Lock<LruCache<Tag, Right>>,
    wrong: Lock<LruCache<Tag, Option<FileStamp>>>,
}

impl CredentialCache {
    /// Creates an empty cache. A right password is trusted for `ttl`.
    pub(super) fn new(ttl: Duration, clock: Clock) -> Result<Self, HtpasswdError> {
        let (right, wrong) = (LruCache::new(RIGHT), LruCache::new(WRONG));
        Ok(CredentialCache {
            key: KeyedHash::random()?,
            clock,
            ttl,
            right: Lock::new(right),
            wrong: Lock::new(wrong),
        })
    }

    fn tag(&self, kind: &str, name: &str, secret: &str) -> Tag {
        // With the length, no other split of the same text into name and secret has the same tag.
        self.key.tag(&format!("{kind} {} {name}{secret}", name.len()))
    }

    /// Returns the keyed hash of credentials.
    pub(super) fn tag_of(&self, credentials: &Credentials) -> Tag {
        self.tag("credentials", &credentials.name, &credentials.password)
    }

    /// Returns a number for a user name that clients cannot predict.
    pub(super) fn number_of(&self, name: &str) -> usize {
        let tag = self.tag("name", name, "");
        usize::from_le_bytes(std::array::from_fn(|at| tag[at]))
    }

    /// Returns the user of credentials that were verified within the TTL and with this version of the htpasswd file.
    pub(super) fn verified_user(&self, tag: &Tag, stamp: Option<FileStamp>) -> Option<UserName> {
        let right = self.right.lock();
        let found = right.peek(tag)?;
        (found.stamp == stamp && self.age(found) < self.ttl).then(|| found.user.clone())
    }

    fn age(&self, right: &Right) -> Duration {
        self.clock.now() - right.verified
    }

    /// Returns true for credentials that were right within [`RECOGNITION_TTL`], if the entry of their user is
    /// unchanged.
    pub(super) fn recognises(&self, tag: &Tag, hashes: &HashMap<String, String>) -> bool {
        let right = self.right.lock();
        let Some(found) = right.peek(tag).filter(|found| self.age(found) < RECOGNITION_TTL) else {
            return false;
        };
        let name = found.user.as_str();
        hashes.get(name).is_some_and(|hash| self.tag("line", name, hash) == found.entry)
    }

    /// Caches right credentials. `hash` is the user's htpasswd hash.
    pub(super) fn insert_right(&self, tag: Tag, stamp: Option<FileStamp>, user: UserName, hash: &str) {
        let entry = self.tag("line", user.as_str(), hash);
        self.right.lock().put(tag, Right { user, entry, stamp, verified: self.clock.now() });
    }

    /// Returns true for credentials that were wrong with this version of the htpasswd file.
    pub(super) fn is_wrong(&self, tag: &Tag, stamp: Option<FileStamp>) -> bool {
        self.wrong.lock().peek(tag).is_some_and(|known| *known == stamp)
    }

    /// Caches wrong credentials.
    pub(super) fn insert_wrong(&self, tag: Tag, stamp: Option<FileStamp>) {
        self.wrong.lock().put(tag, stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials { name: name.into(), password: password.into() }
    }

    #[test]
    fn credentials_have_distinct_tags_and_the_cache_is_bounded() {
        let cache = CredentialCache::new(Duration::from_mins(1), Clock::system()).unwrap();
        let tag = |name: &str, password: &str| cache.tag_of(&credentials(name, password));
        assert_ne!(tag("ab", "c"), tag("a", "bc"));
        for number in 0..WRONG.get() + 10 {
            cache.insert_wrong(tag("alice", &number.to_string()), None);
            // Being looked up keeps no entry in the cache.
            cache.is_wrong(&tag("alice", "0"), None);
        }
        assert!(!cache.is_wrong(&tag("alice", "0"), None));
        assert!(cache.is_wrong(&tag("alice", &WRONG.to_string()), None));
        assert_eq!(cache.wrong.lock().len(), WRONG.get());
        for number in 0..RIGHT.get() + 10 {
            cache.insert_right(tag("alice", &number.to_string()), None, "alice".parse().unwrap(), "hash");
            cache.verified_user(&tag("alice", "0"), None);
        }
        assert_eq!(cache.right.lock().len(), RIGHT.get());
        assert!(cache.verified_user(&tag("alice", "0"), None).is_none());
        assert!(cache.verified_user(&tag("alice", &RIGHT.to_string()), None).is_some());
    }

    #[test]
    fn credentials_are_recognised_for_a_day_or_until_the_entry_of_their_user_changes() {
        let clock = Clock::manual(0);
        let cache = CredentialCache::new(Duration::from_mins(1), clock.clone()).unwrap();
        let tag = cache.tag_of(&credentials("alice", "one"));
        let users = |hash: &str| HashMap::from([("alice".to_owned(), hash.to_owned())]);
        assert!(!cache.recognises(&tag, &users("hash")));
        cache.insert_right(tag, None, "alice".parse().unwrap(), "hash");
        assert!(cache.recognises(&tag, &users("hash")));
        assert!(cache.verified_user(&tag, None).is_some());
        clock.advance(Duration::from_mins(1));
        assert!(cache.verified_user(&tag, None).is_none(), "the TTL is over");
        assert!(cache.recognises(&tag, &users("hash")));
        assert!(!cache.recognises(&tag, &users("other")) && !cache.recognises(&tag, &HashMap::new()));
        clock.advance(RECOGNITION_TTL);
        assert!(!cache.recognises(&tag, &users("hash")));
    }
}
