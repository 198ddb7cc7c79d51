//! Verification of passwords with bcrypt: throttled, queued, and at a cost that does not reveal whether a user exists.

use std::net::IpAddr;
use std::sync::Arc;

use super::credentials::Credentials;
use super::htpasswd::{self, UserName};
use super::identity::IdentifyError;
use super::keyed_hash::Tag;
use super::state::Access;
use super::throttle;
use super::users::Users;

/// Policy for a right password in the credential cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CachePolicy {
    /// Trusts it until its TTL ends: for requests of the API, which send the password each time.
    Trust,
    /// Verifies it again: for forms, which are sent seldom.
    VerifyAgain,
}

impl Access {
    /// Verifies a password, and returns the user with the snapshot of the users that it was verified with.
    ///
    /// The order of the steps: cache, throttle, queue, cache again, bcrypt on a blocking thread, cache.
    pub(super) async fn verify(
        &self,
        credentials: &Credentials,
        client: IpAddr,
        policy: CachePolicy,
    ) -> Result<(UserName, Arc<Users>), IdentifyError> {
        let tag = self.cache.tag_of(credentials);
        // Not the recent snapshot: a user who was added just now has to get in.
        let users = self.current_users().await;
        if let Some(outcome) = self.known_outcome(&tag, &users, policy) {
            return self.noted(outcome).map(|user| (user, users));
        }
        let address = throttle::network(client);
        let recognised = self.cache.recognises(&tag, &users.hashes);
        let attempt =
            if recognised { None } else { Some(self.throttle.admit(address, &credentials.name).await?) };
        let preferred = recognised || self.throttle.is_known(address);
        // No error occurs: the queue refuses no entry and is never closed.
        let permit = self.queue.acquire(address, preferred).await.map_err(|_| IdentifyError::Unavailable)?;
        // Another request may have verified the same credentials while this one waited.
        let users = self.current_users().await;
        if let Some(outcome) = self.known_outcome(&tag, &users, policy) {
            return self.noted(outcome).map(|user| (user, users));
        }
        let (decoy, asked, credentials) =
            (self.cache.number_of(&credentials.name), Arc::clone(&users), credentials.clone());
        let verified = tokio::task::spawn_blocking(move || {
            let user = verified(&asked, &credentials, decoy);
            if let Some(attempt) = attempt {
                attempt.settle(user.is_some());
            }
            // Moved into this thread, so that a client that disconnects frees no permit while bcrypt runs for it.
            drop(permit);
            user
        });
        let Some(user) = verified.await.map_err(|_| IdentifyError::Unavailable)? else {
            self.cache.insert_wrong(tag, users.stamp);
            return Err(IdentifyError::WrongCredentials);
        };
        self.throttle.note_success(address);
        let hash = users.hashes.get(user.as_str()).ok_or(IdentifyError::WrongCredentials)?;
        self.cache.insert_right(tag, users.stamp, user.clone(), hash);
        self.last_logins.note(&user);
        Ok((user, users))
    }

    /// Notes a log-in, if there is one.
    fn noted(&self, outcome: Result<UserName, IdentifyError>) -> Result<UserName, IdentifyError> {
        outcome.inspect(|user| self.last_logins.note(user))
    }

    /// Returns the outcome for credentials that need no verification.
    fn known_outcome(
        &self,
        tag: &Tag,
        users: &Users,
        policy: CachePolicy,
    ) -> Option<Result<UserName, IdentifyError>> {
        if !users.is_readable {
            return Some(Err(IdentifyError::Unavailable));
        }
        if users.decoys.is_empty() || self.cache.is_wrong(tag, users.stamp) {
            return Some(Err(IdentifyError::WrongCredentials));
        }
        match policy {
            CachePolicy::Trust => self.cache.verified_user(tag, users.stamp).map(Ok),
            CachePolicy::VerifyAgain => None,
        }
    }
}

/// Returns the user if the password is right.
///
/// Every other outcome takes as long as the most expensive hash in the file: the password of an unknown user is
/// verified against a decoy, the hash of a known user, and further bcrypt runs pad the difference to the most expensive
/// hash. A random cost for unknown names would not suffice: if only one user has a hash of some cost, guesses at that
/// name stand out.
fn verified(users: &Users, credentials: &Credentials, decoy: usize) -> Option<UserName> {
    let known = users.hashes.get(&credentials.name);
    let decoy = users.decoys.get(decoy.checked_rem(users.decoys.len())?)?;
    let hash = known.unwrap_or(decoy);
    let right = bcrypt::verify(credentials.password.as_bytes(), hash).unwrap_or(false);
    // bcrypt ignores the end of a long password.
    if right && known.is_some() && !htpasswd::is_truncated(&credentials.password) {
        return credentials.name.parse().ok();
    }
    let cost = hash.parse::<bcrypt::HashParts>().ok()?.get_cost();
    // Costs are exponents: 2^n + (2^n + 2^(n+1) + ... + 2^(m-1)) = 2^m.
    for cost in cost..users.highest_cost {
        std::hint::black_box(bcrypt::bcrypt(cost, [0; 16], b"as long as a password"));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::htpasswd::Htpasswd;
    use super::super::rules::Anonymous;
    use super::super::testing::settings;
    use super::super::users_latch::UsersLatch;
    use super::*;

    fn users(lines: &[(&str, u32)]) -> Users {
        let text: String = lines
            .iter()
            .map(|(name, cost)| format!("{name}:{}\n", bcrypt::hash("secret", *cost).unwrap()))
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), Some(Anonymous::None), false);
        Users::new(&settings, None, &Htpasswd::parse(&text), Arc::default(), &UsersLatch::default())
    }

    fn verify(users: &Users, name: &str, password: &str, decoy: usize) -> Option<UserName> {
        let credentials = Credentials { name: name.into(), password: password.into() };
        verified(users, &credentials, decoy)
    }

    #[test]
    fn only_the_right_password_of_a_known_user_is_accepted() {
        let users = users(&[("alice", 4), ("bob", 6)]);
        assert_eq!(verify(&users, "alice", "secret", 0).unwrap().as_str(), "alice");
        assert_eq!(verify(&users, "bob", "secret", 7).unwrap().as_str(), "bob");
        for decoy in 0..4 {
            assert_eq!(verify(&users, "eve", "secret", decoy), None);
            assert_eq!(verify(&users, "alice", "other", decoy), None);
        }
        assert_eq!(users.highest_cost, 6);
    }

    /// The margin is wide for a busy machine: without padding, cost 4 would be 64 times as fast as cost 10.
    #[test]
    fn wrong_password_takes_the_same_time_for_every_name() {
        let users = users(&[("cheap", 4), ("dear", 10)]);
        let time = |name: &str, decoy: usize| {
            let once = || {
                let began = Instant::now();
                assert_eq!(verify(&users, name, "other", decoy), None);
                began.elapsed()
            };
            (0..5).map(|_| once()).min().unwrap_or(Duration::ZERO)
        };
        let times = [time("cheap", 0), time("dear", 0), time("unknown", 0), time("unknown", 1)];
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*most < *least * 8, "{times:?}");
    }
}
