//! Bearer tokens in requests of the API: verification, issue, and the permits that they allow.

use std::sync::Arc;

use super::identity::{IdentifyError, Identity};
use super::permit::{Operation, Permit, Refusal};
use super::scope::Scope;
use super::state::Access;
use super::token::{Grants, IssuedToken};
use super::users::Users;

/// Credentials that a request presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// None.
    Nothing,
    /// A user name and a password.
    Password,
    /// A token with these grants.
    Token(Arc<Grants>),
}

/// The client that sent a request of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    identity: Identity,
    presented: Presented,
}

impl Caller {
    pub(super) fn of(identity: Identity, presented: Presented) -> Self {
        Caller { identity, presented }
    }

    /// Returns a client without credentials.
    pub(super) fn unidentified() -> Self {
        Caller::of(Identity::Anonymous, Presented::Nothing)
    }

    /// Returns the identity of the client.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns true for a request without credentials.
    pub fn has_no_credentials(&self) -> bool {
        self.presented == Presented::Nothing
    }

    /// Returns true for a request with a bearer token.
    pub fn has_token(&self) -> bool {
        matches!(self.presented, Presented::Token(_))
    }
}

impl Access {
    /// Verifies a token and returns the client that it was issued to.
    pub(super) fn verify_token(&self, token: &str, users: &Users) -> Result<Caller, IdentifyError> {
        let verified = self.settings.signer.verify(token, self.settings.auth.token, &users.hashes);
        let (identity, grants) = verified?;
        Ok(Caller::of(identity, Presented::Token(Arc::new(grants))))
    }

    /// Issues a token for those of the scopes that the current rules allow.
    pub fn issue_token(&self, caller: &Caller, scopes: Vec<Scope>) -> IssuedToken {
        let users = self.users.load();
        let grants = Grants::of(scopes, |action, name| users.policy.decide(&caller.identity, action, name));
        let hash = match &caller.identity {
            Identity::Anonymous | Identity::Local(_) => None,
            Identity::User(name) => users.hashes.get(name.as_str()).map(String::as_str),
        };
        self.settings.signer.issue(&caller.identity, hash, &grants, self.settings.auth.token)
    }

    /// Returns a permit for a request of the API, if the current rules and the grants of its token allow it.
    ///
    /// # Errors
    /// Returns [`Refusal`].
    pub fn permit_caller(&self, caller: &Caller, wanted: &Operation) -> Result<Permit, Refusal> {
        let permit = self.permit(caller.identity.clone(), wanted);
        let Presented::Token(grants) = &caller.presented else { return permit };
        let is_granted = match wanted {
            Operation::Ping => true,
            Operation::Catalog => grants.allow_catalog(),
            Operation::Repository { name, action } => grants.allow(*action, name),
            // No scope exists for these, and no route of the API needs them.
            Operation::Maintenance | Operation::Users => false,
        };
        match permit {
            Ok(permit) if is_granted => Ok(permit.restricted_to(Arc::clone(grants))),
            Ok(_) | Err(Refusal::NeedsLogin) => Err(Refusal::InsufficientScope),
            Err(refusal) => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::rules::{Action, Anonymous, Rule};
    use super::super::scope::Actions;
    use super::super::settings::Challenge;
    use super::super::testing::{self, HERE, advance, basic, rule, set_password, settings};
    use super::super::users_latch::UsersLatch;
    use super::*;

    fn open(directory: &Path, rules: Vec<Rule>) -> Access {
        let mut settings = settings(directory, Some(Anonymous::None), false);
        settings.auth.rules = rules;
        testing::open(settings, UsersLatch::default())
    }

    fn wanted(name: &str, action: Action) -> Operation {
        Operation::Repository { name: name.parse().unwrap(), action }
    }

    async fn header(access: &Access, credentials: Option<&str>, scope: &str) -> String {
        let header = credentials.map(basic);
        let caller = access.identify(header.as_deref(), HERE).await.unwrap();
        format!("Bearer {}", access.issue_token(&caller, Scope::parse_all([scope]).unwrap()).text)
    }

    #[test]
    fn challenge_follows_from_the_rights_of_the_anonymous_user() {
        let directory = tempfile::tempdir().unwrap();
        set_password(directory.path(), "alice", "one");
        let challenge = |anonymous, rules, challenge| {
            let mut settings = settings(directory.path(), anonymous, true);
            (settings.auth.rules, settings.auth.challenge) = (rules, challenge);
            Access::open(settings, UsersLatch::default()).unwrap().challenge()
        };
        let public = || vec![rule(&["-"], "public/*", &[Action::Pull])];
        assert_eq!(challenge(None, vec![], None), Challenge::Basic);
        assert_eq!(challenge(Some(Anonymous::None), vec![], None), Challenge::Basic);
        assert_eq!(challenge(Some(Anonymous::Pull), vec![], None), Challenge::Bearer);
        assert_eq!(challenge(Some(Anonymous::Full), vec![], None), Challenge::Bearer);
        assert_eq!(challenge(None, public(), None), Challenge::Bearer);
        assert_eq!(challenge(None, public(), Some(Challenge::Basic)), Challenge::Basic);
        assert_eq!(challenge(None, vec![], Some(Challenge::Bearer)), Challenge::Bearer);
        // Full anonymous access without users: no client could answer a bearer challenge.
        let empty = tempfile::tempdir().unwrap();
        let open = settings(empty.path(), Some(Anonymous::Full), true);
        assert_eq!(Access::open(open, UsersLatch::default()).unwrap().challenge(), Challenge::Basic);
    }

    #[tokio::test]
    async fn token_permits_its_scopes_as_far_as_the_current_rules_allow() {
        let directory = tempfile::tempdir().unwrap();
        set_password(directory.path(), "ci", "one");
        let all = [Action::Pull, Action::Push, Action::Delete];
        let access = open(directory.path(), vec![rule(&["ci"], "team/*", &all)]);
        let token =
            header(&access, Some("ci:one"), "repository:team/a:pull,push repository:other:pull").await;
        let permit = async |access: &Access, token: &str, name: &str, action| {
            let caller = access.identify(Some(token), HERE).await?;
            Ok::<_, IdentifyError>(access.permit_caller(&caller, &wanted(name, action)).map(drop))
        };
        assert_eq!(permit(&access, &token, "team/a", Action::Push).await, Ok(Ok(())));
        let insufficient = Ok(Err(Refusal::InsufficientScope));
        assert_eq!(permit(&access, &token, "team/a", Action::Delete).await, insufficient);
        assert_eq!(permit(&access, &token, "team/b", Action::Pull).await, insufficient);
        assert_eq!(permit(&access, &token, "other", Action::Pull).await, Ok(Err(Refusal::Denied)));
        // A changed rule applies to tokens that were issued before, also in a new process with the same key.
        let less = open(directory.path(), vec![rule(&["ci"], "team/*", &[Action::Pull])]);
        assert_eq!(permit(&less, &token, "team/a", Action::Pull).await, Ok(Ok(())));
        assert_eq!(permit(&less, &token, "team/a", Action::Push).await, Ok(Err(Refusal::Denied)));
        // A changed password revokes the token.
        set_password(directory.path(), "ci", "two");
        advance(&access);
        assert_eq!(permit(&access, &token, "team/a", Action::Pull).await, Err(IdentifyError::ExpiredToken));
    }

    #[tokio::test]
    async fn anonymous_user_gets_tokens_for_open_repositories() {
        let directory = tempfile::tempdir().unwrap();
        set_password(directory.path(), "ci", "one");
        let access = open(directory.path(), vec![rule(&["-"], "public/*", &[Action::Pull])]);
        let scope = "repository:public/a:pull,push repository:private:pull registry:catalog:*";
        let caller = access.identify(Some(&header(&access, None, scope).await), HERE).await.unwrap();
        assert!(*caller.identity() == Identity::Anonymous && caller.has_token());
        let permit = access.permit_caller(&caller, &wanted("public/a", Action::Pull)).unwrap();
        assert!(permit.shows(&"public/b".parse().unwrap()) && !permit.shows(&"private".parse().unwrap()));
        assert!(!permit.may(Action::Pull, &"public/b".parse().unwrap()));
        assert!(access.permit_caller(&caller, &Operation::Catalog).is_ok());
        for (name, action) in [("public/a", Action::Push), ("private", Action::Pull)] {
            let refused = access.permit_caller(&caller, &wanted(name, action)).err();
            assert_eq!(refused, Some(Refusal::InsufficientScope), "{name}");
        }
        assert!(!access.allows_anonymous_pages());
    }

    proptest! {
        // For any rules when the token is issued, any rules when it is used, and any scopes.
        #[test]
        fn token_never_grants_more_than_the_rules(
            then in proptest::collection::vec((0usize..4, 0usize..3, 0u8..8), 0..4),
            now in proptest::collection::vec((0usize..4, 0usize..3, 0u8..8), 0..4),
            asked in proptest::collection::vec((0usize..3, 0u8..8), 0..4),
            anonymous in any::<bool>(),
        ) {
            let actions = [Action::Pull, Action::Push, Action::Delete];
            let of = |bits: u8| {
                let set = Actions::from_bits(bits);
                actions.into_iter().filter(|action| set.contains(*action)).collect::<Vec<_>>()
            };
            let rules = |rules: &[(usize, usize, u8)]| {
                let rules = rules.iter();
                rules.map(|(user, pattern, bits)| {
                    rule(&[["-", "*", "ci", "eve"][*user]], ["*", "a", "b*"][*pattern], &of(*bits))
                }).collect::<Vec<_>>()
            };
            let directory = tempfile::tempdir().unwrap();
            set_password(directory.path(), "ci", "one");
            let (then, now) = (open(directory.path(), rules(&then)), open(directory.path(), rules(&now)));
            let identity =
                if anonymous { Identity::Anonymous } else { Identity::User("ci".parse().unwrap()) };
            let scopes = asked.iter().map(|(name, bits)| {
                Scope::Repository(["a", "b", "c"][*name].parse().unwrap(), Actions::from_bits(*bits))
            }).collect();
            let token = then.issue_token(&Caller::of(identity.clone(), Presented::Password), scopes);
            let caller = now.verify_token(&token.text, &now.users.load()).unwrap();
            for name in ["a", "b", "c"] {
                for action in actions {
                    let wanted = wanted(name, action);
                    let permitted = now.permit_caller(&caller, &wanted).is_ok();
                    let may = |access: &Access| access.permit(identity.clone(), &wanted).is_ok();
                    let was_asked = asked.iter().any(|(at, bits)| {
                        ["a", "b", "c"][*at] == name && Actions::from_bits(*bits).contains(action)
                    });
                    prop_assert_eq!(permitted, may(&then) && may(&now) && was_asked);
                }
            }
        }
    }
}
