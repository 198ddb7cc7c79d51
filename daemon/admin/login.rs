//! Logging in and out.

use askama::Template;
use http::StatusCode;

use super::error::AdminError;
use super::pages::{Frame, render};
use super::visit::{Visit, see_other};
use crate::access::Identity;
use crate::wire::Response;

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    /// Whether there is anyone who could log in.
    has_users: bool,
    next: String,
    name: String,
    error: Option<String>,
}

pub(super) fn show(visit: &Visit) -> Result<Response, AdminError> {
    let next = local(visit.query.get("next"));
    if matches!(visit.identity, Identity::User(_)) {
        return Ok(see_other(&next));
    }
    form(visit, StatusCode::OK, next, String::new(), None)
}

pub(super) async fn log_in(visit: &mut Visit<'_>) -> Result<Response, AdminError> {
    let next = local(visit.form.get("next"));
    let (name, password) = (visit.field("name").to_owned(), visit.form.get("password").unwrap_or_default());
    let sessions = &visit.admin.desk.sessions;
    let client = visit.surroundings.client;
    match visit.access.log_in(sessions, &name, password, client).await {
        Ok(secret) => {
            // Whoever was logged in in this browser before is not any more.
            visit.end_session();
            visit.begin_session(&secret);
            log::info!(user = name.as_str(), client:% = client; "{name} has logged in on the admin page");
            Ok(see_other(&next))
        }
        Err(error) => {
            visit.admin.desk.logins.failed(client, "admin", &name, &error);
            let (status, _, text) = AdminError::from(error).shape();
            form(visit, status, next, name, Some(text))
        }
    }
}

pub(super) fn log_out(visit: &mut Visit<'_>) -> Response {
    visit.end_session();
    see_other("/login?done=logged-out")
}

fn form(
    visit: &Visit,
    status: StatusCode,
    next: String,
    name: String,
    error: Option<String>,
) -> Result<Response, AdminError> {
    let has_users = visit.access.has_users();
    render(status, &Login { frame: Frame::new(visit, "login"), has_users, next, name, error })
}

/// The page to go to afterwards: one of this host, whatever the address says.
fn local(path: Option<&str>) -> String {
    let is_local = |path: &&str| {
        let inside = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/login");
        inside && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    path.filter(is_local).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_sent_to_no_other_host() {
        assert_eq!(local(Some("/image/a@sha256:x?y=1")), "/image/a@sha256:x?y=1");
        for path in ["//evil.example/", "/\\evil.example", "https://evil.example", "", "/\t/evil", "/login"] {
            assert_eq!(local(Some(path)), "/", "{path}");
        }
    }
}
