//! One's own password.

use askama::Template;
use http::StatusCode;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, render};
use super::users::new_password;
use super::visit::{Visit, see_other};
use crate::access::{Identity, UserName};
use crate::wire::Response;

#[derive(Template)]
#[template(path = "account.html")]
struct Page {
    frame: Frame,
    error: Option<String>,
}

pub(super) fn show(visit: &Visit) -> Result<Response, AdminError> {
    own_name(visit)?;
    render(OK, &Page { frame: Frame::new(visit, "account"), error: None })
}

pub(super) async fn change(visit: &mut Visit<'_>) -> Result<Response, AdminError> {
    let name = own_name(visit)?;
    match changed(visit, &name).await {
        Ok(secret) => {
            // The old session has ended with the old password.
            visit.end_session();
            visit.begin_session(&secret);
            Ok(see_other("/account?done=own-password"))
        }
        Err(AdminError::Invalid(why)) => {
            let page = Page { frame: Frame::new(visit, "account"), error: Some(why) };
            render(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
        Err(error) => Err(error),
    }
}

/// Changes the password; gives the secret of the session that goes on with the new one.
async fn changed(visit: &Visit<'_>, name: &UserName) -> Result<String, AdminError> {
    let new = new_password(visit)?;
    let (access, client) = (visit.access, visit.surroundings.client);
    let old = visit.form.get("old").unwrap_or_default();
    access.confirm(name, old, client).await.map_err(|error| {
        visit.admin.desk.logins.failed(client, "admin", name.as_str(), &error);
        match AdminError::from(error) {
            AdminError::Invalid(_) => {
                AdminError::Invalid("The old password is wrong. Nothing is changed.".into())
            }
            error => error,
        }
    })?;
    let secret = access.renew_password(&visit.admin.desk.sessions, name, new).await?;
    log::info!(user = name.as_str(), client:% = client; "{name} has changed the own password");
    Ok(secret)
}

fn own_name(visit: &Visit) -> Result<UserName, AdminError> {
    match &visit.identity {
        Identity::User(name) => Ok(name.clone()),
        Identity::Anonymous => Err(AdminError::NeedsLogin),
    }
}
