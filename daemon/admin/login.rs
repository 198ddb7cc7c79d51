//! The log-in form, logging in and logging out.

use askama::Template;
use http::StatusCode;

use super::error::AdminError;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::{OK, see_other};
use super::users::entered_name;
use crate::access::Identity;
use crate::wire::Response;

/// The longest path that a log-in returns to, in bytes: that of an image with a search fits.
const LONGEST_PATH: usize = 2048;

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    /// True if the registry has any users.
    has_users: bool,
    next: String,
    name: String,
    error: Option<String>,
}

/// Shows the form; a logged-in user is redirected at once.
pub(super) fn show(request: &AdminRequest) -> Result<Response, AdminError> {
    let next = local_path(request.query.get("next"));
    if matches!(request.identity, Identity::User(_)) {
        return Ok(see_other(&next));
    }
    form(request, OK, next, String::new(), None)
}

/// Verifies the password and starts a session, which replaces the previous one of this browser.
pub(super) async fn log_in(request: &mut AdminRequest<'_>) -> Result<Response, AdminError> {
    let next = local_path(request.form.get("next"));
    let name = request.field("name").to_owned();
    let password = request.form.get("password").unwrap_or_default();
    let sessions = &request.admin.state.sessions;
    let client = request.context.client;
    match request.access.log_in(sessions, &name, password, client).await {
        Ok(secret) => {
            request.end_session();
            request.begin_session(&secret);
            log::info!(user = name.as_str(), client:% = client; "{name} logged in to the admin page");
            Ok(see_other(&next))
        }
        Err(error) => {
            request.record_failed_login(&name, &error);
            let (status, _, text) = AdminError::from(error).shape();
            form(request, status, next, entered_name(&name), Some(text))
        }
    }
}

/// Ends the session.
pub(super) fn log_out(request: &mut AdminRequest<'_>) -> Response {
    request.end_session();
    see_other("/login?done=logged-out")
}

fn form(
    request: &AdminRequest,
    status: StatusCode,
    next: String,
    name: String,
    error: Option<String>,
) -> Result<Response, AdminError> {
    let has_users = request.access.has_users();
    render(status, &Login { frame: Frame::new(request, "login"), has_users, next, name, error })
}

/// Returns the path to redirect to after a log-in; `/` for anything but a path of this host, which would be an open redirect.
pub(super) fn local_path(path: Option<&str>) -> String {
    let is_local = |path: &&str| {
        let is_path = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/login");
        // Browsers treat a backslash as a slash, and skip control characters.
        is_path
            && path.len() <= LONGEST_PATH
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    path.filter(is_local).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn log_in_redirects_to_no_other_host() {
        assert_eq!(local_path(Some("/image/a@sha256:x?y=1")), "/image/a@sha256:x?y=1");
        let long = "/".to_owned() + &"a".repeat(LONGEST_PATH);
        for path in
            ["//evil.example/", "/\\evil.example", "https://evil.example", "", "/\t/evil", "/login", &long]
        {
            assert_eq!(local_path(Some(path)), "/", "{path}");
        }
    }

    #[test]
    fn largest_page_is_small() {
        worst_case::assert_small(&Login {
            frame: worst_case::frame(),
            has_users: false,
            next: local_path(Some(&("/".to_owned() + &"\"".repeat(LONGEST_PATH - 1)))),
            name: entered_name(&worst_case::texts()[0]),
            error: Some("e".repeat(200)),
        });
    }
}
