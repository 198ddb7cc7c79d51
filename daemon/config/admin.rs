//! `[admin]`: the admin page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::values::{duration, show_duration, wrong};

/// The longest title, in characters: it stands in a line with everything else.
const LONGEST_TITLE: usize = 64;

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Whether there is an admin page.
    pub enabled: bool,
    /// What it is called.
    pub title: String,
    /// Who may see it; every user where nobody is named.
    pub users: Vec<String>,
    /// Whether one can delete there.
    pub delete: bool,
    /// How long a log-in lasts after its last use.
    pub session: Duration,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    enabled: Option<bool>,
    title: Option<String>,
    users: Vec<String>,
    delete: Option<bool>,
    session: Option<String>,
}

impl RawAdmin {
    pub(super) fn validate(self) -> Result<Admin, ConfigError> {
        let title = self.title.unwrap_or_else(|| "Holdfast".into()).trim().to_owned();
        if title.is_empty() || title.chars().count() > LONGEST_TITLE || title.contains(char::is_control) {
            return Err(wrong("admin.title", &title, "1 to 64 characters in a line"));
        }
        let text = self.session.unwrap_or_else(|| "12h".into());
        let session = duration("admin.session", &text)?;
        if session.is_zero() {
            return Err(wrong("admin.session", &text, "more than nothing"));
        }
        Ok(Admin {
            enabled: self.enabled.unwrap_or(true),
            title,
            users: self.users,
            delete: self.delete.unwrap_or(true),
            session,
        })
    }
}

impl From<&Admin> for RawAdmin {
    fn from(admin: &Admin) -> Self {
        RawAdmin {
            enabled: Some(admin.enabled),
            title: Some(admin.title.clone()),
            users: admin.users.clone(),
            delete: Some(admin.delete),
            session: Some(show_duration(admin.session)),
        }
    }
}
