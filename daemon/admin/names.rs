//! The forms that add the name in the address bar to the certificate, and remove added names.
//!
//! Clients of the registry trust its authority, so that only a user with full rights adds a name, and only the one by which
//! this very request reached the registry. A page of another host that resolves to the registry (DNS rebinding) has no
//! session here: the cookie is for the host that the user logged in at.

use super::error::AdminError;
use super::push::hostname;
use super::request::AdminRequest;
use super::state::NameRefusal;
use super::users::{check_may, log_change};
use crate::wire::Response;

/// Adds the name of the request, which the form repeats.
pub(super) async fn add(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let name = hostname(request);
    if request.field("name") != name {
        return Err(AdminError::Invalid(
            "Only the name in the address bar can be added. Nothing was changed.".into(),
        ));
    }
    change(request, Change::Add, name.clone()).await?;
    log_change(request, &format!("added {name} to the certificate"));
    Ok(request.see_result("/push", "name-added"))
}

/// Removes a name that was added.
pub(super) async fn remove(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let name = request.field("name").to_owned();
    change(request, Change::Remove, name.clone()).await?;
    log_change(request, &format!("removed {name} from the certificate"));
    Ok(request.see_result("/settings?section=tls", "name-removed"))
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Remove,
}

async fn change(request: &AdminRequest<'_>, change: Change, name: String) -> Result<(), AdminError> {
    let names = request.context.names.clone().ok_or_else(|| {
        AdminError::Invalid(
            "The registry's own authority did not issue the certificate. Nothing was changed.".into(),
        )
    })?;
    let changed = tokio::task::spawn_blocking(move || match change {
        Change::Add => names.add(&name),
        Change::Remove => names.remove(&name),
    });
    let changed = changed.await.map_err(|error| AdminError::Internal(error.to_string()))?;
    changed.map_err(|refusal| match refusal {
        NameRefusal::Invalid(why) => AdminError::Invalid(format!("{why}. Nothing was changed.")),
        NameRefusal::Failed(cause) => AdminError::Internal(cause),
    })
}
