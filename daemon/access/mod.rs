//! Who may do what: users, verified passwords, rules and the throttle.
//!
//! A decision is a pure function of identity, action, repository and rules, and yields a [`Permit`]; nothing
//! else can make one. A password is verified once and then remembered for minutes as a keyed hash, because
//! bcrypt on every request stops a small machine. A changed file of users forgets everything at once, which is
//! within ten milliseconds.

mod bearer;
mod budget;
mod credentials;
mod htpasswd;
mod login;
mod problem;
mod remember;
mod rules;
mod scope;
mod seen;
mod sessions;
mod throttle;
mod token;
mod turns;
mod verify;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

pub use self::bearer::Caller;
pub use self::credentials::{Credentials, claimed_name};
pub use self::htpasswd::{Htpasswd, HtpasswdError, UserName};
pub use self::rules::{Action, Anonymous, Rule};
pub use self::scope::{Actions, Scope, ScopeError};
pub use self::seen::SeenLines;
pub use self::sessions::Sessions;
pub use self::throttle::network;
pub use self::token::{IssuedToken, TokenSigner};

use self::bearer::Presented;
use self::credentials::Authorization;
use self::htpasswd::Stamp;
use self::remember::Remembered;
use self::throttle::Throttle;
use self::token::Grants;
use self::turns::Turns;
use self::verify::Trust;
use crate::oci::RepositoryName;

/// How long it is waited before a file of users that could not be read, and has not changed, is read again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the file of users is trusted to be as it was: a request in the same moment does not look again.
const MOMENT: Duration = Duration::from_millis(10);

/// What access is decided by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file of users.
    pub htpasswd: PathBuf,
    /// What those who do not log in may do; where nothing is said, `open_without_users` decides.
    pub anonymous: Option<Anonymous>,
    /// How long a verified password is remembered.
    pub remember: Duration,
    /// How long a session lasts after its last use.
    pub session: Duration,
    /// What users may do; everything if there are no rules.
    pub rules: Vec<Rule>,
    /// The kind of log-in that challenges ask for; by default the rights of the anonymous user decide.
    pub challenge: Option<Challenge>,
    /// The lifetime of a bearer token.
    pub token: Duration,
    /// Signs bearer tokens.
    pub signer: TokenSigner,
    /// Whether everybody may do everything as long as there are no rules and the file of users had no line yet.
    pub open_without_users: bool,
    /// Whether everyone may do everything until there is a user or a rule, by whatever name the registry is called: so is
    /// registry:2 without `auth`.
    pub open_as_registry_2: bool,
}

/// The kind of log-in that a challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password in each request.
    Basic,
    /// A token from the token endpoint.
    Bearer,
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    Anonymous,
    /// A user whose password was right.
    User(UserName),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("-"),
            Identity::User(name) => name.fmt(f),
        }
    }
}

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To know whether the registry is there.
    Ping,
    /// To list the repositories.
    Catalog,
    /// To do something in a repository.
    Repository {
        /// Which one.
        name: RepositoryName,
        /// What.
        action: Action,
    },
    /// To collect and to check.
    Upkeep,
    /// To say who is a user.
    Users,
}

/// The proof that a request is allowed.
#[derive(Clone)]
pub struct Permit {
    identity: Identity,
    policy: Arc<Policy>,
    /// The grants of the token that it was given for.
    grants: Option<Arc<Grants>>,
}

impl Permit {
    /// Who has it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether its holder may do something in another repository, too.
    pub fn may(&self, action: Action, repository: &RepositoryName) -> bool {
        let granted = self.grants.as_ref().is_none_or(|grants| grants.allow(action, repository));
        granted && self.policy.decide(&self.identity, action, Some(repository))
    }

    /// Returns true if a repository is shown in lists: its holder may pull from it, if need be with another token.
    pub fn shows(&self, repository: &RepositoryName) -> bool {
        self.policy.decide(&self.identity, Action::Pull, Some(repository))
    }
}

/// Why a request is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would have to log in.
    NeedsLogin,
    /// This user may not.
    Denied,
    /// The token was not issued for this.
    InsufficientScope,
    /// There are no users that could log in.
    NoUsersYet,
}

/// Why credentials do not identify anyone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// The user is unknown or the password wrong; which of them is not said.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Too many wrong passwords came from this address, or for this user.
    #[error("too many wrong passwords; try again in {} seconds", retry_after.as_secs())]
    Throttled {
        /// When it may try again.
        retry_after: Duration,
    },
    /// The token was not issued with the present key of this registry.
    #[error("the token is not valid; log in again")]
    InvalidToken,
    /// The token has expired, or its user or password has changed since it was issued.
    #[error("the token has ended; request a new one")]
    EndedToken,
    /// The file of users cannot be read.
    #[error("the users cannot be read now; the log of the registry says why")]
    Unavailable,
}

impl IdentifyError {
    /// The error code of RFC 6750 for a request that had a token.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            IdentifyError::InvalidToken | IdentifyError::EndedToken => Some("invalid_token"),
            IdentifyError::Wrong | IdentifyError::Throttled { .. } | IdentifyError::Unavailable => None,
        }
    }
}

#[derive(Debug)]
struct Policy {
    anonymous: Anonymous,
    /// Whether it is open because nobody has said anything, rather than because somebody wants it to be.
    by_itself: bool,
    rules: Vec<Rule>,
}

impl Policy {
    fn decide(&self, identity: &Identity, action: Action, repository: Option<&RepositoryName>) -> bool {
        let user = match identity {
            Identity::Anonymous => None,
            Identity::User(name) => Some(name.as_str()),
        };
        rules::decide(user, action, repository, self.anonymous, &self.rules)
    }

    /// Returns true if the anonymous user has any right.
    fn opens_anything(&self) -> bool {
        self.anonymous != Anonymous::None || self.rules.iter().any(Rule::opens_anything)
    }

    /// Whether someone may do everything that concerns the registry as a whole.
    fn is_master(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Anonymous => false,
            Identity::User(name) => rules::may_do_everything(name.as_str(), &self.rules),
        }
    }
}

/// The users as their file has them, and what follows from that.
struct Users {
    stamp: Option<Stamp>,
    hashes: HashMap<String, String>,
    /// All hashes, sorted; passwords of unknown users are verified against them.
    decoys: Vec<String>,
    /// The highest cost of a hash.
    highest_cost: u32,
    challenge: Challenge,
    policy: Arc<Policy>,
    readable: bool,
    /// Whether the file is blank or absent.
    is_blank: bool,
}

/// Decides who may do what.
pub struct Access {
    settings: Settings,
    users: ArcSwap<Users>,
    seen: SeenLines,
    /// When the file was last looked at, in milliseconds after `began`.
    looked: AtomicU64,
    began: Instant,
    remembered: Remembered,
    throttle: Arc<Throttle>,
    turns: Arc<Turns>,
    /// Held while the file of users is changed.
    editing: Semaphore,
    /// The last read of the file that failed: what its metadata were, and when that was.
    failed: Mutex<Option<(Option<Stamp>, Instant)>>,
}

impl Access {
    /// Reads the users; a file that is not there has none. `seen` remembers the users of this process.
    ///
    /// # Errors
    /// [`HtpasswdError`] when the file cannot be read.
    pub fn open(settings: Settings, seen: SeenLines) -> Result<Self, HtpasswdError> {
        let stamp = Stamp::of(&settings.htpasswd);
        let file = Htpasswd::read(&settings.htpasswd)?;
        let users = Users::new(&settings, stamp, &file, &seen);
        Ok(Access {
            remembered: Remembered::new(settings.remember)?,
            users: ArcSwap::from_pointee(users),
            seen,
            looked: AtomicU64::new(0),
            began: Instant::now(),
            throttle: Throttle::new(),
            turns: Turns::new(),
            editing: Semaphore::new(1),
            failed: Mutex::default(),
            settings,
        })
    }

    /// Whether anyone may do everything, and nobody has to log in.
    pub fn is_open(&self) -> bool {
        self.users.load().policy.anonymous == Anonymous::Full
    }

    /// Returns true if the anonymous user may do something, but not everything.
    pub fn opens_a_part(&self) -> bool {
        !self.is_open() && self.users.load().policy.opens_anything()
    }

    /// Whether it is open only because nobody has said who may do what: then it is for this machine and the names of
    /// a LAN, and for no others.
    pub async fn is_open_by_itself(&self) -> bool {
        self.lately().await.policy.by_itself
    }

    /// Whether there are users at all.
    pub fn has_users(&self) -> bool {
        !self.users.load().hashes.is_empty()
    }

    /// Returns the kind of log-in that challenges ask for now.
    pub fn challenge(&self) -> Challenge {
        self.users.load().challenge
    }

    /// Returns true if the admin page may be read without a log-in. Rules for the anonymous user open repositories, but no page.
    pub fn opens_pages(&self) -> bool {
        self.users.load().policy.anonymous != Anonymous::None
    }

    /// Finds out who sent a request from its `Authorization` header.
    ///
    /// # Errors
    /// [`IdentifyError`]; a request without the header is anonymous and no error.
    pub async fn identify(
        &self,
        authorization: Option<&str>,
        client: IpAddr,
    ) -> Result<Caller, IdentifyError> {
        let users = self.lately().await;
        let Some(header) = authorization else { return Ok(Caller::unidentified()) };
        if !users.readable {
            return Err(IdentifyError::Unavailable);
        }
        match Authorization::parse(header) {
            Authorization::Bearer(token) => self.holder_of(token, &users),
            _ if users.needs_no_login() => Ok(Caller::of(Identity::Anonymous, Presented::Password)),
            Authorization::Basic(credentials) => {
                // The users of a moment ago do for this: nothing is read for each request.
                let tag = self.remembered.tag_of(&credentials);
                let user = match self.remembered.find(&tag, users.stamp) {
                    Some(user) => user,
                    None => self.verify(&credentials, client, Trust::Remembered).await?.0,
                };
                Ok(Caller::of(Identity::User(user), Presented::Password))
            }
            Authorization::Malformed => Err(IdentifyError::Wrong),
        }
    }

    /// Identifies the sender of credentials that are not in the header.
    ///
    /// # Errors
    /// [`IdentifyError`].
    pub async fn identify_by(
        &self,
        credentials: &Credentials,
        client: IpAddr,
    ) -> Result<Caller, IdentifyError> {
        if self.lately().await.needs_no_login() {
            return Ok(Caller::of(Identity::Anonymous, Presented::Password));
        }
        let (user, _) = self.verify(credentials, client, Trust::Remembered).await?;
        Ok(Caller::of(Identity::User(user), Presented::Password))
    }

    /// Allows a request or says why not.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit(&self, identity: Identity, wanted: &Wanted) -> Result<Permit, Refusal> {
        let users = self.users.load();
        let policy = &users.policy;
        let allowed = match wanted {
            Wanted::Ping => policy.opens_anything() || identity != Identity::Anonymous,
            Wanted::Catalog => policy.decide(&identity, Action::Catalog, None),
            Wanted::Repository { name, action } => policy.decide(&identity, *action, Some(name)),
            Wanted::Upkeep => policy.anonymous == Anonymous::Full || policy.is_master(&identity),
            // Whoever is let in without a name cannot make one up.
            Wanted::Users => policy.is_master(&identity),
        };
        match identity {
            identity if allowed => Ok(Permit { identity, policy: Arc::clone(policy), grants: None }),
            Identity::User(_) => Err(Refusal::Denied),
            Identity::Anonymous if users.hashes.is_empty() => Err(Refusal::NoUsersYet),
            Identity::Anonymous => Err(Refusal::NeedsLogin),
        }
    }

    /// The users as they were a moment ago, or are now.
    async fn lately(&self) -> Arc<Users> {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let moment = u64::try_from(MOMENT.as_millis()).unwrap_or(u64::MAX);
        if elapsed < self.looked.load(Ordering::Relaxed) + moment {
            return self.users.load_full();
        }
        self.looked.store(elapsed, Ordering::Relaxed);
        self.current().await
    }

    /// The users as they are now: one look at the file's metadata, and a new read only if it has changed.
    async fn current(&self) -> Arc<Users> {
        let users = self.users.load_full();
        let stamp = Stamp::of(&self.settings.htpasswd);
        if (stamp == users.stamp && users.readable) || self.has_just_failed(stamp) {
            return users;
        }
        let path = self.settings.htpasswd.clone();
        let read = tokio::task::spawn_blocking(move || Htpasswd::read(&path)).await;
        let users = Arc::new(match read {
            Ok(Ok(file)) => {
                let new = Users::new(&self.settings, stamp, &file, &self.seen);
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                log::info!("the users were read again: {} of them", new.hashes.len());
                if new.is_blank && !users.is_blank && new.policy.anonymous == Anonymous::None {
                    log::warn!(
                        "the file of users is empty or gone; the registry is closed until it has a user"
                    );
                }
                new
            }
            Ok(Err(error)) if users.readable && error.is_lack_of_resources() => {
                if self.note_failed_read(stamp) {
                    log::warn!("{error}; the users stay as they were, and the file is read again");
                }
                return users;
            }
            Ok(Err(error)) => self.unreadable(stamp, &error.to_string()),
            Err(error) => self.unreadable(stamp, &error.to_string()),
        });
        self.users.store(Arc::clone(&users));
        users
    }

    /// Returns true if the file in this state could not be read a moment ago, so that it is not read again at once.
    fn has_just_failed(&self, stamp: Option<Stamp>) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|(then, when)| then == stamp && when.elapsed() < RETRY)
    }

    /// Notes that the file could not be read; false if that was so the last time, and nothing has changed.
    fn note_failed_read(&self, stamp: Option<Stamp>) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failed.replace((stamp, Instant::now()));
        before.is_none_or(|(then, _)| then != stamp)
    }

    /// Refuses all clients while the users cannot be read.
    fn unreadable(&self, stamp: Option<Stamp>, why: &str) -> Users {
        if self.note_failed_read(stamp) {
            log::error!("{why}; no user can log in until the file can be read");
        }
        let rules = self.settings.rules.iter().map(Rule::without_anonymous).collect();
        let closed = Settings { anonymous: Some(Anonymous::None), rules, ..self.settings.clone() };
        Users { readable: false, ..Users::new(&closed, stamp, &Htpasswd::default(), &self.seen) }
    }
}

impl Users {
    /// A line in the file, even one by which no user can log in, and a rule say that the registry is for users.
    fn new(settings: &Settings, stamp: Option<Stamp>, file: &Htpasswd, seen: &SeenLines) -> Self {
        let is_blank = file.is_blank();
        let is_for_users = seen.note(is_blank) || !settings.rules.is_empty();
        let is_unsaid = settings.anonymous.is_none() && !is_for_users;
        let as_registry_2 = is_unsaid && settings.open_as_registry_2;
        let by_itself = is_unsaid && settings.open_without_users && !as_registry_2;
        let silent = if by_itself || as_registry_2 { Anonymous::Full } else { Anonymous::None };
        let anonymous = settings.anonymous.unwrap_or(silent);
        let policy = Policy { anonymous, by_itself, rules: settings.rules.clone() };
        let hashes = file.users();
        let mut decoys: Vec<String> = hashes.values().cloned().collect();
        decoys.sort();
        let costs = decoys.iter().filter_map(|hash| Some(hash.parse::<bcrypt::HashParts>().ok()?.get_cost()));
        let highest_cost = costs.max().unwrap_or(0);
        let mut users = Users {
            stamp,
            hashes,
            decoys,
            highest_cost,
            challenge: Challenge::Basic,
            policy: Arc::new(policy),
            readable: true,
            is_blank,
        };
        // Where everything is allowed and there is no user, a challenge would have no answer.
        let is_useful = users.policy.opens_anything() && !users.needs_no_login();
        let default = if is_useful { Challenge::Bearer } else { Challenge::Basic };
        users.challenge = settings.challenge.unwrap_or(default);
        users
    }

    /// Returns true if a log-in is neither needed nor possible: the anonymous user may do everything, and there is no user.
    fn needs_no_login(&self) -> bool {
        self.hashes.is_empty() && self.policy.anonymous == Anonymous::Full
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    pub(super) fn settings(
        directory: &std::path::Path,
        anonymous: Option<Anonymous>,
        open: bool,
    ) -> Settings {
        Settings {
            htpasswd: directory.join("htpasswd"),
            anonymous,
            remember: Duration::from_mins(1),
            session: Duration::from_hours(1),
            rules: Vec::new(),
            challenge: None,
            token: Duration::from_mins(5),
            signer: TokenSigner::new(&[1; 32], || 0),
            open_without_users: open,
            open_as_registry_2: false,
        }
    }

    fn access(directory: &std::path::Path, anonymous: Option<Anonymous>, open: bool) -> Access {
        Access::open(settings(directory, anonymous, open), SeenLines::default()).unwrap()
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    fn add(directory: &std::path::Path, name: &str, password: &str) {
        let name = name.parse().unwrap();
        Htpasswd::edit(&directory.join("htpasswd"), |file| file.set(&name, password, 4)).unwrap();
    }

    fn write(directory: &std::path::Path, text: &str) {
        let whole = |file: &mut Htpasswd| {
            *file = Htpasswd::parse(text);
            Ok(())
        };
        Htpasswd::edit(&directory.join("htpasswd"), whole).unwrap();
    }

    #[tokio::test]
    async fn is_open_until_there_is_a_user() {
        let directory = tempfile::tempdir().unwrap();
        let open = access(directory.path(), None, true);
        let who = open.identify(None, HERE).await.unwrap().identity().clone();
        assert!(open.permit(who, &Wanted::Ping).is_ok());
        let closed = access(directory.path(), None, false);
        let who = closed.identify(None, HERE).await.unwrap().identity().clone();
        assert_eq!(closed.permit(who, &Wanted::Ping).err(), Some(Refusal::NoUsersYet));
        add(directory.path(), "alice", "secret");
        tokio::time::sleep(MOMENT).await;
        let who = open.identify(None, HERE).await.unwrap().identity().clone();
        assert_eq!(open.permit(who, &Wanted::Ping).err(), Some(Refusal::NeedsLogin));
    }

    #[tokio::test]
    async fn a_line_that_nobody_can_log_in_with_closes_it() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), None, true);
        assert!(access.is_open_by_itself().await && access.is_open());
        write(directory.path(), "alice:$apr1$x$y\n");
        tokio::time::sleep(MOMENT).await;
        assert!(!access.is_open_by_itself().await && !access.is_open() && !access.has_users());
    }

    #[expect(clippy::disallowed_methods, reason = "another program writes the file of users")]
    #[tokio::test]
    async fn a_registry_that_had_a_line_stays_closed_when_the_file_is_empty_or_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        let seen = SeenLines::default();
        let open = || Access::open(settings(directory.path(), None, true), seen.clone()).unwrap();
        let access = open();
        std::fs::write(&path, "\n").unwrap();
        assert!(access.is_open_by_itself().await, "a blank file is no user");
        for line in ["alice:$apr1$x$y\n", "# ours\n"] {
            std::fs::write(&path, line).unwrap();
            tokio::time::sleep(MOMENT).await;
            assert!(!access.is_open_by_itself().await);
            // Apache's htpasswd writes the same file again from its beginning.
            std::fs::File::create(&path).unwrap();
            tokio::time::sleep(MOMENT).await;
            assert!(!access.is_open_by_itself().await && !access.is_open());
            assert_eq!(access.permit(Identity::Anonymous, &Wanted::Ping).err(), Some(Refusal::NoUsersYet));
            std::fs::remove_file(&path).unwrap();
            tokio::time::sleep(MOMENT).await;
            assert!(!access.is_open_by_itself().await && !access.is_open());
            // A reload of the configuration opens nothing.
            assert!(!open().is_open());
        }
    }

    #[tokio::test]
    async fn a_registry_with_rules_is_not_open_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let rule = Rule { users: vec!["a".into()], repositories: Vec::new(), allow: Vec::new() };
        let settings = Settings { rules: vec![rule], ..settings(directory.path(), None, true) };
        let access = Access::open(settings, SeenLines::default()).unwrap();
        assert!(!access.is_open_by_itself().await && !access.is_open());
    }

    #[tokio::test]
    async fn what_somebody_has_opened_is_not_open_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), Some(Anonymous::Full), true);
        assert!(access.is_open() && !access.is_open_by_itself().await);
    }

    #[tokio::test]
    async fn a_changed_password_is_forgotten_at_once() {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), "alice", "one");
        let access = access(directory.path(), None, true);
        let header = basic("alice:one");
        for _ in 0..2 {
            let who = access.identify(Some(&header), HERE).await.unwrap();
            assert_eq!(who.identity().to_string(), "alice");
        }
        add(directory.path(), "alice", "two");
        tokio::time::sleep(MOMENT).await;
        assert_eq!(access.identify(Some(&header), HERE).await, Err(IdentifyError::Wrong));
        assert!(access.identify(Some(&basic("alice:two")), HERE).await.is_ok());
    }

    #[tokio::test]
    async fn a_password_is_not_right_because_it_begins_right() {
        let directory = tempfile::tempdir().unwrap();
        let longest = "x".repeat(72);
        add(directory.path(), "alice", &longest);
        add(directory.path(), "bob", "two");
        let access = access(directory.path(), None, true);
        for wrong in [format!("alice:{longest}y"), "bob:two\0two".into(), "bob:two\0".into()] {
            let answer = access.identify(Some(&basic(&wrong)), HERE).await;
            assert_eq!(answer, Err(IdentifyError::Wrong), "{wrong:?}");
        }
        assert!(access.identify(Some(&basic(&format!("alice:{longest}"))), HERE).await.is_ok());
        assert!(access.identify(Some(&basic("bob:two")), HERE).await.is_ok());
    }

    #[tokio::test]
    async fn a_user_closes_a_registry_that_was_open_as_registry_2_is() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { open_as_registry_2: true, ..settings(directory.path(), None, true) };
        let access = Access::open(settings, SeenLines::default()).unwrap();
        assert!(access.is_open() && !access.is_open_by_itself().await);
        add(directory.path(), "alice", "secret");
        tokio::time::sleep(MOMENT).await;
        let anonymous = access.identify(None, HERE).await.unwrap().identity().clone();
        assert_eq!(access.permit(anonymous, &Wanted::Ping).err(), Some(Refusal::NeedsLogin));
    }

    #[tokio::test]
    async fn a_repeated_wrong_password_uses_up_no_budget() {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), "alice", "one");
        let access = access(directory.path(), None, true);
        for header in ["nonsense".to_owned(), basic("bob:one"), basic("alice:two")] {
            for _ in 0..2 * throttle::OF_NAME.0 {
                assert_eq!(access.identify(Some(&header), HERE).await, Err(IdentifyError::Wrong));
            }
        }
        assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
        // It is remembered only as long as the file of users is the same.
        add(directory.path(), "alice", "two");
        tokio::time::sleep(MOMENT).await;
        assert!(access.identify(Some(&basic("alice:two")), HERE).await.is_ok());
    }

    /// Guesses from many addresses, and as many as it takes from this one, refuse neither a first log-in from elsewhere nor
    /// credentials that were verified before.
    #[tokio::test]
    async fn guesses_lock_out_neither_other_addresses_nor_verified_credentials() {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), "alice", "one");
        let settings = Settings { remember: Duration::ZERO, ..settings(directory.path(), None, true) };
        let access = Access::open(settings, SeenLines::default()).unwrap();
        assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
        let elsewhere = |last: u8| IpAddr::from([10, 0, 0, last]);
        for guess in 0..throttle::OF_NAME.0 {
            for from in [HERE, elsewhere(1), elsewhere(2), elsewhere(3), elsewhere(4)] {
                let header = basic(&format!("alice:{guess} from {from}"));
                assert_eq!(access.identify(Some(&header), from).await, Err(IdentifyError::Wrong));
            }
        }
        assert!(access.identify(Some(&basic("alice:one")), elsewhere(5)).await.is_ok());
        assert!(access.identify(Some(&basic("alice:one")), HERE).await.is_ok());
    }
}
