//! The form with which a user changes their own password.

use askama::Template;
use http::StatusCode;

use super::error::AdminError;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use super::users::new_password;
use crate::access::{UserChangeKind, UserName};
use crate::wire::Response;

#[derive(Template)]
#[template(path = "account.html")]
struct Page {
    frame: Frame,
    error: Option<String>,
}

/// Shows the form.
pub(super) fn show(request: &AdminRequest) -> Result<Response, AdminError> {
    request.own_name()?;
    render(OK, &Page { frame: Frame::new(request, "account"), error: None })
}

/// Changes the password, which ends all sessions of the user, and starts a new session for this browser.
pub(super) async fn change(request: &mut AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = request.own_name()?;
    match change_password(request, &name).await {
        Ok(secret) => {
            request.end_session();
            request.begin_session(&secret);
            Ok(request.see_result("/account", "own-password"))
        }
        Err(AdminError::Invalid(why)) => {
            let page = Page { frame: Frame::new(request, "account"), error: Some(why) };
            render(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
        Err(error) => Err(error),
    }
}

/// Changes the password and returns the secret of the new session.
async fn change_password(request: &AdminRequest<'_>, name: &UserName) -> Result<String, AdminError> {
    let new = new_password(request)?;
    let (access, client) = (request.access, request.context.client);
    let old = request.form.get("old").unwrap_or_default();
    access.confirm(name, old, client).await.map_err(|error| {
        request.record_failed_login(name.as_str(), &error);
        match AdminError::from(error) {
            AdminError::Invalid(_) => {
                AdminError::Invalid("The old password is wrong. Nothing was changed.".into())
            }
            error => error,
        }
    })?;
    let secret = access.renew_password(&request.admin.state.sessions, name, new).await?;
    log::info!(user = name.as_str(), client:% = client; "{name} changed their own password");
    request.record_user_change(name.as_str(), UserChangeKind::PasswordSet).await;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        worst_case::assert_small(&Page { frame: worst_case::frame(), error: Some("e".repeat(200)) });
    }
}
