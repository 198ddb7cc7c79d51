//! The form that copies an image to another repository, or gives it another tag. No bytes move.

use super::error::AdminError;
use super::request::{AdminRequest, PLACE_TIMEOUT};
use super::response::see_other;
use crate::access::Action;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{CopyOutcome, ImageCopy};
use crate::wire::Response;

/// Copies the image of a form: from the repository `name` the manifest `digest`, to the repository `to` as `tag`.
pub(super) async fn copy(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let field = |name| request.form.get(name).unwrap_or_default().trim();
    let name = |name| {
        let parsed = field(name).parse::<RepositoryName>();
        parsed.map_err(|error| AdminError::Invalid(format!("Invalid repository name: {error}.")))
    };
    let (from, to) = (name("name")?, name("to")?);
    let digest = field("digest").parse::<Digest>();
    let digest = digest.map_err(|error| AdminError::Invalid(format!("Invalid digest: {error}.")))?;
    let tag = field("tag").parse::<Tag>();
    let tag = tag.map_err(|error| AdminError::Invalid(format!("Invalid tag: {error}.")))?;
    if !request.admin.settings.push {
        return Err(AdminError::Denied("The registry is read-only (registry.read_only)."));
    }
    request.check_source(&from)?;
    request.check(Action::Push, &to)?;
    let copy = ImageCopy { from, digest, to, tag, origin: request.origin() };
    // It reads manifests into memory, as a download does.
    let place = request.admin.state.downloads.acquire(request.holder());
    let place = tokio::time::timeout(PLACE_TIMEOUT, place).await;
    let _place = place.ok().and_then(Result::ok).ok_or(AdminError::Busy)?;
    match request.admin.store.copy_image(&copy).await? {
        CopyOutcome::Copied => {}
        CopyOutcome::TooLarge => {
            return Err(AdminError::Invalid(
                "The image has too many manifests or layers to be copied here. Copy it with a client.".into(),
            ));
        }
    }
    let ImageCopy { from, digest, to, tag, .. } = copy;
    let (user, client) = (request.identity.to_string(), request.context.client);
    log::info!(
        client:% = client, repository = to.as_str(), user = user.as_str();
        "copied {digest} of {from} to {to}:{tag}"
    );
    // A user who may push but not pull does not see the copy.
    let sees_it = request.check(Action::Pull, &to).is_ok();
    let path = if sees_it { format!("/image/{to}:{tag}") } else { format!("/image/{from}@{digest}") };
    Ok(see_other(&format!("{path}?done=copied")))
}
