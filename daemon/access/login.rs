//! Log-in by a form, and the management of users from the admin page.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::credentials::Credentials;
use super::htpasswd::{Htpasswd, HtpasswdError, UserName};
use super::identity::{IdentifyError, Identity};
use super::rule_set::RuleSet;
use super::sessions::Sessions;
use super::state::Access;
use super::verify::CachePolicy;

impl Access {
    /// Starts a session for a user with the right password, and returns its secret. The password is verified and
    /// throttled like one of the API.
    ///
    /// # Errors
    /// Returns [`IdentifyError`].
    pub async fn log_in(
        &self,
        sessions: &Sessions,
        name: &str,
        password: &str,
        client: IpAddr,
    ) -> Result<String, IdentifyError> {
        let credentials = Credentials { name: name.to_owned(), password: password.to_owned() };
        let (user, users) = self.verify(&credentials, client, CachePolicy::VerifyAgain).await?;
        // Always found: the password was verified with this snapshot of the users.
        let hash = users.hashes.get(user.as_str()).ok_or(IdentifyError::WrongCredentials)?;
        sessions.begin(user, hash).map_err(|_| IdentifyError::Unavailable)
    }

    /// Verifies the password of a user who is logged in, before an operation that needs confirmation.
    ///
    /// # Errors
    /// Returns [`IdentifyError`].
    pub async fn confirm(
        &self,
        user: &UserName,
        password: &str,
        client: IpAddr,
    ) -> Result<(), IdentifyError> {
        let credentials = Credentials { name: user.to_string(), password: password.to_owned() };
        self.verify(&credentials, client, CachePolicy::VerifyAgain).await.map(drop)
    }

    /// Returns the user of the session with this secret, or the anonymous user without a valid session. Its permits
    /// follow the current rules.
    pub async fn session(&self, sessions: &Sessions, secret: Option<&str>) -> Identity {
        let users = self.recent_users().await;
        let found = secret.and_then(|secret| sessions.find(secret, self.settings.session, &users.hashes));
        found.map_or(Identity::Anonymous, Identity::User)
    }

    /// Returns the number of valid sessions.
    pub async fn logged_in(&self, sessions: &Sessions) -> usize {
        let users = self.current_users().await;
        sessions.count(self.settings.session, &users.hashes)
    }

    /// Returns the names of the users who can log in, sorted.
    pub async fn users(&self) -> Vec<String> {
        let mut names: Vec<String> = self.current_users().await.hashes.keys().cloned().collect();
        names.sort();
        names
    }

    /// Returns the user who cannot be removed, if there is one.
    pub async fn last_user(&self) -> Option<UserName> {
        let users = self.current_users().await;
        last(&users.hashes, &users.policy.rules).map(|(name, _)| name)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Exists`], [`HtpasswdError::Password`] or [`HtpasswdError::Io`].
    pub async fn add_user(&self, name: &UserName, password: String) -> Result<(), HtpasswdError> {
        let (name, _expected) = (name.clone(), self.changes.expect(name.as_str()));
        self.edit(move |file, _| file.add(&name, &password)).await
    }

    /// Changes the password of a user, which ends the sessions of that user.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Unknown`], [`HtpasswdError::Password`] or [`HtpasswdError::Io`].
    pub async fn change_password(&self, name: &UserName, password: String) -> Result<(), HtpasswdError> {
        let (name, _expected) = (name.clone(), self.changes.expect(name.as_str()));
        self.edit(move |file, _| file.change(&name, &password)).await
    }

    /// Changes the password of a user who confirmed the old one, starts a new session, and returns its secret. The new
    /// password is not verified: the throttle could refuse it after the change was made.
    ///
    /// # Errors
    /// Returns the errors of [`Access::change_password`].
    pub async fn renew_password(
        &self,
        sessions: &Sessions,
        name: &UserName,
        password: String,
    ) -> Result<String, HtpasswdError> {
        self.change_password(name, password).await?;
        let users = self.current_users().await;
        let hash = users.hashes.get(name.as_str()).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        sessions.begin(name.clone(), hash)
    }

    /// Removes a user, except the last one who can log in and the last one with full rights.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Last`], [`HtpasswdError::LastWithFullRights`], [`HtpasswdError::Unknown`] or
    /// [`HtpasswdError::Io`].
    pub async fn remove_user(&self, name: &UserName) -> Result<(), HtpasswdError> {
        let _expected = self.changes.expect(name.as_str());
        let name = name.clone();
        self.edit(move |file, rules| match last(&file.users(), rules) {
            Some((last, error)) if last == name => Err(error(last)),
            Some(_) | None => file.remove(&name),
        })
        .await
    }

    async fn edit(
        &self,
        change: impl FnOnce(&mut Htpasswd, &RuleSet) -> Result<(), HtpasswdError> + Send + 'static,
    ) -> Result<(), HtpasswdError> {
        let path = self.settings.auth.htpasswd.clone();
        let failed = {
            let path = path.clone();
            move |error| HtpasswdError::Io { action: "change", path, source: std::io::Error::other(error) }
        };
        // A semaphore of its own instead of the verification queue: hashing a password costs as much as verifying one,
        // but edits must not wait behind guesses. It is never closed.
        let _permit = self.editing.acquire().await;
        // After the wait: the edit before may have changed the rules.
        let policy = Arc::clone(&self.current_users().await.policy);
        let edit = move || Htpasswd::edit(&path, |file| change(file, &policy.rules));
        let edited = tokio::task::spawn_blocking(edit).await;
        edited.map_err(failed)??;
        self.current_users().await;
        Ok(())
    }
}

/// Constructor of the error that tells why a user cannot be removed.
type MakeError = fn(UserName) -> HtpasswdError;

/// Returns the user who cannot be removed: the only one who can log in, or the only one with full rights.
fn last(users: &HashMap<String, String>, rules: &RuleSet) -> Option<(UserName, MakeError)> {
    if users.len() == 1 {
        return Some((users.keys().next()?.parse().ok()?, HtpasswdError::Last));
    }
    let mut with_full_rights = users.keys().filter(|name| rules.has_full_rights(name));
    let only = with_full_rights.next().filter(|_| with_full_rights.next().is_none())?;
    Some((only.parse().ok()?, HtpasswdError::LastWithFullRights))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::rules::{Action, Anonymous, Rule};
    use super::super::testing::{HERE, rule, settings};
    use super::super::throttle::PER_NAME;
    use super::super::users_latch::UsersLatch;
    use super::*;

    fn access(directory: &Path) -> Access {
        with_rules(directory, Vec::new())
    }

    fn with_rules(directory: &Path, rules: Vec<Rule>) -> Access {
        let mut settings = settings(directory, Some(Anonymous::None), false);
        settings.auth.rules = rules;
        Access::open(settings, UsersLatch::default()).unwrap()
    }

    #[tokio::test]
    async fn changed_password_ends_the_session_of_a_form_login() {
        let directory = tempfile::tempdir().unwrap();
        let (access, sessions) = (access(directory.path()), Sessions::new().unwrap());
        let alice: UserName = "alice".parse().unwrap();
        assert_eq!(
            access.log_in(&sessions, "alice", "password one", HERE).await,
            Err(IdentifyError::WrongCredentials)
        );
        access.add_user(&alice, "password one".into()).await.unwrap();
        assert_eq!(
            access.log_in(&sessions, "alice", "password two", HERE).await,
            Err(IdentifyError::WrongCredentials)
        );
        let secret = access.log_in(&sessions, "alice", "password one", HERE).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::User(alice.clone()));
        access.confirm(&alice, "password one", HERE).await.unwrap();
        access.change_password(&alice, "password two".into()).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::Anonymous);
        assert_eq!(access.logged_in(&sessions).await, 0);
    }

    #[tokio::test]
    async fn last_user_who_can_log_in_cannot_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path());
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        access.add_user(&alice, "password one".into()).await.unwrap();
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::Last(_))));
        assert!(matches!(access.remove_user(&bob).await, Err(HtpasswdError::Unknown(_))));
        access.add_user(&bob, "password one".into()).await.unwrap();
        access.remove_user(&alice).await.unwrap();
        assert_eq!(access.users().await, ["bob"]);
        // Lines that log in no user are not counted.
        let path = directory.path().join("htpasswd");
        let text = std::fs::read_to_string(&path).unwrap();
        let more = Htpasswd::parse(&format!("{text}old:$apr1$x$y\n-{}", &text[3..]));
        Htpasswd::edit(&path, |file| {
            *file = more;
            Ok(())
        })
        .unwrap();
        assert!(matches!(access.remove_user(&bob).await, Err(HtpasswdError::Last(_))));
    }

    #[tokio::test]
    async fn last_user_with_full_rights_cannot_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let all = [Action::Pull, Action::Push, Action::Delete];
        let access = with_rules(directory.path(), vec![rule(&["alice", "carol"], "*", &all)]);
        let names: [UserName; 3] = ["alice", "bob", "carol"].map(|name| name.parse().unwrap());
        for name in &names {
            access.add_user(name, "password one".into()).await.unwrap();
        }
        let [alice, bob, carol] = names;
        assert_eq!(access.last_user().await, None);
        access.remove_user(&carol).await.unwrap();
        assert_eq!(access.last_user().await, Some(alice.clone()));
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::LastWithFullRights(_))));
        access.remove_user(&bob).await.unwrap();
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::Last(_))));
    }

    #[tokio::test]
    async fn password_can_be_changed_while_the_throttle_refuses_attempts() {
        let directory = tempfile::tempdir().unwrap();
        let (access, sessions) = (access(directory.path()), Sessions::new().unwrap());
        let alice: UserName = "alice".parse().unwrap();
        access.add_user(&alice, "password one".into()).await.unwrap();
        access.confirm(&alice, "password one", HERE).await.unwrap();
        for guess in 0..PER_NAME.0 {
            let guess = access.confirm(&alice, &format!("guess {guess}"), HERE).await;
            assert_eq!(guess, Err(IdentifyError::WrongCredentials));
        }
        let secret = access.renew_password(&sessions, &alice, "password two".into()).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::User(alice));
    }
}
