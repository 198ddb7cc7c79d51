//! Who is logged in on the admin page: sessions in memory, and the tokens of its forms.
//!
//! A session is a secret of 32 random bytes, kept as a keyed hash and never as itself. It is bound to the line of its
//! user in the file of users, so that it ends with the user and with the password. Nothing of this is written to the
//! disk, and a restart ends all of it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::htpasswd::{HtpasswdError, UserName};

/// The largest number of sessions. At this limit the user with the most sessions loses one.
const LIMIT: usize = 512;
/// The largest number of sessions of one user. At this limit the user loses one of these.
const LIMIT_OF_A_USER: usize = 32;

/// A keyed hash.
type Tag = [u8; 32];

struct Session {
    user: UserName,
    /// The line of the user, hashed.
    line: Tag,
    used: Instant,
}

/// The sessions, for as long as the daemon runs.
pub struct Sessions {
    key: hmac::Key,
    entries: Mutex<HashMap<Tag, Session>>,
}

impl Sessions {
    /// Nobody is logged in yet; the key lives as long as the daemon.
    ///
    /// # Errors
    /// [`HtpasswdError::Random`].
    pub fn new() -> Result<Self, HtpasswdError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Sessions { key: key.map_err(|_| HtpasswdError::Random)?, entries: Mutex::default() })
    }

    /// A secret that nobody can guess, for a cookie.
    ///
    /// # Errors
    /// [`HtpasswdError::Random`].
    pub fn secret(&self) -> Result<String, HtpasswdError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| HtpasswdError::Random)?;
        Ok(hex::encode(bytes))
    }

    /// The token that forms carry for whoever has this secret in a cookie: only a page of this daemon knows it.
    pub fn form_token(&self, secret: &str) -> String {
        hex::encode(self.hash("form", secret))
    }

    /// Whether a form carries the token that belongs to a secret.
    pub fn is_form_token(&self, secret: &str, token: &str) -> bool {
        let Ok(token) = hex::decode(token) else { return false };
        hmac::verify(&self.key, format!("form {secret}").as_bytes(), &token).is_ok()
    }

    fn hash(&self, kind: &str, text: &str) -> Tag {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, format!("{kind} {text}").as_bytes()).as_ref());
        tag
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Tag, Session>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session of a user who has this hash of a password; gives its secret.
    pub(super) fn begin(&self, user: UserName, hash: &str) -> Result<String, HtpasswdError> {
        let secret = self.secret()?;
        let session = Session { user, line: self.hash("line", hash), used: Instant::now() };
        let mut entries = self.entries();
        make_room(&mut entries, &session.user);
        entries.insert(self.hash("session", &secret), session);
        Ok(secret)
    }

    /// Who has a session with this secret, which lasts for so long after its last use. `hashes` has the users of now.
    pub(super) fn find(
        &self,
        secret: &str,
        lasts: Duration,
        hashes: &HashMap<String, String>,
    ) -> Option<UserName> {
        let id = self.hash("session", secret);
        let mut entries = self.entries();
        let session = entries.get_mut(&id)?;
        if self.is_over(session, lasts, hashes) {
            entries.remove(&id);
            return None;
        }
        session.used = Instant::now();
        Some(session.user.clone())
    }

    fn is_over(&self, session: &Session, lasts: Duration, hashes: &HashMap<String, String>) -> bool {
        let line = hashes.get(session.user.as_str()).map(|hash| self.hash("line", hash));
        session.used.elapsed() >= lasts || line != Some(session.line)
    }

    /// Ends a session.
    pub fn end(&self, secret: &str) {
        self.entries().remove(&self.hash("session", secret));
    }

    /// How many sessions there are, less those that are over.
    pub(super) fn count(&self, lasts: Duration, hashes: &HashMap<String, String>) -> usize {
        let mut entries = self.entries();
        entries.retain(|_, session| !self.is_over(session, lasts, hashes));
        entries.len()
    }
}

/// Makes room for a session of this user, so that log-ins of one user do not end the sessions of another.
fn make_room(entries: &mut HashMap<Tag, Session>, user: &UserName) {
    let mut counts: HashMap<&UserName, usize> = HashMap::new();
    for session in entries.values() {
        *counts.entry(&session.user).or_default() += 1;
    }
    let loser = if counts.get(user).is_some_and(|count| *count >= LIMIT_OF_A_USER) {
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
    fn a_session_ends_with_its_user_its_password_and_its_time() {
        let sessions = Sessions::new().unwrap();
        let now = users(&[("alice", "one"), ("bob", "two")]);
        let begin = || sessions.begin("alice".parse().unwrap(), "one").unwrap();
        let secret = begin();
        assert_eq!(sessions.find(&secret, HOUR, &now).unwrap().as_str(), "alice");
        assert!(sessions.find("another", HOUR, &now).is_none());
        for after in [users(&[("alice", "changed")]), users(&[("bob", "two")])] {
            let secret = begin();
            assert!(sessions.find(&secret, HOUR, &after).is_none());
            assert!(sessions.find(&secret, HOUR, &now).is_none(), "and does not come back");
        }
        assert!(sessions.find(&begin(), Duration::ZERO, &now).is_none());
        assert_eq!(sessions.count(HOUR, &now), 1);
        sessions.end(&secret);
        assert_eq!(sessions.count(HOUR, &now), 0);
    }

    #[test]
    fn a_user_who_logs_in_often_ends_only_own_sessions() {
        let sessions = Sessions::new().unwrap();
        let now = users(&[("alice", "one"), ("bob", "two")]);
        let bob = sessions.begin("bob".parse().unwrap(), "two").unwrap();
        let all: Vec<String> =
            (0..=LIMIT).map(|_| sessions.begin("alice".parse().unwrap(), "one").unwrap()).collect();
        assert!(sessions.find(&bob, HOUR, &now).is_some());
        assert_eq!(sessions.count(HOUR, &now), LIMIT_OF_A_USER + 1);
        let (gone, kept) = all.split_at(all.len() - LIMIT_OF_A_USER);
        assert!(gone.iter().all(|secret| sessions.find(secret, HOUR, &now).is_none()));
        assert!(kept.iter().all(|secret| sessions.find(secret, HOUR, &now).is_some()));
    }

    #[test]
    fn there_are_not_too_many_and_the_user_with_the_most_loses_one() {
        let sessions = Sessions::new().unwrap();
        let begin = |name: &str| sessions.begin(name.parse().unwrap(), "one").unwrap();
        let names: Vec<String> = (0..LIMIT).map(|number| format!("user{number}")).collect();
        let now = users(&names.iter().map(|name| (name.as_str(), "one")).collect::<Vec<_>>());
        let first = begin("user0");
        let most: Vec<String> = (0..LIMIT_OF_A_USER).map(|_| begin("user1")).collect();
        let others: Vec<String> =
            names[2..].iter().take(LIMIT - 1 - LIMIT_OF_A_USER).map(|name| begin(name)).collect();
        assert_eq!(sessions.count(HOUR, &now), LIMIT);
        let last = begin(&names[LIMIT - 1]);
        assert_eq!(sessions.count(HOUR, &now), LIMIT);
        assert!(sessions.find(&most[0], HOUR, &now).is_none());
        let kept = most[1..].iter().chain(&others).chain([&first, &last]);
        assert!(kept.into_iter().all(|secret| sessions.find(secret, HOUR, &now).is_some()));
    }

    #[test]
    fn a_token_is_for_one_secret() {
        let sessions = Sessions::new().unwrap();
        let token = sessions.form_token("mine");
        assert!(sessions.is_form_token("mine", &token));
        for (secret, token) in
            [("other", token.as_str()), ("mine", ""), ("mine", "zz"), ("mine", &token[2..])]
        {
            assert!(!sessions.is_form_token(secret, token));
        }
        assert!(!Sessions::new().unwrap().is_form_token("mine", &token), "nor in another daemon");
    }
}
