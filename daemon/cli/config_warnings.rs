//! Warnings about a configuration that is valid but most likely not what was meant.

use std::fs::File;
use std::io::ErrorKind;

use super::output::foreign_content;
use crate::access::{Htpasswd, page_rules_fault};
use crate::config::{Config, USER_RULES};

/// Returns the warnings for the start and for `holdfast config check`.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = config.warnings.clone();
    warnings.extend(foreign_content(config));
    warnings.extend(missing_htpasswd(config));
    warnings.extend(unknown_users(config));
    warnings.extend(retention_by_time(config));
    warnings.extend(page_rules_problem(config));
    warnings
}

/// Returns a warning for each user of the htpasswd file who cannot log in. The daemon logs them when it reads the file.
pub(super) fn unusable_logins(config: &Config) -> Vec<String> {
    let file = &config.auth.settings.htpasswd;
    let problems = Htpasswd::read(file).map(|users| users.problems()).unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {problem}", file.display())).collect()
}

/// Returns why the rules of the admin page cannot be used. A start is not refused: they grant nothing then.
pub(super) fn page_rules_problem(config: &Config) -> Option<String> {
    let path = &config.auth.settings.page_rules;
    // A command may run as a user who cannot read the file of the daemon.
    let is_foreign = File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let fault = page_rules_fault(path, USER_RULES).filter(|_| !is_foreign)?;
    Some(format!("{fault}; until it is mended they grant nothing"))
}

fn missing_htpasswd(config: &Config) -> Option<String> {
    let file = &config.auth.settings.htpasswd;
    let is_missing = config.auth.htpasswd_is_set && matches!(file.try_exists(), Ok(false));
    is_missing.then(|| {
        format!(
            "auth.htpasswd: {} does not exist, so that no user can log in; `holdfast user add NAME` creates it",
            file.display()
        )
    })
}

/// Returns a warning for each name in [[auth.rule]] without a user. A file that cannot be read has its own error.
fn unknown_users(config: &Config) -> Vec<String> {
    let settings = &config.auth.settings;
    let Ok(users) = Htpasswd::read(&settings.htpasswd) else { return Vec::new() };
    let known = users.names();
    let is_unknown = |name: &String| {
        !["*", "-"].contains(&name.as_str()) && !known.iter().any(|user| user.as_str() == name)
    };
    let in_rules =
        settings.rules.iter().flat_map(|rule| rule.users.iter().map(|name| ("[[auth.rule]]", name)));
    let in_admin = config.admin.users.iter().map(|name| ("admin.users", name));
    let unknown = in_rules.chain(in_admin).filter(|(_, name)| is_unknown(name));
    unknown
        .map(|(place, name)| {
            format!("{place} names {name}, but there is no such user; `holdfast user list` lists the users")
        })
        .collect()
}

/// Returns a warning for each rule of [[retention]] that keeps tags for a time only: a repository without pushes or pulls loses all
/// of them. A rule that keeps no tag at any time is an error.
fn retention_by_time(config: &Config) -> Vec<String> {
    let rules = config.gc.policy.retention.iter();
    let by_time = rules.filter(|rule| {
        let has_period = rule.younger.is_some() || rule.pulled.is_some();
        has_period && rule.newest.unwrap_or(0) == 0 && rule.tags.is_empty()
    });
    by_time
        .map(|rule| {
            let patterns: Vec<String> = rule.repositories.iter().map(ToString::to_string).collect();
            let periods: Vec<&str> = [("keep_younger", rule.younger), ("keep_pulled", rule.pulled)]
                .into_iter()
                .filter_map(|(key, period)| period.map(|_| key))
                .collect();
            format!(
                "[[retention]] for {} keeps tags by {} only: a repository that rests longer loses every tag; add keep_newest = 1 \
                 to keep the newest",
                patterns.join(", "),
                periods.join(" and ")
            )
        })
        .collect()
}
