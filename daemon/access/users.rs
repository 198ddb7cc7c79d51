//! Snapshot of the htpasswd file and of the rules of the admin page, and the policy that follows from them.

use std::collections::HashMap;
use std::sync::Arc;

use super::htpasswd::Htpasswd;
use super::page_rules::PageRules;
use super::policy::Policy;
use super::rule_set::RuleSet;
use super::rules::Anonymous;
use super::settings::{Challenge, Settings};
use super::users_latch::UsersLatch;
use crate::base::FileStamp;

/// The users of one version of the htpasswd file, with their rights.
pub(super) struct Users {
    /// Stamp of the file when it was read.
    pub(super) stamp: Option<FileStamp>,
    /// The bcrypt hash of each user who can log in, by name.
    pub(super) hashes: HashMap<String, String>,
    /// All hashes, sorted. Passwords of unknown users are verified against one of them, so that user names cannot be
    /// probed.
    pub(super) decoys: Vec<String>,
    /// The highest bcrypt cost of a hash.
    pub(super) highest_cost: u32,
    pub(super) challenge: Challenge,
    /// The rules of the admin page.
    pub(super) page: Arc<PageRules>,
    pub(super) policy: Arc<Policy>,
    pub(super) is_readable: bool,
    /// True if the file is blank or missing.
    pub(super) is_blank: bool,
}

impl Users {
    /// Derives policy and challenge. Any entry in the file, even one that no user can log in with, and any rule ends
    /// implicit anonymous access.
    pub(super) fn new(
        settings: &Settings,
        stamp: Option<FileStamp>,
        file: &Htpasswd,
        page: Arc<PageRules>,
        latch: &UsersLatch,
    ) -> Self {
        let is_blank = file.is_blank();
        let rules = RuleSet::new(&settings.auth, &page);
        let is_restricted = latch.note(is_blank) || !rules.is_empty();
        let is_by_default = settings.auth.anonymous.is_none() && !is_restricted;
        let as_registry_2 = is_by_default && settings.open_as_registry_2;
        let is_implicitly_open = is_by_default && settings.open_without_users && !as_registry_2;
        let default = if is_implicitly_open || as_registry_2 { Anonymous::Full } else { Anonymous::None };
        let anonymous = settings.auth.anonymous.unwrap_or(default);
        let policy = Policy { anonymous, is_implicitly_open, rules };
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
            page,
            policy: Arc::new(policy),
            is_readable: true,
            is_blank,
        };
        // With anonymous access a client learns from `/v2/` only by a bearer challenge that it may log in. With full
        // anonymous access and no user, no client could answer a challenge.
        let is_useful = users.policy.grants_anonymous_access() && !users.needs_no_login();
        let default = if is_useful { Challenge::Bearer } else { Challenge::Basic };
        users.challenge = settings.auth.challenge.unwrap_or(default);
        users
    }

    /// Returns true if a log-in is neither needed nor possible: the anonymous user has full rights, and there are no
    /// users.
    pub(super) fn needs_no_login(&self) -> bool {
        self.hashes.is_empty() && self.policy.anonymous == Anonymous::Full
    }
}
