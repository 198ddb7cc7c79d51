//! The form that copies an image to another repository, or gives it another tag. No bytes move.

use super::error::AdminError;
use super::format::short_digest;
use super::limits::{NAME, shorten};
use super::request::{AdminRequest, PLACE_TIMEOUT};
use super::state::Copies;
use crate::access::Action;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{CopyOutcome, ImageCopy};
use crate::wire::Response;

/// The missing digests that an error names.
const MISSING: usize = 5;

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
    if request.admin.settings.copies == Copies::Refused {
        return Err(AdminError::Denied("The registry is read-only (registry.read_only)."));
    }
    request.check_source(&from)?;
    request.check(Action::Push, &to)?;
    let may_be_sparse = request.admin.settings.copies == Copies::Sparse;
    let copy = ImageCopy { from, digest, to, tag, may_be_sparse, origin: request.origin() };
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
        CopyOutcome::Incomplete(missing) => return Err(AdminError::Invalid(incomplete(&copy, &missing))),
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
    Ok(request.see_result(&path, "copied"))
}

/// Names what an image lacks that cannot be copied.
fn incomplete(copy: &ImageCopy, missing: &[Digest]) -> String {
    let name = format!("{}@{}", shorten(copy.from.as_str(), NAME), short_digest(&copy.digest));
    let named: Vec<_> = missing.iter().take(MISSING).map(short_digest).collect();
    let more = match missing.len().saturating_sub(MISSING) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "The image {name} is incomplete, and this registry takes only complete images (registry.sparse). Missing: {}{more}. Push \
         the image again, then copy it.",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::limits::SENTENCE;
    use super::super::worst_case;
    use super::*;
    use crate::store::Origin;

    #[test]
    fn missing_content_is_named_within_a_sentence() {
        let copy = ImageCopy {
            from: worst_case::name(0),
            digest: worst_case::digest(),
            to: worst_case::name(1),
            tag: worst_case::tag(0),
            may_be_sparse: false,
            origin: Origin::system(),
        };
        let text = incomplete(&copy, &vec![worst_case::digest(); 100]);
        assert!(text.contains("Missing: aaaaaaaaaaaa, ") && text.contains(" and 95 more."), "{text}");
        assert!(text.len() <= SENTENCE, "{}", text.len());
    }
}
