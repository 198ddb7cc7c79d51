//! Reasons for which a manifest is refused, worded for the user who pushed it.

use super::json_text::JsonTextError;
use super::media_type::MediaType;

/// The reason why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are not JSON, or a field has the wrong type.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// The text in the JSON is invalid.
    #[error("the manifest is not valid JSON: {0}")]
    Text(#[from] JsonTextError),
    /// The bytes are JSON, but not an object.
    #[error("a manifest is a JSON object")]
    NotAnObject,
    /// The manifest is in the format Docker schema 1, signed or not.
    #[error(
        "Docker schema 1 manifests are not supported; push with Docker 1.10 or later, which creates schema 2"
    )]
    Schema1,
    /// The field `mediaType` and the header `Content-Type` disagree.
    #[error("the mediaType of the manifest is {inside}, but its Content-Type is {outside}")]
    MediaType {
        /// The field `mediaType` of the manifest.
        inside: String,
        /// The header `Content-Type` of the request.
        outside: String,
    },
    /// The media type is not allowed for manifests.
    #[error(
        "a manifest cannot have the media type {0}; use a JSON type such as application/vnd.oci.image.manifest.v1+json \
         or application/vnd.NAME+json"
    )]
    NoManifestType(MediaType),
    /// Neither the header nor the manifest states a media type.
    #[error("the media type of the manifest is unknown; send it as Content-Type or in the field mediaType")]
    Untyped,
    /// The manifest has more descriptors or annotations than allowed.
    #[error("the manifest has {count} {what}, and this registry takes {limit} (limits.manifest_descriptors)")]
    TooMany {
        /// `descriptors` or `annotations`.
        what: &'static str,
        /// Their number in the manifest.
        count: usize,
        /// Their maximum number.
        limit: usize,
    },
    /// The field `schemaVersion` is present and not 2.
    #[error("schemaVersion {0} is not supported; only 2 is")]
    SchemaVersion(i64),
}
