//! Changes of the users that another program made, found by comparing two versions of the htpasswd file.
//!
//! Changes by the admin page are expected, and left out: the page knows who made them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::users::Users;
use crate::base::Lock;
use crate::oci::{Algorithm, Hasher};

/// The most changes of one version that are reported one by one.
const MAX_CHANGES: usize = 100;

/// The most users that are compared with those of an earlier process.
const MAX_SEEN: usize = 1000;

/// The users that a process has seen, each with a fingerprint of the password's hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUsers(BTreeMap<String, String>);

impl SeenUsers {
    fn of(users: &Users) -> Self {
        let fingerprint =
            |hash: &String| Hasher::digest(Algorithm::Sha256, hash.as_bytes()).hex()[..16].to_owned();
        SeenUsers(users.hashes.iter().map(|(name, hash)| (name.clone(), fingerprint(hash))).collect())
    }
}

/// The change of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserChangeKind {
    /// The user was added.
    Added,
    /// The user was removed.
    Removed,
    /// The user got another password.
    PasswordSet,
    /// A rule of the admin page for the name was added, changed or removed.
    RightsSet,
}

impl UserChangeKind {
    /// Returns what happened, in a word or two.
    pub fn text(self) -> &'static str {
        match self {
            UserChangeKind::Added => "added",
            UserChangeKind::Removed => "removed",
            UserChangeKind::PasswordSet => "password set",
            UserChangeKind::RightsSet => "rights changed",
        }
    }
}

/// A change of the htpasswd file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserChange {
    /// A user has changed.
    User(String, UserChangeKind),
    /// So many users have changed that they are not reported one by one.
    Many(usize),
}

/// The changes that are not taken yet.
pub(super) struct UserChanges {
    state: Lock<State>,
    noted: Notify,
}

struct State {
    /// The users of the last version that could be read.
    known: Arc<Users>,
    waiting: Vec<UserChange>,
    /// The users that the admin page is changing.
    expected: Vec<String>,
}

/// An expected change of a user; ends on drop.
pub(super) struct Expected<'a>(&'a UserChanges, String);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if let Some(place) = state.expected.iter().position(|name| *name == self.1) {
            state.expected.swap_remove(place);
        }
    }
}

impl UserChanges {
    /// Begins with the users of a version.
    pub(super) fn new(known: Arc<Users>) -> Self {
        let state = State { known, waiting: Vec::new(), expected: Vec::new() };
        UserChanges { state: Lock::new(state), noted: Notify::new() }
    }

    /// Begins with the users, and the waiting changes, of the previous configuration.
    pub(super) fn follow(&self, before: &UserChanges) {
        let (known, waiting) = {
            let mut state = before.state.lock();
            (Arc::clone(&state.known), std::mem::take(&mut state.waiting))
        };
        let now = {
            let mut state = self.state.lock();
            state.waiting = waiting;
            std::mem::replace(&mut state.known, known)
        };
        self.noted.notify_one();
        self.compare(&now);
    }

    /// Leaves out changes of a user until the returned value is dropped.
    pub(super) fn expect(&self, name: &str) -> Expected<'_> {
        self.state.lock().expected.push(name.to_owned());
        Expected(self, name.to_owned())
    }

    /// Notes the differences of a new version of the file.
    pub(super) fn compare(&self, users: &Arc<Users>) {
        if !users.is_readable {
            return;
        }
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.known, Arc::clone(users));
        let changes = differences(&before.hashes, &users.hashes);
        self.note(state, changes);
    }

    /// Notes the differences from the users that an earlier process has seen.
    pub(super) fn compare_with_seen(&self, seen: &SeenUsers) {
        let state = self.state.lock();
        if !state.known.is_readable {
            return;
        }
        let before = seen.0.clone().into_iter().collect();
        let now = SeenUsers::of(&state.known).0.into_iter().collect();
        let changes = differences(&before, &now);
        self.note(state, changes);
    }

    /// Returns the users of the last version that could be read; `None` if there are more than are compared.
    pub(super) fn seen(&self) -> Option<SeenUsers> {
        let state = self.state.lock();
        (state.known.hashes.len() <= MAX_SEEN).then(|| SeenUsers::of(&state.known))
    }

    fn note(&self, mut state: MutexGuard<'_, State>, mut changes: Vec<(String, UserChangeKind)>) {
        changes.retain(|(name, _)| !state.expected.contains(name));
        if changes.is_empty() {
            return;
        }
        if changes.len() > MAX_CHANGES || state.waiting.len() > MAX_CHANGES {
            state.waiting.truncate(MAX_CHANGES);
            state.waiting.push(UserChange::Many(changes.len()));
        } else {
            state.waiting.extend(changes.into_iter().map(|(name, kind)| UserChange::User(name, kind)));
        }
        drop(state);
        self.noted.notify_one();
    }

    /// Waits for changes and returns them.
    pub(super) async fn take(&self) -> Vec<UserChange> {
        loop {
            let waiting = std::mem::take(&mut self.state.lock().waiting);
            if !waiting.is_empty() {
                return waiting;
            }
            self.noted.notified().await;
        }
    }
}

/// Returns the differences of two sets of users with their hashes, sorted by name.
fn differences(
    before: &HashMap<String, String>,
    now: &HashMap<String, String>,
) -> Vec<(String, UserChangeKind)> {
    let mut changes = Vec::new();
    for (name, hash) in now {
        match before.get(name) {
            None => changes.push((name.clone(), UserChangeKind::Added)),
            Some(old) if old != hash => changes.push((name.clone(), UserChangeKind::PasswordSet)),
            Some(_) => {}
        }
    }
    let removed = before.keys().filter(|name| !now.contains_key(*name));
    changes.extend(removed.map(|name| (name.clone(), UserChangeKind::Removed)));
    changes.sort();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_users_are_compared_by_name_and_hash() {
        let users = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect()
        };
        let (before, now) = (
            users(&[("alice", "1"), ("bob", "2"), ("eve", "3")]),
            users(&[("alice", "9"), ("carol", "4"), ("eve", "3")]),
        );
        let changes = differences(&before, &now);
        let expected = [
            ("alice", UserChangeKind::PasswordSet),
            ("bob", UserChangeKind::Removed),
            ("carol", UserChangeKind::Added),
        ];
        assert_eq!(changes, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(differences(&now, &now), []);
    }
}
