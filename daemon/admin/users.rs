//! Who is a user.

use askama::Template;
use http::StatusCode;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, render};
use super::visit::{Visit, see_other};
use crate::access::{Identity, UserName, Wanted};
use crate::wire::Response;

/// How many users are on a page: their names may have 64 letters, stand in a row six times, and are longer in addresses.
const PAGE: usize = 45;

#[derive(Template)]
#[template(path = "users.html")]
struct Page {
    frame: Frame,
    users: Vec<Row>,
    /// How many there are on all pages.
    total: usize,
    pager: Pager,
    /// What was filled in and did not do.
    name: String,
    error: Option<String>,
}

struct Row {
    name: String,
    /// Whether it is who looks at the page.
    is_own: bool,
    /// Whether there would be nobody left to look after the registry.
    stays: bool,
}

#[derive(Template)]
#[template(path = "set_password.html")]
struct PasswordForm {
    frame: Frame,
    name: String,
    is_own: bool,
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
        added.map(|()| log::info!(client:% = visit.surroundings.client, user:% = visit.identity; "added user {}", visit.field("name"))),
    )
    .await
}

pub(super) async fn password(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let name = asked_about(visit).await?;
    render(
        OK,
        &PasswordForm { frame: Frame::new(visit, "users"), is_own: is_own(visit, &name), name, error: None },
    )
}

pub(super) async fn set_password(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    match changed(visit).await {
        Ok(()) => Ok(see_other("/users?done=password")),
        Err(AdminError::Invalid(why)) => {
            let name = visit.field("name").to_owned();
            let (frame, is_own) = (Frame::new(visit, "users"), is_own(visit, &name));
            render(StatusCode::UNPROCESSABLE_ENTITY, &PasswordForm { frame, name, is_own, error: Some(why) })
        }
        Err(error) => Err(error),
    }
}

/// Sets the password of somebody else. One's own takes the old one: a browser that was left alone is not enough.
async fn changed(visit: &Visit<'_>) -> Result<(), AdminError> {
    let name: UserName = visit.field("name").parse()?;
    if is_own(visit, name.as_str()) {
        return Err(AdminError::Invalid(
            "Your own password is changed with the old one. Nothing is changed.".into(),
        ));
    }
    visit.access.change_password(&name, new_password(visit)?).await?;
    log::info!(client:% = visit.surroundings.client, user:% = visit.identity; "changed the password of {name}");
    Ok(())
}

pub(super) async fn ask(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let name = asked_about(visit).await?;
    render(OK, &Question { frame: Frame::new(visit, "users"), is_own: is_own(visit, &name), name })
}

/// The user whom the address of a page names.
async fn asked_about(visit: &Visit<'_>) -> Result<String, AdminError> {
    let name = visit.query.get("name").unwrap_or_default().to_owned();
    if visit.access.users().await.contains(&name) {
        return Ok(name);
    }
    Err(AdminError::NotFound("There is no such user.".into()))
}

fn is_own(visit: &Visit, name: &str) -> bool {
    matches!(&visit.identity, Identity::User(own) if own.as_str() == name)
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
        removed.map(|()| log::info!(client:% = visit.surroundings.client, user:% = visit.identity; "removed user {}", visit.field("name"))),
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
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { OK };
    let last = visit.access.last_user().await;
    let row = |name: String| Row {
        is_own: is_own(visit, &name),
        stays: last.as_ref().is_some_and(|last| last.as_str() == name),
        name,
    };
    let (all, page) = (visit.access.users().await, Pager::wanted(&visit.query));
    let (total, pager) = (all.len(), Pager::new(page, PAGE, all.len(), "/users", &[]));
    let users = all.into_iter().skip((page - 1).saturating_mul(PAGE)).take(PAGE).map(row).collect();
    render(status, &Page { frame: Frame::new(visit, "users"), users, total, pager, name, error })
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
