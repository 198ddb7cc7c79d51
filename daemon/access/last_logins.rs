//! The last log-in of each user, in memory: by a password at the page, at the API or for a token.

use std::collections::HashMap;

use super::htpasswd::UserName;
use crate::base::Lock;
use crate::base::clock::unix_seconds;

/// The most users; further ones are not noted.
const MAX_USERS: usize = 10_000;

/// The last log-ins of this process.
#[derive(Default)]
pub(super) struct LastLogins(Lock<HashMap<UserName, u64>>);

impl LastLogins {
    /// Notes a log-in now.
    pub(super) fn note(&self, user: &UserName) {
        let (mut known, now) = (self.0.lock(), unix_seconds());
        if let Some(time) = known.get_mut(user) {
            *time = now;
        } else if known.len() < MAX_USERS {
            known.insert(user.clone(), now);
        }
    }

    /// Returns the time of the last log-in of a user, in seconds since 1970.
    pub(super) fn of(&self, user: &str) -> Option<u64> {
        let user: UserName = user.parse().ok()?;
        self.0.lock().get(&user).copied()
    }

    /// Takes over the log-ins of the previous configuration.
    pub(super) fn follow(&self, before: &LastLogins) {
        let earlier = std::mem::take(&mut *before.0.lock());
        let mut known = self.0.lock();
        for (user, time) in earlier {
            known.entry(user).or_insert(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ins_survive_a_reload() {
        let (before, after) = (LastLogins::default(), LastLogins::default());
        before.note(&"alice".parse().unwrap());
        assert!(before.of("alice").is_some() && before.of("bob").is_none() && before.of("-").is_none());
        after.follow(&before);
        assert!(after.of("alice").is_some());
    }
}
