//! Bearer tokens in requests of the API: their holders, their issue, and the permits that they give.

use std::sync::Arc;

use super::token::{Grants, IssuedToken};
use super::{Access, IdentifyError, Identity, Permit, Refusal, Scope, Users, Wanted};

/// The kind of credentials in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// None.
    Nothing,
    /// A user name and a password.
    Password,
    /// A token with these grants.
    Token(Arc<Grants>),
}

/// The sender of a request of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    identity: Identity,
    presented: Presented,
}

impl Caller {
    pub(super) fn of(identity: Identity, presented: Presented) -> Self {
        Caller { identity, presented }
    }

    /// A sender without credentials.
    pub(super) fn unidentified() -> Self {
        Caller::of(Identity::Anonymous, Presented::Nothing)
    }

    /// Returns the identity of the sender.
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
    /// Returns the holder of a token.
    pub(super) fn holder_of(&self, token: &str, users: &Users) -> Result<Caller, IdentifyError> {
        let verified = self.settings.signer.verify(token, self.settings.token, &users.hashes);
        let (identity, grants) = verified?;
        Ok(Caller::of(identity, Presented::Token(Arc::new(grants))))
    }

    /// Issues a token to a caller, for what is allowed of these scopes now. What is not allowed is left out.
    pub fn issue_token(&self, caller: &Caller, scopes: Vec<Scope>) -> IssuedToken {
        let users = self.users.load();
        let grants = Grants::of(scopes, |action, name| users.policy.decide(&caller.identity, action, name));
        let hash = match &caller.identity {
            Identity::Anonymous => None,
            Identity::User(name) => users.hashes.get(name.as_str()).map(String::as_str),
        };
        self.settings.signer.issue(&caller.identity, hash, &grants, self.settings.token)
    }

    /// Allows a request of the API or says why not: by the rules of the moment, and by the grants of its token if it has one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_caller(&self, caller: &Caller, wanted: &Wanted) -> Result<Permit, Refusal> {
        let permit = self.permit(caller.identity.clone(), wanted);
        let Presented::Token(grants) = &caller.presented else { return permit };
        let is_granted = match wanted {
            Wanted::Ping => true,
            Wanted::Catalog => grants.allow_catalog(),
            Wanted::Repository { name, action } => grants.allow(*action, name),
            // No scope stands for these, and no route of the API wants them.
            Wanted::Upkeep | Wanted::Users => false,
        };
        match permit {
            Ok(permit) if is_granted => Ok(Permit { grants: Some(Arc::clone(grants)), ..permit }),
            Ok(_) | Err(Refusal::NeedsLogin) => Err(Refusal::InsufficientScope),
            Err(refusal) => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::htpasswd::Htpasswd;
    use super::super::tests::settings;
    use super::super::{Action, Actions, Anonymous, Challenge, Rule, SeenLines, Settings};
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn set(directory: &Path, name: &str, password: &str) {
        let name = name.parse().unwrap();
        Htpasswd::edit(&directory.join("htpasswd"), |file| file.set(&name, password, 4)).unwrap();
    }

    fn rule(users: &[&str], repositories: &str, allow: &[Action]) -> Rule {
        Rule {
            users: users.iter().map(|name| (*name).to_owned()).collect(),
            repositories: vec![repositories.to_owned().into()],
            allow: allow.to_vec(),
        }
    }

    fn open(directory: &Path, rules: Vec<Rule>) -> Access {
        let settings = Settings { rules, ..settings(directory, Some(Anonymous::None), false) };
        Access::open(settings, SeenLines::default()).unwrap()
    }

    fn wanted(name: &str, action: Action) -> Wanted {
        Wanted::Repository { name: name.parse().unwrap(), action }
    }

    async fn header(access: &Access, credentials: Option<&str>, scope: &str) -> String {
        use base64::Engine;
        let basic = credentials
            .map(|text| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)));
        let caller = access.identify(basic.as_deref(), HERE).await.unwrap();
        format!("Bearer {}", access.issue_token(&caller, Scope::parse_all([scope]).unwrap()).text)
    }

    #[test]
    fn the_challenge_follows_from_the_rights_of_the_anonymous_user() {
        let directory = tempfile::tempdir().unwrap();
        set(directory.path(), "alice", "one");
        let challenge = |anonymous, rules, challenge| {
            let settings = Settings { rules, challenge, ..settings(directory.path(), anonymous, true) };
            Access::open(settings, SeenLines::default()).unwrap().challenge()
        };
        let public = || vec![rule(&["-"], "public/*", &[Action::Pull])];
        assert_eq!(challenge(None, vec![], None), Challenge::Basic);
        assert_eq!(challenge(Some(Anonymous::None), vec![], None), Challenge::Basic);
        assert_eq!(challenge(Some(Anonymous::Pull), vec![], None), Challenge::Bearer);
        assert_eq!(challenge(Some(Anonymous::Full), vec![], None), Challenge::Bearer);
        assert_eq!(challenge(None, public(), None), Challenge::Bearer);
        assert_eq!(challenge(None, public(), Some(Challenge::Basic)), Challenge::Basic);
        assert_eq!(challenge(None, vec![], Some(Challenge::Bearer)), Challenge::Bearer);
        // Everything is allowed, and there is no user who could log in.
        let empty = tempfile::tempdir().unwrap();
        let open = settings(empty.path(), Some(Anonymous::Full), true);
        assert_eq!(Access::open(open, SeenLines::default()).unwrap().challenge(), Challenge::Basic);
    }

    #[tokio::test]
    async fn a_token_permits_what_it_was_issued_for_and_what_the_rules_of_now_allow() {
        let directory = tempfile::tempdir().unwrap();
        set(directory.path(), "ci", "one");
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
        // A rule that has changed counts at once, and the key is the same in another daemon.
        let less = open(directory.path(), vec![rule(&["ci"], "team/*", &[Action::Pull])]);
        assert_eq!(permit(&less, &token, "team/a", Action::Pull).await, Ok(Ok(())));
        assert_eq!(permit(&less, &token, "team/a", Action::Push).await, Ok(Err(Refusal::Denied)));
        // So does a changed password.
        set(directory.path(), "ci", "two");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(permit(&access, &token, "team/a", Action::Pull).await, Err(IdentifyError::EndedToken));
    }

    #[tokio::test]
    async fn the_anonymous_user_gets_tokens_for_what_is_open() {
        let directory = tempfile::tempdir().unwrap();
        set(directory.path(), "ci", "one");
        let access = open(directory.path(), vec![rule(&["-"], "public/*", &[Action::Pull])]);
        let scope = "repository:public/a:pull,push repository:private:pull registry:catalog:*";
        let caller = access.identify(Some(&header(&access, None, scope).await), HERE).await.unwrap();
        assert!(*caller.identity() == Identity::Anonymous && caller.has_token());
        let permit = access.permit_caller(&caller, &wanted("public/a", Action::Pull)).unwrap();
        assert!(permit.shows(&"public/b".parse().unwrap()) && !permit.shows(&"private".parse().unwrap()));
        assert!(!permit.may(Action::Pull, &"public/b".parse().unwrap()));
        assert!(access.permit_caller(&caller, &Wanted::Catalog).is_ok());
        for (name, action) in [("public/a", Action::Push), ("private", Action::Pull)] {
            let refused = access.permit_caller(&caller, &wanted(name, action)).err();
            assert_eq!(refused, Some(Refusal::InsufficientScope), "{name}");
        }
        assert!(!access.opens_pages());
    }

    proptest! {
        // For any rules at the issue, any rules at the request, and any scopes.
        #[test]
        fn a_token_never_grants_more_than_the_rules(
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
            set(directory.path(), "ci", "one");
            let (then, now) = (open(directory.path(), rules(&then)), open(directory.path(), rules(&now)));
            let identity =
                if anonymous { Identity::Anonymous } else { Identity::User("ci".parse().unwrap()) };
            let scopes = asked.iter().map(|(name, bits)| {
                Scope::Repository(["a", "b", "c"][*name].parse().unwrap(), Actions::from_bits(*bits))
            }).collect();
            let token = then.issue_token(&Caller::of(identity.clone(), Presented::Password), scopes);
            let caller = now.holder_of(&token.text, &now.users.load()).unwrap();
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
