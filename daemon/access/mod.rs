//! Authentication and authorization: users, verified passwords, bearer tokens, rules and the throttle.
//!
//! A decision is a pure function of identity, operation and rules, and yields a [`Permit`], which no other room can
//! create. A verified password is cached for minutes as a keyed hash, because bcrypt on every request would saturate a
//! small board. A change of the htpasswd file is noticed within ten milliseconds and invalidates the cache. While the
//! file cannot be read every log-in fails.

mod authenticate;
mod bearer;
mod credential_cache;
mod credentials;
mod current;
mod htpasswd;
mod identity;
mod keyed_hash;
mod last_logins;
mod login;
mod page_rules;
mod permit;
mod policy;
mod problem;
mod rate_limiter;
mod rights;
mod rule_changes;
mod rule_set;
mod rules;
mod scope;
mod sessions;
mod settings;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod token;
mod user_changes;
mod users;
mod users_latch;
mod verify;
mod verify_queue;

pub use self::bearer::Caller;
pub use self::credentials::{Credentials, claimed_name};
pub use self::current::CurrentAccess;
pub use self::htpasswd::{Htpasswd, HtpasswdError, SHORTEST_PASSWORD, UserName};
pub use self::identity::{IdentifyError, Identity, LocalUser};
pub use self::page_rules::page_rules_fault;
pub use self::permit::{Operation, Permit, Refusal};
pub use self::rights::Rights;
pub use self::rule_changes::{ListedRule, RuleChange, RuleError, RulePreview, UserRights};
pub use self::rules::{Action, Anonymous, Rule};
pub use self::scope::{Actions, Scope, ScopeError};
pub use self::sessions::Sessions;
pub use self::settings::{AuthSettings, Challenge, RulesFormat, Settings};
pub use self::state::Access;
pub use self::throttle::network;
pub use self::token::{IssuedToken, TokenSigner};
pub use self::user_changes::{SeenUsers, UserChange, UserChangeKind};
pub use self::users_latch::UsersLatch;
