//! Warnings about a configuration that is valid but most likely not what was meant.

use super::output::foreign_content;
use crate::access::Htpasswd;
use crate::config::Config;

/// Returns the warnings for the start and for `holdfast config check`.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = config.warnings.clone();
    warnings.extend(foreign_content(config));
    warnings.extend(missing_htpasswd(config));
    warnings.extend(unknown_users(config));
    warnings
}

/// Returns a warning for each user of the htpasswd file who cannot log in. The daemon logs them when it reads the file.
pub(super) fn unusable_logins(config: &Config) -> Vec<String> {
    let file = &config.auth.settings.htpasswd;
    let problems = Htpasswd::read(file).map(|users| users.problems()).unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {problem}", file.display())).collect()
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
    let unknown = settings.rules.iter().flat_map(|rule| rule.users.iter().filter(|name| is_unknown(name)));
    unknown
        .map(|name| {
            format!(
                "[[auth.rule]] names {name}, but there is no such user; `holdfast user list` lists the users"
            )
        })
        .collect()
}
