//! Who is a user.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, render};
use super::visit::{Visit, see_other};
use crate::access::{Identity, UserName, Wanted};
use crate::wire::Response;

#[derive(Template)]
#[template(path = "users.html")]
struct Page {
    frame: Frame,
    names: Vec<String>,
    /// What was filled in and did not do.
    name: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "remove_user.html")]
struct Question {
    frame: Frame,
    name: String,
    is_own: bool,
}

pub(super) async fn show(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    page(visit, String::new(), None).await
}

pub(super) async fn add(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let added = match (visit.field("name").parse::<UserName>(), new_password(visit)) {
        (Ok(name), Ok(password)) => visit.access.add_user(&name, password).await.map_err(AdminError::from),
        (Err(error), _) => Err(error.into()),
        (_, Err(error)) => Err(error),
    };
    told(
        visit,
        "added",
        added.map(|()| log::info!(user:% = visit.identity; "added user {}", visit.field("name"))),
    )
    .await
}

pub(super) async fn set_password(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let changed = match (visit.field("name").parse::<UserName>(), new_password(visit)) {
        (Ok(name), Ok(password)) => {
            visit.access.change_password(&name, password).await.map_err(AdminError::from)
        }
        (Err(error), _) => Err(error.into()),
        (_, Err(error)) => Err(error),
    };
    told(visit, "password", changed).await
}

pub(super) async fn ask(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let name = visit.query.get("name").unwrap_or_default().to_owned();
    if !visit.access.users().await.contains(&name) {
        return Err(AdminError::NotFound("There is no such user.".into()));
    }
    let is_own = visit.identity.to_string() == name;
    render(OK, &Question { frame: Frame::new(visit, "users"), name, is_own })
}

pub(super) async fn remove(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let removed = match visit.field("name").parse::<UserName>() {
        Ok(name) => visit.access.remove_user(&name).await.map_err(AdminError::from),
        Err(error) => Err(error.into()),
    };
    told(
        visit,
        "removed",
        removed.map(|()| log::info!(user:% = visit.identity; "removed user {}", visit.field("name"))),
    )
    .await
}

/// The list again, after a change or with what was wrong about it.
async fn told(
    visit: &Visit<'_>,
    done: &str,
    changed: Result<(), AdminError>,
) -> Result<Response, AdminError> {
    match changed {
        Ok(()) => Ok(see_other(&format!("/users?done={done}"))),
        Err(AdminError::Invalid(why)) => page(visit, visit.field("name").to_owned(), Some(why)).await,
        Err(error) => Err(error),
    }
}

async fn page(visit: &Visit<'_>, name: String, error: Option<String>) -> Result<Response, AdminError> {
    let status = if error.is_some() { http::StatusCode::UNPROCESSABLE_ENTITY } else { OK };
    let names = visit.access.users().await;
    render(status, &Page { frame: Frame::new(visit, "users"), names, name, error })
}

/// A new password, if it was written twice alike.
pub(super) fn new_password(visit: &Visit) -> Result<String, AdminError> {
    let [new, again] = ["new", "again"].map(|field| visit.form.get(field).unwrap_or_default());
    if new == again {
        return Ok(new.to_owned());
    }
    Err(AdminError::Invalid("The two passwords differ. Nothing is changed.".into()))
}

fn check_may(visit: &Visit) -> Result<(), AdminError> {
    match visit.identity {
        _ if visit.may(&Wanted::Users) => Ok(()),
        Identity::Anonymous => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("Users are for those who may do everything.")),
    }
}
