//! The access control in effect. A request that takes long asks it again before its change takes effect: meanwhile the rules
//! or the users may have changed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::identity::Identity;
use super::permit::{Operation, Permit, Refusal};
use super::state::Access;

/// The access control of the current configuration, which each reload exchanges.
#[derive(Clone, Default)]
pub struct CurrentAccess(Arc<ArcSwapOption<Access>>);

impl CurrentAccess {
    /// Exchanges the access control.
    pub fn replace(&self, access: Arc<Access>) {
        self.0.store(Some(access));
    }

    /// Returns the permit that the holder of an earlier one gets now. A process that serves only its own user has no access
    /// control, and leaves permits as they are.
    ///
    /// # Errors
    /// Returns [`Refusal`] if the user is gone, or may no longer do this.
    pub async fn renew(&self, permit: &Permit, wanted: &Operation) -> Result<Permit, Refusal> {
        match self.0.load_full() {
            Some(access) => access.renew(permit, wanted).await,
            None => Ok(permit.clone()),
        }
    }
}

impl Access {
    async fn renew(&self, permit: &Permit, wanted: &Operation) -> Result<Permit, Refusal> {
        let users = self.recent_users().await;
        match permit.identity() {
            Identity::User(name) if !users.hashes.contains_key(name.as_str()) => return Err(Refusal::Denied),
            Identity::User(_) | Identity::Anonymous | Identity::Local(_) => {}
        }
        Ok(self.permit(permit.identity().clone(), wanted)?.with_grants_of(permit))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::htpasswd::Htpasswd;
    use super::super::identity::LocalUser;
    use super::super::rules::{Action, Anonymous, Rule};
    use super::super::scope::Scope;
    use super::super::testing::{self, HERE, advance, basic, rule, set_password, settings};
    use super::super::users_latch::UsersLatch;
    use super::*;

    fn open(directory: &Path, rules: Vec<Rule>) -> Arc<Access> {
        let mut settings = settings(directory, Some(Anonymous::None), false);
        settings.auth.rules = rules;
        Arc::new(testing::open(settings, UsersLatch::default()))
    }

    fn wanted(name: &str, action: Action) -> Operation {
        Operation::Repository { name: name.parse().unwrap(), action }
    }

    #[tokio::test]
    async fn permit_follows_the_rules_and_the_users_of_now() {
        let directory = tempfile::tempdir().unwrap();
        set_password(directory.path(), "ci", "one");
        let all = || vec![rule(&["ci"], "team/*", &[Action::Pull, Action::Push])];
        let before = open(directory.path(), all());
        let current = CurrentAccess::default();
        let push = wanted("team/a", Action::Push);
        let permit = before.permit(Identity::User("ci".parse().unwrap()), &push).unwrap();
        // Without access control the permit stays.
        assert!(current.renew(&permit, &push).await.is_ok());
        current.replace(Arc::clone(&before));
        assert!(current.renew(&permit, &push).await.is_ok());
        current.replace(open(directory.path(), vec![rule(&["ci"], "team/*", &[Action::Pull])]));
        assert_eq!(current.renew(&permit, &push).await.err(), Some(Refusal::Denied));
        let renewed = current.renew(&permit, &wanted("team/a", Action::Pull)).await.unwrap();
        assert!(!renewed.may(Action::Push, &"team/a".parse().unwrap()));
        let again = open(directory.path(), all());
        current.replace(Arc::clone(&again));
        assert!(current.renew(&permit, &push).await.is_ok());
        let (file, user) = (directory.path().join("htpasswd"), "ci".parse().unwrap());
        Htpasswd::edit(&file, |file| file.remove(&user)).unwrap();
        advance(&again);
        assert_eq!(current.renew(&permit, &push).await.err(), Some(Refusal::Denied));
        let local = Permit::of_local_user(LocalUser::new("root"));
        assert!(current.renew(&local, &push).await.is_ok());
    }

    #[tokio::test]
    async fn renewed_permit_has_the_grants_of_its_token() {
        let directory = tempfile::tempdir().unwrap();
        set_password(directory.path(), "ci", "one");
        let access = open(directory.path(), Vec::new());
        let caller = access.identify(Some(&basic("ci:one")), HERE).await.unwrap();
        let scopes = Scope::parse_all(["repository:a:pull,push"]).unwrap();
        let header = format!("Bearer {}", access.issue_token(&caller, scopes).text);
        let caller = access.identify(Some(&header), HERE).await.unwrap();
        let push = wanted("a", Action::Push);
        let permit = access.permit_caller(&caller, &push).unwrap();
        let current = CurrentAccess::default();
        current.replace(access);
        let renewed = current.renew(&permit, &push).await.unwrap();
        let may = |name: &str| renewed.may(Action::Push, &name.parse().unwrap());
        assert!(may("a") && !may("b"));
    }
}
