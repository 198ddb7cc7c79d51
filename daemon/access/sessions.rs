//! Sessions of the admin page, and the CSRF tokens of its forms.
//!
//! A session is identified by a secret of 32 random bytes in a cookie; only its keyed hash is kept. It is bound to the
//! htpasswd entry of its user, so that it ends with the user and with the password. Sessions are in memory only: a
//! restart ends them.

use std::collections::HashMap;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::htpasswd::{HtpasswdError, UserName};
use super::keyed_hash::{KeyedHash, Tag};
use crate::base::{Clock, Lock};

/// The largest number of sessions. At this limit the user with the most sessions loses the one used least recently.
const LIMIT: usize = 512;
/// The largest number of sessions of one user. At this limit the user loses the one used least recently.
const LIMIT_PER_USER: usize = 32;

struct Session {
    user: UserName,
    /// The keyed hash of the user's htpasswd entry.
    entry: Tag,
    used: Instant,
}

/// The sessions of this process.
pub struct Sessions {
    key: KeyedHash,
    clock: Clock,
    /// Not an LRU cache: eviction is fair between users, so that log-ins of one user do not end the sessions of
    /// another.
    entries: Lock<HashMap<Tag, Session>>,
}

impl Sessions {
    /// Creates an empty set of sessions, under a key that lives as long as the daemon.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Random`].
    pub fn new() -> Result<Self, HtpasswdError> {
        Self::with_clock(Clock::system())
    }

    fn with_clock(clock: Clock) -> Result<Self, HtpasswdError> {
        Ok(Sessions { key: KeyedHash::random()?, clock, entries: Lock::default() })
    }

    /// Generates a secret for a cookie.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Random`].
    pub fn new_secret(&self) -> Result<String, HtpasswdError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| HtpasswdError::Random)?;
        Ok(hex::encode(bytes))
    }

    /// Returns the CSRF token for the forms of a browser with this secret in its cookie.
    pub fn form_token(&self, secret: &str) -> String {
        hex::encode(self.key.tag(&format!("form {secret}")))
    }

    /// Returns true if a form has the CSRF token of this secret.
    pub fn is_form_token(&self, secret: &str, token: &str) -> bool {
        hex::decode(token).is_ok_and(|token| self.key.is_tag(&format!("form {secret}"), &token))
    }

    fn session_id(&self, secret: &str) -> Tag {
        self.key.tag(&format!("session {secret}"))
    }

    fn entry_of(&self, hash: &str) -> Tag {
        self.key.tag(&format!("line {hash}"))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Tag, Session>> {
        self.entries.lock()
    }

    /// Starts a session of a user with this password hash, and returns its secret.
    pub(super) fn begin(&self, user: UserName, hash: &str) -> Result<String, HtpasswdError> {
        let secret = self.new_secret()?;
        let session = Session { user, entry: self.entry_of(hash), used: self.clock.now() };
        let mut entries = self.entries();
        evict_for(&mut entries, &session.user);
        entries.insert(self.session_id(&secret), session);
        Ok(secret)
    }

    /// Returns the user of the session with this secret, and marks the session as used. `hashes` has the current users.
    pub(super) fn find(
        &self,
        secret: &str,
        idle_timeout: Duration,
        hashes: &HashMap<String, String>,
    ) -> Option<UserName> {
        let id = self.session_id(secret);
        let mut entries = self.entries();
        let session = entries.get_mut(&id)?;
        if self.is_over(session, idle_timeout, hashes) {
            entries.remove(&id);
            return None;
        }
        session.used = self.clock.now();
        Some(session.user.clone())
    }

    fn is_over(&self, session: &Session, idle_timeout: Duration, hashes: &HashMap<String, String>) -> bool {
        let entry = hashes.get(session.user.as_str()).map(|hash| self.entry_of(hash));
        self.clock.now() - session.used >= idle_timeout || entry != Some(session.entry)
    }

    /// Ends a session.
    pub fn end(&self, secret: &str) {
        self.entries().remove(&self.session_id(secret));
    }

    /// Returns the number of sessions, after removing those that are over.
    pub(super) fn count(&self, idle_timeout: Duration, hashes: &HashMap<String, String>) -> usize {
        let mut entries = self.entries();
        entries.retain(|_, session| !self.is_over(session, idle_timeout, hashes));
        entries.len()
    }
}

/// Makes space for a session of this user.
fn evict_for(entries: &mut HashMap<Tag, Session>, user: &UserName) {
    let mut counts: HashMap<&UserName, usize> = HashMap::new();
    for session in entries.values() {
        *counts.entry(&session.user).or_default() += 1;
    }
    let loser = if counts.get(user).is_some_and(|count| *count >= LIMIT_PER_USER) {
        Some(user.clone())
    } else if entries.len() >= LIMIT {
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(user, _)| user.clone())
    } else {
        None
    };
    let Some(loser) = loser else { return };
    let of_loser = entries.iter().filter(|(_, session)| session.user == loser);
    let oldest = of_loser.min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
    oldest.map(|oldest| entries.remove(&oldest));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn users(lines: &[(&str, &str)]) -> HashMap<String, String> {
        lines.iter().map(|(name, hash)| ((*name).into(), (*hash).into())).collect()
    }

    #[test]
    fn session_ends_with_its_user_its_password_and_its_idle_timeout() {
        let clock = Clock::manual(0);
        let sessions = Sessions::with_clock(clock.clone()).unwrap();
        let now = users(&[("alice", "one"), ("bob", "two")]);
        let begin = || sessions.begin("alice".parse().unwrap(), "one").unwrap();
        let secret = begin();
        assert_eq!(sessions.find(&secret, HOUR, &now).unwrap().as_str(), "alice");
        assert!(sessions.find("another", HOUR, &now).is_none());
        for after in [users(&[("alice", "changed")]), users(&[("bob", "two")])] {
            let secret = begin();
            assert!(sessions.find(&secret, HOUR, &after).is_none());
            assert!(sessions.find(&secret, HOUR, &now).is_none(), "an ended session does not come back");
        }
        assert!(sessions.find(&begin(), Duration::ZERO, &now).is_none());
        let unused = begin();
        clock.advance(HOUR / 2);
        assert!(sessions.find(&secret, HOUR, &now).is_some());
        clock.advance(HOUR / 2);
        assert!(sessions.find(&unused, HOUR, &now).is_none());
        assert!(sessions.find(&secret, HOUR, &now).is_some(), "each use extends a session");
        assert_eq!(sessions.count(HOUR, &now), 1);
        sessions.end(&secret);
        assert_eq!(sessions.count(HOUR, &now), 0);
    }

    #[test]
    fn session_limit_of_a_user_evicts_only_that_users_sessions() {
        let sessions = Sessions::new().unwrap();
        let now = users(&[("alice", "one"), ("bob", "two")]);
        let bob = sessions.begin("bob".parse().unwrap(), "two").unwrap();
        let all: Vec<String> =
            (0..=LIMIT).map(|_| sessions.begin("alice".parse().unwrap(), "one").unwrap()).collect();
        assert!(sessions.find(&bob, HOUR, &now).is_some());
        assert_eq!(sessions.count(HOUR, &now), LIMIT_PER_USER + 1);
        let (gone, kept) = all.split_at(all.len() - LIMIT_PER_USER);
        assert!(gone.iter().all(|secret| sessions.find(secret, HOUR, &now).is_none()));
        assert!(kept.iter().all(|secret| sessions.find(secret, HOUR, &now).is_some()));
    }

    #[test]
    fn session_limit_evicts_from_the_user_with_the_most_sessions() {
        let sessions = Sessions::new().unwrap();
        let begin = |name: &str| sessions.begin(name.parse().unwrap(), "one").unwrap();
        let names: Vec<String> = (0..LIMIT).map(|number| format!("user{number}")).collect();
        let now = users(&names.iter().map(|name| (name.as_str(), "one")).collect::<Vec<_>>());
        let first = begin("user0");
        let most: Vec<String> = (0..LIMIT_PER_USER).map(|_| begin("user1")).collect();
        let others: Vec<String> =
            names[2..].iter().take(LIMIT - 1 - LIMIT_PER_USER).map(|name| begin(name)).collect();
        assert_eq!(sessions.count(HOUR, &now), LIMIT);
        let last = begin(&names[LIMIT - 1]);
        assert_eq!(sessions.count(HOUR, &now), LIMIT);
        assert!(sessions.find(&most[0], HOUR, &now).is_none());
        let kept = most[1..].iter().chain(&others).chain([&first, &last]);
        assert!(kept.into_iter().all(|secret| sessions.find(secret, HOUR, &now).is_some()));
    }

    #[test]
    fn form_token_is_valid_for_one_secret() {
        let sessions = Sessions::new().unwrap();
        let token = sessions.form_token("mine");
        assert!(sessions.is_form_token("mine", &token));
        for (secret, token) in
            [("other", token.as_str()), ("mine", ""), ("mine", "zz"), ("mine", &token[2..])]
        {
            assert!(!sessions.is_form_token(secret, token));
        }
        assert!(!Sessions::new().unwrap().is_form_token("mine", &token), "each process has its own key");
    }
}
