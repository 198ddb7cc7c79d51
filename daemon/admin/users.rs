//! The users of the registry: the list, and the forms that add and remove users and set passwords.

use askama::Template;
use http::StatusCode;

use super::error::AdminError;
use super::format::When;
use super::limits::{SENTENCE, TEXT, shorten};
use super::pager::{Pager, page_of};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Identity, Operation, SHORTEST_PASSWORD, UserChangeKind, UserName};
use crate::wire::Response;

/// The users on a page. A name has up to 64 bytes and occurs six times in a row, twice percent-encoded.
const ROWS: usize = 30;
/// The longest user name, in bytes.
const LONGEST_NAME: usize = 64;

#[derive(Template)]
#[template(path = "users.html")]
struct Page {
    frame: Frame,
    users: Vec<Row>,
    /// The number of users on all pages.
    total: usize,
    pager: Pager,
    /// True if rules name users.
    has_rules: bool,
    shortest_password: usize,
    /// The name that was entered, if the form is shown again.
    name: String,
    error: Option<String>,
}

struct Row {
    name: String,
    /// True if this is the logged-in user.
    is_own: bool,
    /// True if this is the last user with full rights, who cannot be removed.
    is_last: bool,
    /// True for full rights.
    is_full: bool,
    /// The rights in words; empty without any.
    rights: String,
    /// The last log-in since the daemon started.
    last_login: Option<When>,
}

#[derive(Template)]
#[template(path = "set_password.html")]
struct PasswordForm {
    frame: Frame,
    name: String,
    is_own: bool,
    shortest_password: usize,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "remove_user.html")]
struct Confirmation {
    frame: Frame,
    name: String,
    is_own: bool,
    /// True if a rule of the page is for this user, and would be for a later user of the same name.
    has_rules: bool,
}

/// Shows the list.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    list(request, String::new(), None).await
}

/// Adds a user.
pub(super) async fn add(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    // Not without spaces around it: the command line refuses such a name as well.
    let name = request.form.get("name").unwrap_or_default();
    let added = match (name.parse::<UserName>(), new_password(request)) {
        (Ok(name), Ok(password)) => request.access.add_user(&name, password).await.map_err(AdminError::from),
        (Err(error), _) => Err(error.into()),
        (_, Err(error)) => Err(error),
    };
    if added.is_ok() {
        log_change(request, &format!("added user {name}"));
        request.record_user_change(name, UserChangeKind::Added).await;
    }
    finish(request, "added", added).await
}

/// Shows the form that sets the password of a user.
pub(super) async fn password_form(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let name = existing_name(request).await?;
    let (frame, is_own) = (Frame::new(request, "users"), is_own(request, &name));
    render(OK, &PasswordForm { frame, name, is_own, shortest_password: SHORTEST_PASSWORD, error: None })
}

/// Sets the password of another user.
pub(super) async fn set_password(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    match change_password(request).await {
        Ok(()) => Ok(request.see_result("/users", "password")),
        Err(AdminError::Invalid(why)) => {
            let name = entered_name(request.field("name"));
            let (frame, is_own) = (Frame::new(request, "users"), is_own(request, &name));
            let error = Some(shorten(&why, SENTENCE));
            let form = PasswordForm { frame, name, is_own, shortest_password: SHORTEST_PASSWORD, error };
            render(StatusCode::UNPROCESSABLE_ENTITY, &form)
        }
        Err(error) => Err(error),
    }
}

async fn change_password(request: &AdminRequest<'_>) -> Result<(), AdminError> {
    let name: UserName = request.field("name").parse()?;
    // Changing one's own password takes the old one, so that an unattended browser does not suffice.
    if is_own(request, name.as_str()) {
        return Err(AdminError::Invalid(
            "Your own password can only be changed with the old one. Nothing was changed.".into(),
        ));
    }
    request.access.change_password(&name, new_password(request)?).await?;
    log_change(request, &format!("changed the password of {name}"));
    request.record_user_change(name.as_str(), UserChangeKind::PasswordSet).await;
    Ok(())
}

/// Shows the confirmation for removing a user.
pub(super) async fn confirm_remove(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let name = existing_name(request).await?;
    let (frame, is_own) = (Frame::new(request, "users"), is_own(request, &name));
    let rules = request.access.listed_rules();
    let has_rules = rules.iter().any(|rule| rule.is_of_page && rule.names.contains(&name));
    render(OK, &Confirmation { frame, name, is_own, has_rules })
}

/// Removes a user.
pub(super) async fn remove(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let removed = match request.field("name").parse::<UserName>() {
        Ok(name) => request.access.remove_user(&name).await.map_err(AdminError::from),
        Err(error) => Err(error.into()),
    };
    if removed.is_ok() {
        log_change(request, &format!("removed user {}", request.field("name")));
        request.record_user_change(request.field("name"), UserChangeKind::Removed).await;
    }
    finish(request, "removed", removed).await
}

/// Returns the user in the query, if there is such a user.
async fn existing_name(request: &AdminRequest<'_>) -> Result<String, AdminError> {
    let name = request.query.get("name").unwrap_or_default().to_owned();
    if request.access.users().await.contains(&name) {
        return Ok(name);
    }
    Err(AdminError::NotFound("There is no such user.".into()))
}

fn is_own(request: &AdminRequest, name: &str) -> bool {
    matches!(&request.identity, Identity::User(own) if own.as_str() == name)
}

pub(super) fn log_change(request: &AdminRequest, change: &str) {
    log::info!(client:% = request.context.client, user:% = request.identity; "{change}");
}

/// Redirects to the list after a change, or shows it again with the mistake in the form.
async fn finish(
    request: &AdminRequest<'_>,
    done: &str,
    changed: Result<(), AdminError>,
) -> Result<Response, AdminError> {
    match changed {
        Ok(()) => Ok(request.see_result("/users", done)),
        Err(AdminError::Invalid(why)) => {
            let (name, error) = (entered_name(request.field("name")), shorten(&why, SENTENCE));
            list(request, name, Some(error)).await
        }
        Err(error) => Err(error),
    }
}

async fn list(
    request: &AdminRequest<'_>,
    name: String,
    error: Option<String>,
) -> Result<Response, AdminError> {
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { OK };
    let last = request.access.last_user().await;
    let row = |name: String| {
        let rights = request.access.rights(&name);
        Row {
            is_own: is_own(request, &name),
            is_last: last.as_ref().is_some_and(|last| last.as_str() == name),
            is_full: rights.is_full,
            rights: shorten(&rights.sentences.join("; "), TEXT),
            last_login: request.access.last_login(&name).map(When::at),
            name,
        }
    };
    let (all, page) = (request.access.users().await, Pager::wanted(&request.query));
    let (total, pager) = (all.len(), Pager::new(page, ROWS, all.len(), "/users", &[]));
    let users = page_of(all, page, ROWS).into_iter().map(row).collect();
    let page = Page {
        frame: Frame::new(request, "users"),
        users,
        total,
        pager,
        has_rules: request.access.has_rules_for_users(),
        shortest_password: SHORTEST_PASSWORD,
        name,
        error,
    };
    render(status, &page)
}

/// Returns the new password of a form, if both fields have the same.
pub(super) fn new_password(request: &AdminRequest) -> Result<String, AdminError> {
    let [new, again] = ["new", "again"].map(|field| request.form.get(field).unwrap_or_default());
    if new == again {
        return Ok(new.to_owned());
    }
    Err(AdminError::Invalid("The two passwords differ. Nothing was changed.".into()))
}

/// Returns a name as it is put into the form again, cut to the longest that is valid.
pub(super) fn entered_name(name: &str) -> String {
    name[..name.floor_char_boundary(LONGEST_NAME)].to_owned()
}

pub(super) fn check_may(request: &AdminRequest) -> Result<(), AdminError> {
    match request.identity {
        _ if request.may(&Operation::Users) => Ok(()),
        Identity::Anonymous | Identity::Local(_) => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("Managing users requires full rights.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        let row = |_| Row {
            name: "@".repeat(LONGEST_NAME),
            is_own: false,
            is_last: false,
            is_full: true,
            rights: "r".repeat(TEXT),
            last_login: Some(When::at(0)),
        };
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            users: (0..ROWS).map(row).collect(),
            total: 1_000_000,
            pager: Pager::new(500, ROWS, 1_000_000, "/users", &[]),
            has_rules: true,
            shortest_password: SHORTEST_PASSWORD,
            name: entered_name(&worst_case::texts()[0]),
            error: Some("e".repeat(SENTENCE)),
        });
    }

    #[test]
    fn largest_forms_are_small() {
        let name = || entered_name(&worst_case::texts()[0]);
        let (frame, error) = (worst_case::frame(), Some("e".repeat(SENTENCE)));
        let form =
            PasswordForm { frame, name: name(), is_own: false, shortest_password: SHORTEST_PASSWORD, error };
        worst_case::assert_small(&form);
        worst_case::assert_small(&Confirmation {
            frame: worst_case::frame(),
            name: name(),
            is_own: true,
            has_rules: true,
        });
    }
}
