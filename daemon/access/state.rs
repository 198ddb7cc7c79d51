//! The state of authentication and authorization, and the reload of the htpasswd file and of the rules of the admin page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::credential_cache::CredentialCache;
use super::htpasswd::{Htpasswd, HtpasswdError};
use super::last_logins::LastLogins;
use super::page_rules::PageRules;
use super::rules::{Anonymous, Rule};
use super::settings::{AuthSettings, Challenge, Settings};
use super::throttle::Throttle;
use super::user_changes::{SeenUsers, UserChange, UserChanges};
use super::users::Users;
use super::users_latch::UsersLatch;
use super::verify_queue::VerifyQueue;
use crate::base::{Clock, FileStamp, Lock};

/// Interval between reads of an unchanged htpasswd file that could not be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks of the metadata of the htpasswd file, so that a burst of requests costs one system call.
pub(super) const STAMP_INTERVAL: Duration = Duration::from_millis(10);

/// Authenticates clients and authorizes their requests.
pub struct Access {
    pub(super) settings: Settings,
    pub(super) users: ArcSwap<Users>,
    latch: UsersLatch,
    pub(super) changes: UserChanges,
    pub(super) last_logins: LastLogins,
    pub(super) clock: Clock,
    started: Instant,
    /// The time of the last check of the htpasswd file's metadata, in milliseconds after `started`.
    last_checked: AtomicU64,
    pub(super) cache: CredentialCache,
    pub(super) throttle: Arc<Throttle>,
    pub(super) queue: VerifyQueue,
    /// Semaphore with one permit, which is held while the htpasswd file is edited.
    pub(super) editing: Semaphore,
    /// The stamp and the time of the last read that failed.
    failed: Lock<Option<(Option<FileStamp>, Instant)>>,
}

impl Access {
    /// Reads the htpasswd file; a missing file has no users. `latch` is shared by all configurations of this process.
    ///
    /// # Errors
    /// Returns [`HtpasswdError`] if the file cannot be read.
    pub fn open(settings: Settings, latch: UsersLatch) -> Result<Self, HtpasswdError> {
        Self::with_clock(settings, latch, Clock::system())
    }

    pub(super) fn with_clock(
        settings: Settings,
        latch: UsersLatch,
        clock: Clock,
    ) -> Result<Self, HtpasswdError> {
        let stamp = FileStamp::of(&settings.auth.htpasswd);
        let file = Htpasswd::read(&settings.auth.htpasswd)?;
        let page = PageRules::read(&settings, None);
        log_rules(&page);
        let users = Arc::new(Users::new(&settings, stamp, &file, Arc::new(page), &latch));
        Ok(Access {
            cache: CredentialCache::new(settings.auth.remember, clock.clone())?,
            changes: UserChanges::new(Arc::clone(&users)),
            last_logins: LastLogins::default(),
            users: ArcSwap::new(users),
            latch,
            started: clock.now(),
            last_checked: AtomicU64::new(0),
            throttle: Throttle::new(clock.clone()),
            clock,
            queue: VerifyQueue::new(),
            editing: Semaphore::new(1),
            failed: Lock::default(),
            settings,
        })
    }

    /// Waits for changes of the htpasswd file that other programs made, and returns them.
    pub async fn user_changes(&self) -> Vec<UserChange> {
        self.changes.take().await
    }

    /// Returns the users that this process has seen; `None` if there are too many to be compared by a later one.
    pub fn seen_users(&self) -> Option<SeenUsers> {
        self.changes.seen()
    }

    /// Notes the changes of the htpasswd file since an earlier process, which had seen these users.
    pub fn compare_with_seen(&self, seen: &SeenUsers) {
        self.changes.compare_with_seen(seen);
    }

    /// Continues the record of such changes, and of log-ins, from that of the previous configuration.
    pub fn follow(&self, before: &Access) {
        self.last_logins.follow(&before.last_logins);
        self.changes.follow(&before.changes);
    }

    /// Returns the time of a user's last log-in in this process, in seconds since 1970.
    pub fn last_login(&self, user: &str) -> Option<u64> {
        self.last_logins.of(user)
    }

    /// Returns the user of this name, if there is one who can log in.
    pub fn known_user(&self, name: &str) -> Option<String> {
        self.users.load().hashes.contains_key(name).then(|| name.to_owned())
    }

    /// Returns true if the anonymous user has full rights.
    pub fn is_open(&self) -> bool {
        self.users.load().policy.anonymous == Anonymous::Full
    }

    /// Returns true if the anonymous user has some rights, but not full rights.
    pub fn is_partly_open(&self) -> bool {
        !self.is_open() && self.users.load().policy.grants_anonymous_access()
    }

    /// Returns true if the anonymous user has full rights only because there are no users, rules or settings. Such a
    /// registry answers requests for this machine and for names of a LAN only, against DNS rebinding.
    pub async fn is_implicitly_open(&self) -> bool {
        self.recent_users().await.policy.is_implicitly_open
    }

    /// Returns true if a user can log in.
    pub fn has_users(&self) -> bool {
        !self.users.load().hashes.is_empty()
    }

    /// Returns the current scheme of challenges.
    pub fn challenge(&self) -> Challenge {
        self.users.load().challenge
    }

    /// Returns true if the anonymous user may read the admin page. Rules for the anonymous user open repositories, but
    /// no pages.
    pub fn allows_anonymous_pages(&self) -> bool {
        self.users.load().policy.anonymous != Anonymous::None
    }

    /// Returns the users, at most [`STAMP_INTERVAL`] out of date.
    pub(super) async fn recent_users(&self) -> Arc<Users> {
        let elapsed = u64::try_from((self.clock.now() - self.started).as_millis()).unwrap_or(u64::MAX);
        let interval = u64::try_from(STAMP_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if elapsed < self.last_checked.load(Ordering::Relaxed) + interval {
            return self.users.load_full();
        }
        self.last_checked.store(elapsed, Ordering::Relaxed);
        self.current_users().await
    }

    /// Returns the users of the htpasswd file as it is now. Reads the metadata of the file, and the file only if it
    /// changed.
    pub(super) async fn current_users(&self) -> Arc<Users> {
        let users = self.users.load_full();
        let stamp = FileStamp::of(&self.settings.auth.htpasswd);
        let is_same_page = FileStamp::of(&self.settings.auth.page_rules) == users.page.stamp;
        let is_same_file = (stamp == users.stamp && users.is_readable) || self.has_just_failed(stamp);
        if is_same_file && is_same_page {
            return users;
        }
        let (settings, before) = (self.settings.clone(), Arc::clone(&users.page));
        let read = tokio::task::spawn_blocking(move || {
            let page = if is_same_page { before } else { PageRules::read(&settings, Some(&before)).into() };
            (Htpasswd::read(&settings.auth.htpasswd), page)
        });
        let (read, page) = match read.await {
            Ok((read, page)) => {
                (read.map_err(|error| (error.is_lack_of_resources(), error.to_string())), page)
            }
            Err(error) => (Err((false, error.to_string())), Arc::clone(&users.page)),
        };
        if page != users.page {
            log_rules(&page);
        }
        let users = Arc::new(match read {
            Ok(file) => {
                let new = Users::new(&self.settings, stamp, &file, page, &self.latch);
                *self.failed.lock() = None;
                if stamp != users.stamp || !users.is_readable {
                    log::info!("htpasswd file reloaded, {} users", new.hashes.len());
                }
                if new.is_blank && !users.is_blank && new.policy.anonymous == Anonymous::None {
                    log::warn!(
                        "the htpasswd file is empty or missing; the registry stays closed until it has a user"
                    );
                }
                new
            }
            // A lack of descriptors or memory is not a state of the file: the users that were read before stay valid.
            Err((true, error)) if users.is_readable => {
                if self.note_failed_read(stamp) {
                    log::warn!("{error}; the previous users stay in effect, and the read is retried");
                }
                return users;
            }
            Err((_, error)) => self.unreadable(stamp, page, &error),
        });
        self.changes.compare(&users);
        self.users.store(Arc::clone(&users));
        users
    }

    /// Returns true if a read of the file in this state failed within [`RETRY_INTERVAL`].
    fn has_just_failed(&self, stamp: Option<FileStamp>) -> bool {
        let failed = *self.failed.lock();
        failed.is_some_and(|(then, when)| then == stamp && self.clock.now() - when < RETRY_INTERVAL)
    }

    /// Notes that a read failed. Returns false if the last read of the file in the same state failed, too.
    fn note_failed_read(&self, stamp: Option<FileStamp>) -> bool {
        let before = self.failed.lock().replace((stamp, self.clock.now()));
        before.is_none_or(|(then, _)| then != stamp)
    }

    /// Returns an empty snapshot without anonymous access, for a file that cannot be read.
    fn unreadable(&self, stamp: Option<FileStamp>, page: Arc<PageRules>, why: &str) -> Users {
        if self.note_failed_read(stamp) {
            log::error!("{why}; no user can log in until the file can be read");
        }
        let rules = self.settings.auth.rules.iter().map(Rule::without_anonymous).collect();
        let mut closed = self.settings.clone();
        closed.auth = AuthSettings { anonymous: Some(Anonymous::None), rules, ..closed.auth };
        // The rules of the page for the anonymous user have no effect either, since `anonymous` is set.
        Users { is_readable: false, ..Users::new(&closed, stamp, &Htpasswd::default(), page, &self.latch) }
    }
}

/// Logs what was read of the rules of the admin page.
fn log_rules(page: &PageRules) {
    match &page.fault {
        Some(fault) => log::error!("{fault}; until it is mended they grant nothing"),
        None if page.stamp.is_some() => {
            log::info!("{} rules of the admin page are in effect", page.rules.len());
        }
        None => {}
    }
}
