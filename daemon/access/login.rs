//! Logging in with a form, and what users may change of their own file.

use std::collections::HashMap;
use std::net::IpAddr;

use super::htpasswd::{Htpasswd, HtpasswdError, UserName};
use super::rules::{Rule, may_do_everything};
use super::verify::Trust;
use super::{Access, Credentials, IdentifyError, Identity, Sessions};

impl Access {
    /// Begins a session for a user with the right password; gives its secret. It costs and is throttled like any
    /// other password.
    ///
    /// # Errors
    /// [`IdentifyError`].
    pub async fn log_in(
        &self,
        sessions: &Sessions,
        name: &str,
        password: &str,
        client: IpAddr,
    ) -> Result<String, IdentifyError> {
        let credentials = Credentials { name: name.to_owned(), password: password.to_owned() };
        let (user, users) = self.verify(&credentials, client, Trust::Nothing).await?;
        // Verified a moment ago by these very users.
        let hash = users.hashes.get(user.as_str()).ok_or(IdentifyError::Wrong)?;
        sessions.begin(user, hash).map_err(|_| IdentifyError::Unavailable)
    }

    /// Whether this is the password of a user, who is asked for it once more.
    ///
    /// # Errors
    /// [`IdentifyError`].
    pub async fn confirm(
        &self,
        user: &UserName,
        password: &str,
        client: IpAddr,
    ) -> Result<(), IdentifyError> {
        let credentials = Credentials { name: user.to_string(), password: password.to_owned() };
        self.verify(&credentials, client, Trust::Nothing).await.map(drop)
    }

    /// Who has a session with this secret; without one it is nobody in particular. What is permitted afterwards goes by
    /// the users of now.
    pub async fn session(&self, sessions: &Sessions, secret: Option<&str>) -> Identity {
        let users = self.lately().await;
        let found = secret.and_then(|secret| sessions.find(secret, self.settings.session, &users.hashes));
        found.map_or(Identity::Anonymous, Identity::User)
    }

    /// How many are logged in.
    pub async fn logged_in(&self, sessions: &Sessions) -> usize {
        let users = self.current().await;
        sessions.count(self.settings.session, &users.hashes)
    }

    /// The names of those who can log in, sorted.
    pub async fn users(&self) -> Vec<String> {
        let mut names: Vec<String> = self.current().await.hashes.keys().cloned().collect();
        names.sort();
        names
    }

    /// The one who cannot be removed, if there is one.
    pub async fn last_user(&self) -> Option<UserName> {
        last(&self.current().await.hashes, &self.settings.rules).map(|(name, _)| name)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`HtpasswdError::Exists`], [`HtpasswdError::Password`], or that the file cannot be changed.
    pub async fn add_user(&self, name: &UserName, password: String) -> Result<(), HtpasswdError> {
        let name = name.clone();
        self.edit(move |file| file.add(&name, &password)).await
    }

    /// Changes the password of a user, which ends the sessions of that user.
    ///
    /// # Errors
    /// [`HtpasswdError::Unknown`], [`HtpasswdError::Password`], or that the file cannot be changed.
    pub async fn change_password(&self, name: &UserName, password: String) -> Result<(), HtpasswdError> {
        let name = name.clone();
        self.edit(move |file| file.change(&name, &password)).await
    }

    /// Changes the password of a user who has confirmed the old one, and begins a session with the new one; gives its
    /// secret. The new one is not verified again: it would cost as much, and a throttle might say no to what is done.
    ///
    /// # Errors
    /// As [`Access::change_password`].
    pub async fn renew_password(
        &self,
        sessions: &Sessions,
        name: &UserName,
        password: String,
    ) -> Result<String, HtpasswdError> {
        self.change_password(name, password).await?;
        let users = self.current().await;
        let hash = users.hashes.get(name.as_str()).ok_or_else(|| HtpasswdError::Unknown(name.clone()))?;
        sessions.begin(name.clone(), hash)
    }

    /// Removes a user, but not the last who can log in, nor the last who may do everything.
    ///
    /// # Errors
    /// [`HtpasswdError::Last`], [`HtpasswdError::LastMaster`], [`HtpasswdError::Unknown`], or that the file cannot be
    /// changed.
    pub async fn remove_user(&self, name: &UserName) -> Result<(), HtpasswdError> {
        let (name, rules) = (name.clone(), self.settings.rules.clone());
        self.edit(move |file| match last(&file.users(), &rules) {
            Some((last, why)) if last == name => Err(why(last)),
            _ => file.remove(&name),
        })
        .await
    }

    async fn edit(
        &self,
        change: impl FnOnce(&mut Htpasswd) -> Result<(), HtpasswdError> + Send + 'static,
    ) -> Result<(), HtpasswdError> {
        let path = self.settings.htpasswd.clone();
        let failed = {
            let path = path.clone();
            move |error| HtpasswdError::Io { action: "change", path, source: std::io::Error::other(error) }
        };
        // A password is hashed, which costs as much as to verify one. Only users change the file, one at a time, and do not
        // wait behind guesses. The semaphore is never closed.
        let _turn = self.editing.acquire().await;
        let edited = tokio::task::spawn_blocking(move || Htpasswd::edit(&path, change)).await;
        edited.map_err(failed)??;
        self.current().await;
        Ok(())
    }
}

/// The error that says why a user stays.
type Why = fn(UserName) -> HtpasswdError;

/// Who has to stay, and why: the only one who can log in, or who may do everything.
fn last(users: &HashMap<String, String>, rules: &[Rule]) -> Option<(UserName, Why)> {
    let mut masters = users.keys().filter(|name| may_do_everything(name, rules));
    let (name, why): (_, Why) = match (masters.next(), masters.next()) {
        _ if users.len() == 1 => (users.keys().next()?, HtpasswdError::Last),
        (Some(only), None) => (only, HtpasswdError::LastMaster),
        _ => return None,
    };
    Some((name.parse().ok()?, why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Access, Action, Anonymous, SeenLines, Settings, TokenSigner, throttle};
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn access(directory: &std::path::Path) -> Access {
        with_rules(directory, Vec::new())
    }

    fn with_rules(directory: &std::path::Path, rules: Vec<Rule>) -> Access {
        let settings = Settings {
            htpasswd: directory.join("htpasswd"),
            anonymous: Some(Anonymous::None),
            remember: Duration::from_mins(1),
            session: Duration::from_hours(1),
            rules,
            challenge: None,
            token: Duration::from_mins(5),
            signer: TokenSigner::new(&[1; 32], || 0),
            open_without_users: false,
            open_as_registry_2: false,
        };
        Access::open(settings, SeenLines::default()).unwrap()
    }

    #[tokio::test]
    async fn a_form_logs_in_and_a_changed_password_logs_out() {
        let directory = tempfile::tempdir().unwrap();
        let (access, sessions) = (access(directory.path()), Sessions::new().unwrap());
        let alice: UserName = "alice".parse().unwrap();
        assert_eq!(access.log_in(&sessions, "alice", "one", HERE).await, Err(IdentifyError::Wrong));
        access.add_user(&alice, "one".into()).await.unwrap();
        assert_eq!(access.log_in(&sessions, "alice", "two", HERE).await, Err(IdentifyError::Wrong));
        let secret = access.log_in(&sessions, "alice", "one", HERE).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::User(alice.clone()));
        access.confirm(&alice, "one", HERE).await.unwrap();
        access.change_password(&alice, "two".into()).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::Anonymous);
        assert_eq!(access.logged_in(&sessions).await, 0);
    }

    #[tokio::test]
    async fn the_last_user_stays() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path());
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        access.add_user(&alice, "one".into()).await.unwrap();
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::Last(_))));
        assert!(matches!(access.remove_user(&bob).await, Err(HtpasswdError::Unknown(_))));
        access.add_user(&bob, "one".into()).await.unwrap();
        access.remove_user(&alice).await.unwrap();
        assert_eq!(access.users().await, ["bob"]);
        // Lines that nobody can log in with are not counted.
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
    async fn the_last_who_may_do_everything_stays() {
        let directory = tempfile::tempdir().unwrap();
        let all = vec![Action::Pull, Action::Push, Action::Delete];
        let rule = Rule {
            users: vec!["alice".into(), "carol".into()],
            repositories: vec!["*".to_owned().into()],
            allow: all,
        };
        let access = with_rules(directory.path(), vec![rule]);
        let names: [UserName; 3] = ["alice", "bob", "carol"].map(|name| name.parse().unwrap());
        for name in &names {
            access.add_user(name, "one".into()).await.unwrap();
        }
        let [alice, bob, carol] = names;
        assert_eq!(access.last_user().await, None);
        access.remove_user(&carol).await.unwrap();
        assert_eq!(access.last_user().await, Some(alice.clone()));
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::LastMaster(_))));
        access.remove_user(&bob).await.unwrap();
        assert!(matches!(access.remove_user(&alice).await, Err(HtpasswdError::Last(_))));
    }

    #[tokio::test]
    async fn a_password_that_is_changed_goes_on_although_somebody_guesses() {
        let directory = tempfile::tempdir().unwrap();
        let (access, sessions) = (access(directory.path()), Sessions::new().unwrap());
        let alice: UserName = "alice".parse().unwrap();
        access.add_user(&alice, "one".into()).await.unwrap();
        access.confirm(&alice, "one", HERE).await.unwrap();
        for guess in 0..throttle::OF_NAME.0 {
            let guess = access.confirm(&alice, &format!("guess {guess}"), HERE).await;
            assert_eq!(guess, Err(IdentifyError::Wrong));
        }
        let secret = access.renew_password(&sessions, &alice, "two".into()).await.unwrap();
        assert_eq!(access.session(&sessions, Some(&secret)).await, Identity::User(alice));
    }
}
