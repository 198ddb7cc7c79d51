//! Verifies passwords, in turns, at a cost that does not tell whether a user exists.

use std::net::IpAddr;
use std::sync::Arc;

use super::credentials::Credentials;
use super::htpasswd::{self, UserName};
use super::remember::Tag;
use super::{Access, IdentifyError, Users, throttle};

/// Whether a password that was verified a moment ago is verified again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Requests of the API: what was right minutes ago is right.
    Remembered,
    /// Forms: the password itself is asked for.
    Nothing,
}

impl Access {
    /// Verifies a password when its turn has come; gives the user, and the users of that moment.
    pub(super) async fn verify(
        &self,
        credentials: &Credentials,
        client: IpAddr,
        trust: Trust,
    ) -> Result<(UserName, Arc<Users>), IdentifyError> {
        let tag = self.remembered.tag_of(credentials);
        // A user who was added a moment ago gets in.
        let users = self.current().await;
        if let Some(outcome) = self.known_outcome(&tag, &users, trust) {
            return outcome.map(|user| (user, users));
        }
        let address = throttle::network(client);
        let recognised = self.remembered.recognises(&tag, &users.hashes);
        let attempt =
            if recognised { None } else { Some(self.throttle.admit(address, &credentials.name).await?) };
        let preferred = recognised || self.throttle.is_known(address);
        let turn = self.turns.take(address, preferred).await;
        // Another request with the same credentials may have been verified while this one waited.
        let users = self.current().await;
        if let Some(outcome) = self.known_outcome(&tag, &users, trust) {
            return outcome.map(|user| (user, users));
        }
        let (decoy, asked, credentials) =
            (self.remembered.number_of(&credentials.name), Arc::clone(&users), credentials.clone());
        let verified = tokio::task::spawn_blocking(move || {
            let user = verified(&asked, &credentials, decoy);
            if let Some(attempt) = attempt {
                attempt.settle(user.is_some());
            }
            // Held until here: a client that goes away frees no turn while its password is being verified.
            drop(turn);
            user
        });
        let Some(user) = verified.await.map_err(|_| IdentifyError::Unavailable)? else {
            self.remembered.keep_wrong(tag, users.stamp);
            return Err(IdentifyError::Wrong);
        };
        self.throttle.note_success(address);
        let hash = users.hashes.get(user.as_str()).ok_or(IdentifyError::Wrong)?;
        self.remembered.keep(tag, users.stamp, user.clone(), hash);
        Ok((user, users))
    }

    /// The outcome for credentials that need no verification.
    fn known_outcome(
        &self,
        tag: &Tag,
        users: &Users,
        trust: Trust,
    ) -> Option<Result<UserName, IdentifyError>> {
        if !users.readable {
            return Some(Err(IdentifyError::Unavailable));
        }
        if users.decoys.is_empty() || self.remembered.is_wrong(tag, users.stamp) {
            return Some(Err(IdentifyError::Wrong));
        }
        match trust {
            Trust::Remembered => self.remembered.find(tag, users.stamp).map(Ok),
            Trust::Nothing => None,
        }
    }
}

/// Returns the user if the password is right.
///
/// Everything else costs as much as the most expensive hash in the file: an unknown user is verified against the hash of a
/// known one, and what that hash costs less than the most expensive is made up for. Drawing a cost for unknown names would not
/// do: where one user alone has a certain cost, a guess at that name stands out.
fn verified(users: &Users, credentials: &Credentials, decoy: usize) -> Option<UserName> {
    let known = users.hashes.get(&credentials.name);
    let decoy = users.decoys.get(decoy.checked_rem(users.decoys.len())?)?;
    let hash = known.unwrap_or(decoy);
    let right = bcrypt::verify(credentials.password.as_bytes(), hash).unwrap_or(false);
    // bcrypt compares only the beginning of a long password.
    if right && known.is_some() && !htpasswd::is_cut_off(&credentials.password) {
        return credentials.name.parse().ok();
    }
    let cost = hash.parse::<bcrypt::HashParts>().ok()?.get_cost();
    // 2^n and 2^n + 2^(n+1) + ... + 2^(m-1) are 2^m.
    for cost in cost..users.highest_cost {
        std::hint::black_box(bcrypt::bcrypt(cost, [0; 16], b"as long as a password"));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::htpasswd::Htpasswd;
    use super::super::tests::settings;
    use super::super::{Anonymous, SeenLines};
    use super::*;

    fn users(lines: &[(&str, u32)]) -> Users {
        let text: String = lines
            .iter()
            .map(|(name, cost)| format!("{name}:{}\n", bcrypt::hash("secret", *cost).unwrap()))
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), Some(Anonymous::None), false);
        Users::new(&settings, None, &Htpasswd::parse(&text), &SeenLines::default())
    }

    fn ask(users: &Users, name: &str, password: &str, decoy: usize) -> Option<UserName> {
        let credentials = Credentials { name: name.into(), password: password.into() };
        verified(users, &credentials, decoy)
    }

    #[test]
    fn only_the_right_password_of_a_known_user_is_right() {
        let users = users(&[("alice", 4), ("bob", 6)]);
        assert_eq!(ask(&users, "alice", "secret", 0).unwrap().as_str(), "alice");
        assert_eq!(ask(&users, "bob", "secret", 7).unwrap().as_str(), "bob");
        for decoy in 0..4 {
            assert_eq!(ask(&users, "eve", "secret", decoy), None);
            assert_eq!(ask(&users, "alice", "other", decoy), None);
        }
        assert_eq!(users.highest_cost, 6);
    }

    /// The ratios are far apart, so that a busy machine does not matter: without padding, cost 4 is 64 times as fast as cost 10.
    #[test]
    fn a_wrong_password_costs_the_same_for_every_name() {
        let users = users(&[("cheap", 4), ("dear", 10)]);
        let time = |name: &str, decoy: usize| {
            let once = || {
                let began = Instant::now();
                assert_eq!(ask(&users, name, "other", decoy), None);
                began.elapsed()
            };
            (0..5).map(|_| once()).min().unwrap_or(Duration::ZERO)
        };
        let times = [time("cheap", 0), time("dear", 0), time("nobody", 0), time("nobody", 1)];
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*most < *least * 8, "{times:?}");
    }
}
