//! Maps errors of the store to problems, which carry no HTTP; the API and the admin page share this mapping.

use serde_json::json;

use super::error::StoreError;
use crate::oci::{ErrorCode, Problem, ProblemKind, RETRY_LATER};

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::BlobUnknown(digest) => {
                Problem::new(ProblemKind::NotFound, ErrorCode::BlobUnknown, text)
                    .with_detail(json!({ "digest": digest }))
            }
            StoreError::ManifestUnknown(reference) => Problem::manifest_unknown(&reference.to_string()),
            StoreError::NameUnknown(name) => {
                Problem::new(ProblemKind::NotFound, ErrorCode::NameUnknown, text)
                    .with_detail(json!({ "name": name }))
            }
            StoreError::UploadUnknown => Problem::new(
                ProblemKind::NotFound,
                ErrorCode::BlobUploadUnknown,
                "this upload is not in this repository, or has expired; start a new one",
            ),
            StoreError::UploadTakenOver => {
                Problem::new(ProblemKind::Conflict, ErrorCode::BlobUploadInvalid, text)
            }
            StoreError::DigestMismatch { claimed, actual } => {
                Problem::new(ProblemKind::Malformed, ErrorCode::DigestInvalid, text)
                    .with_detail(json!({ "given": claimed, "actual": actual }))
            }
            StoreError::ManifestBlobUnknown(digests) => {
                let missing: Vec<_> = digests.iter().map(|digest| json!({ "digest": digest })).collect();
                let message =
                    "the manifest references content that is not in this repository; push that content first";
                Problem::new(ProblemKind::Malformed, ErrorCode::ManifestBlobUnknown, message)
                    .with_detail(json!(missing))
            }
            StoreError::TooManyTags { .. }
            | StoreError::TooManyNames { .. }
            | StoreError::TagImmutable { .. }
            | StoreError::TagKept { .. }
            | StoreError::ContentKept { .. } => Problem::new(ProblemKind::Forbidden, ErrorCode::Denied, text),
            StoreError::TooManyUploads | StoreError::TooManyWaiting => {
                Problem::too_many_requests(text, RETRY_LATER)
            }
            StoreError::Full => no_space("the registry's disk is full; delete images that are not needed"),
            StoreError::Quota => no_space(
                "the registry's quota is used up; delete images that are not needed, or raise storage.quota",
            ),
            StoreError::IndexFull | StoreError::PagesHeld => no_space(
                "the registry's index is full; delete images that are not needed, or raise storage.index_map_size",
            ),
            StoreError::ReadOnly => Problem::unavailable(
                "the registry is read-only because its disk failed: pulls work, pushes and deletes need a restart once \
                 the disk is healthy",
            ),
            StoreError::OutOfResources { .. } => Problem::unavailable(
                "the registry is out of file descriptors or memory at the moment; try again later",
            )
            .with_cause(text),
            StoreError::Closing => Problem::unavailable("the registry is shutting down; try again later"),
            StoreError::Damaged(_)
            | StoreError::InUse(_)
            | StoreError::NeedsRecovery
            | StoreError::LayoutStale
            | StoreError::Format { .. }
            | StoreError::Io { .. }
            | StoreError::Obstacle { .. }
            | StoreError::Index(_) => Problem::internal(text),
        }
    }
}

fn no_space(message: &str) -> Problem {
    Problem::new(ProblemKind::NoSpace, ErrorCode::Denied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failure_reaches_the_log_and_not_the_client() {
        let error =
            StoreError::Io { action: "sync /data/blobs".into(), source: std::io::Error::other("EIO") };
        let problem = Problem::from(error);
        assert_eq!(problem.kind(), ProblemKind::Internal);
        assert_eq!(problem.cause(), Some("cannot sync /data/blobs: EIO"));
        assert!(!problem.message().contains("/data"));
        let error = StoreError::OutOfResources {
            action: "open /data/blobs".into(),
            source: std::io::Error::from_raw_os_error(libc::EMFILE),
        };
        let problem = Problem::from(error);
        assert_eq!(problem.kind(), ProblemKind::Unavailable);
        assert!(problem.cause().is_some_and(|cause| cause.contains("/data")));
        assert!(!problem.message().contains("/data"));
    }

    #[test]
    fn a_problem_that_passes_says_when_to_retry() {
        for error in [StoreError::TooManyUploads, StoreError::TooManyWaiting, StoreError::Closing] {
            assert_eq!(Problem::from(error).retry_after(), Some(RETRY_LATER));
        }
        assert_eq!(Problem::from(StoreError::Full).retry_after(), None);
    }
}
