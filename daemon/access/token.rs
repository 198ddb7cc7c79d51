//! Bearer tokens: `hft1.`, then in base64url a payload (postcard) and its HMAC-SHA256.
//!
//! Only this registry reads them, so they need no negotiation of algorithms. A token lists the scopes that were
//! requested and allowed when it was issued; each request needs these grants and the current rules. It is bound to the
//! htpasswd entry of its user: a changed password or a removed user revokes it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::htpasswd::{HtpasswdError, UserName};
use super::identity::{IdentifyError, Identity};
use super::rules::Action;
use super::scope::{Actions, Scope};
use crate::oci::RepositoryName;

/// Prefix of every token, with the version of the format.
const PREFIX: &str = "hft1.";
/// The longest token, in bytes. It stays below the smallest `limits.header_bytes`.
const MAX_LENGTH: usize = 4096;
/// The largest total length of the repository names in a token, in bytes, so that the token stays within
/// [`MAX_LENGTH`].
const MAX_NAMES_LENGTH: usize = 2600;
/// The length of an HMAC-SHA256, in bytes.
const TAG: usize = 32;

/// The key and the clock of bearer tokens.
#[derive(Clone)]
pub struct TokenSigner {
    key: hmac::Key,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner")
    }
}

/// The scopes that a token was issued for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    repositories: Vec<(RepositoryName, Actions)>,
    catalog: bool,
}

/// A token for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The text that clients send.
    pub text: String,
    /// Its lifetime.
    pub lifetime: Duration,
    /// The granted scopes, as the `scope` of RFC 6749, section 5.1.
    pub scope: String,
}

#[derive(Serialize, Deserialize)]
enum Subject {
    Anonymous,
    User(String),
}

#[derive(Serialize, Deserialize)]
struct Payload {
    subject: Subject,
    repositories: Vec<(String, u8)>,
    catalog: bool,
    /// Seconds of the signer's clock.
    expires: u64,
    /// The keyed hash of the user's htpasswd entry; zeros for the anonymous user.
    binding: [u8; TAG],
}

impl TokenSigner {
    /// Creates a signer with a persistent key. `now` returns seconds of a clock that continues after a restart; it may
    /// stand still while the machine is off.
    pub fn new(key: &[u8; 32], now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        TokenSigner { key: hmac::Key::new(hmac::HMAC_SHA256, key), now: Arc::new(now) }
    }

    /// Creates a signer with a random key, whose tokens end with the process.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Random`].
    pub fn ephemeral(now: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self, HtpasswdError> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| HtpasswdError::Random)?;
        Ok(Self::new(&key, now))
    }

    /// Issues a token. `hash` is the htpasswd hash of the user.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        hash: Option<&str>,
        grants: &Grants,
        lifetime: Duration,
    ) -> IssuedToken {
        let (subject, binding) = match identity {
            // Local users have no tokens: one for them gives no more than one for the anonymous user.
            Identity::Anonymous | Identity::Local(_) => (Subject::Anonymous, [0; TAG]),
            Identity::User(name) => {
                (Subject::User(name.to_string()), self.binding(name, hash.unwrap_or_default()))
            }
        };
        let repositories = grants.repositories.iter();
        let payload = Payload {
            subject,
            repositories: repositories.map(|(name, actions)| (name.to_string(), actions.bits())).collect(),
            catalog: grants.catalog,
            expires: (self.now)().saturating_add(lifetime.as_secs()),
            binding,
        };
        // Serialising text and numbers to memory does not fail.
        let mut bytes = postcard::to_allocvec(&payload).unwrap_or_default();
        let tag = hmac::sign(&self.key, &signed(&bytes));
        bytes.extend_from_slice(tag.as_ref());
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        IssuedToken { text, lifetime, scope: grants.to_string() }
    }

    /// Verifies a token, and returns its identity and grants. `hashes` has the current users. A token that would be
    /// valid for longer than `lifetime` was issued before the clock went back, and has ended.
    ///
    /// # Errors
    /// Returns [`IdentifyError::InvalidToken`] or [`IdentifyError::ExpiredToken`].
    pub(super) fn verify(
        &self,
        token: &str,
        lifetime: Duration,
        hashes: &HashMap<String, String>,
    ) -> Result<(Identity, Grants), IdentifyError> {
        let payload = self.payload(token).ok_or(IdentifyError::InvalidToken)?;
        let now = (self.now)();
        if payload.expires <= now || payload.expires - now > lifetime.as_secs() {
            return Err(IdentifyError::ExpiredToken);
        }
        let identity = match payload.subject {
            Subject::Anonymous => Identity::Anonymous,
            Subject::User(name) => {
                let name: UserName = name.parse().map_err(|_| IdentifyError::InvalidToken)?;
                let hash = hashes.get(name.as_str()).ok_or(IdentifyError::ExpiredToken)?;
                let bound = hmac::verify(&self.key, &entry(&name, hash), &payload.binding);
                bound.map_err(|_| IdentifyError::ExpiredToken)?;
                Identity::User(name)
            }
        };
        let repositories = payload.repositories.iter();
        let grants = repositories.map(|(name, bits)| Some((name.parse().ok()?, Actions::from_bits(*bits))));
        let repositories = grants.collect::<Option<_>>().ok_or(IdentifyError::InvalidToken)?;
        Ok((identity, Grants { repositories, catalog: payload.catalog }))
    }

    /// Returns the payload of a token that has this signer's HMAC.
    fn payload(&self, token: &str) -> Option<Payload> {
        let encoded = token.strip_prefix(PREFIX).filter(|_| token.len() <= MAX_LENGTH)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (payload, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        // Compares in constant time.
        hmac::verify(&self.key, &signed(payload), tag).ok()?;
        postcard::from_bytes(payload).ok()
    }

    fn binding(&self, name: &UserName, hash: &str) -> [u8; TAG] {
        let mut binding = [0; TAG];
        binding.copy_from_slice(hmac::sign(&self.key, &entry(name, hash)).as_ref());
        binding
    }
}

/// Returns the signed text of a payload. The prefix keeps it distinct from the text of an htpasswd entry.
fn signed(payload: &[u8]) -> Vec<u8> {
    [b"token ", payload].concat()
}

/// Returns the signed text of an htpasswd entry.
fn entry(name: &UserName, hash: &str) -> Vec<u8> {
    format!("line {name}:{hash}").into_bytes()
}

impl Grants {
    /// Returns those of the scopes that `may` allows, as far as they fit into a token.
    pub(super) fn of(scopes: Vec<Scope>, may: impl Fn(Action, Option<&RepositoryName>) -> bool) -> Self {
        let mut grants = Grants::default();
        let mut bytes = 0;
        for scope in scopes {
            match scope {
                Scope::Catalog => grants.catalog |= may(Action::Catalog, None),
                Scope::Repository(name, actions) => {
                    let allowed = actions.filter(|action| may(action, Some(&name)));
                    let known = grants.repositories.iter_mut().find(|(known, _)| *known == name);
                    if let Some((_, actions)) = known {
                        *actions = actions.union(allowed);
                    } else if !allowed.is_empty() && bytes + name.as_str().len() <= MAX_NAMES_LENGTH {
                        bytes += name.as_str().len();
                        grants.repositories.push((name, allowed));
                    }
                }
            }
        }
        grants
    }

    /// Returns true if the token grants an action in a repository.
    pub(super) fn allow(&self, action: Action, repository: &RepositoryName) -> bool {
        let mut granted = self.repositories.iter();
        granted.any(|(name, actions)| name == repository && actions.contains(action))
    }

    /// Returns true if the token grants the list of repositories.
    pub(super) fn allow_catalog(&self) -> bool {
        self.catalog
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repositories = self.repositories.iter();
        let mut scopes: Vec<String> = repositories
            .map(|(name, actions)| Scope::Repository(name.clone(), *actions).to_string())
            .collect();
        scopes.extend(self.catalog.then(|| Scope::Catalog.to_string()));
        f.write_str(&scopes.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_mins(5);

    fn alice() -> Identity {
        Identity::User("alice".parse().unwrap())
    }

    fn hashes(hash: &str) -> HashMap<String, String> {
        HashMap::from([("alice".to_owned(), hash.to_owned())])
    }

    fn grants(scopes: &[&str]) -> Grants {
        Grants::of(Scope::parse_all(scopes.iter().copied()).unwrap(), |_, _| true)
    }

    #[test]
    fn token_round_trips_until_it_expires() {
        let time = Arc::new(AtomicU64::new(1000));
        let clock = Arc::clone(&time);
        let signer = TokenSigner::new(&[1; 32], move || clock.load(Ordering::Relaxed));
        let grants = grants(&["repository:team/app:pull,push", "registry:catalog:*"]);
        for identity in [alice(), Identity::Anonymous] {
            time.store(1000, Ordering::Relaxed);
            let token = signer.issue(&identity, Some("one"), &grants, LIFETIME);
            assert_eq!(token.scope, "repository:team/app:pull,push registry:catalog:*");
            let verify = || signer.verify(&token.text, LIFETIME, &hashes("one"));
            assert_eq!(verify().unwrap(), (identity.clone(), grants.clone()));
            time.store(1299, Ordering::Relaxed);
            assert!(verify().is_ok());
            time.store(1300, Ordering::Relaxed);
            assert_eq!(verify(), Err(IdentifyError::ExpiredToken));
            // After the clock went back, an old token does not outlive a new one.
            time.store(900, Ordering::Relaxed);
            assert_eq!(verify(), Err(IdentifyError::ExpiredToken));
        }
    }

    #[test]
    fn token_ends_with_the_entry_of_its_user_and_with_the_key() {
        let signer = TokenSigner::new(&[1; 32], || 0);
        let token = signer.issue(&alice(), Some("one"), &grants(&["repository:a:pull"]), LIFETIME).text;
        assert!(signer.verify(&token, LIFETIME, &hashes("one")).is_ok());
        for users in [hashes("two"), HashMap::new()] {
            assert_eq!(signer.verify(&token, LIFETIME, &users), Err(IdentifyError::ExpiredToken));
        }
        let other = TokenSigner::new(&[2; 32], || 0);
        assert_eq!(other.verify(&token, LIFETIME, &hashes("one")), Err(IdentifyError::InvalidToken));
        assert_eq!(format!("{signer:?}"), "TokenSigner");
    }

    #[test]
    fn issued_tokens_stay_within_the_length_that_is_read() {
        let signer = TokenSigner::new(&[1; 32], || u64::MAX - 86400);
        let names: Vec<String> =
            (0..64).map(|number| format!("repository:{}{number}:*", "a".repeat(250))).collect();
        let short: Vec<String> = (0..64).map(|number| format!("repository:a{number}:*")).collect();
        let user = Identity::User("x".repeat(64).parse().unwrap());
        let users = HashMap::from([("x".repeat(64), "hash".to_owned())]);
        for names in [names, short] {
            let scopes = Scope::parse_all(names.iter().map(String::as_str)).unwrap();
            let grants = Grants::of(scopes, |_, _| true);
            let token = signer.issue(&user, Some("hash"), &grants, Duration::from_hours(24)).text;
            assert!(token.len() <= MAX_LENGTH, "{}", token.len());
            assert_eq!(signer.verify(&token, Duration::from_hours(24), &users).unwrap().1, grants);
        }
        assert!(signer.payload(&format!("{PREFIX}{}", "A".repeat(MAX_LENGTH))).is_none());
    }

    #[test]
    fn grants_are_the_requested_scopes_that_are_allowed() {
        let scopes =
            Scope::parse_all(["repository:a:pull,push repository:b:push repository:a:delete"]).unwrap();
        let grants = Grants::of(scopes, |action, name| {
            name.is_some_and(|name| name.as_str() == "a") && action != Action::Push
        });
        assert_eq!(grants.to_string(), "repository:a:pull,delete");
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(grants.allow(Action::Pull, &a) && grants.allow(Action::Delete, &a));
        assert!(
            !grants.allow(Action::Push, &a) && !grants.allow(Action::Pull, &b) && !grants.allow_catalog()
        );
    }

    proptest! {
        #[test]
        fn token_with_any_changed_character_is_rejected(at in 0usize..200, with in proptest::char::any()) {
            let signer = TokenSigner::new(&[1; 32], || 0);
            let token = signer.issue(&alice(), Some("one"), &grants(&["repository:a:pull"]), LIFETIME).text;
            let mut letters: Vec<char> = token.chars().collect();
            let at = at % letters.len();
            prop_assume!(letters[at] != with);
            letters[at] = with;
            let forged: String = letters.into_iter().collect();
            prop_assert!(signer.verify(&forged, LIFETIME, &hashes("one")).is_err());
        }

        #[test]
        fn verification_never_panics(text in "(hft1\\.)?[A-Za-z0-9_=+/.-]{0,200}.{0,20}") {
            let signer = TokenSigner::new(&[1; 32], || 0);
            prop_assert!(signer.verify(&text, LIFETIME, &hashes("one")).is_err());
        }

        // A later release may sign a payload with other content.
        #[test]
        fn signed_payload_of_any_bytes_never_panics(mut bytes in proptest::collection::vec(0u8.., 0..300)) {
            let signer = TokenSigner::new(&[1; 32], || 0);
            let tag = hmac::sign(&signer.key, &signed(&bytes));
            bytes.extend_from_slice(tag.as_ref());
            let _ = signer.verify(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)), LIFETIME, &hashes("one"));
        }
    }
}
