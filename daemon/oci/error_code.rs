//! Error codes of the API (distribution specification, "Error Codes").

/// An error code; [`ErrorCode::as_str`] is its form in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// code-1: blob unknown to registry.
    BlobUnknown,
    /// code-2: blob upload invalid.
    BlobUploadInvalid,
    /// code-3: blob upload unknown to registry.
    BlobUploadUnknown,
    /// code-4: provided digest did not match uploaded content.
    DigestInvalid,
    /// code-5: manifest references a manifest or blob unknown to registry.
    ManifestBlobUnknown,
    /// code-6: manifest invalid.
    ManifestInvalid,
    /// code-7: manifest unknown to registry.
    ManifestUnknown,
    /// code-8: invalid repository name.
    NameInvalid,
    /// code-9: repository name not known to registry.
    NameUnknown,
    /// code-10: provided length did not match content length.
    SizeInvalid,
    /// code-11: authentication required.
    Unauthorized,
    /// code-12: requested access to the resource is denied.
    Denied,
    /// code-13: the operation is unsupported.
    Unsupported,
    /// code-14: too many requests.
    TooManyRequests,
}

impl ErrorCode {
    /// All codes, in the order of the enum.
    pub const ALL: [ErrorCode; 14] = [
        ErrorCode::BlobUnknown,
        ErrorCode::BlobUploadInvalid,
        ErrorCode::BlobUploadUnknown,
        ErrorCode::DigestInvalid,
        ErrorCode::ManifestBlobUnknown,
        ErrorCode::ManifestInvalid,
        ErrorCode::ManifestUnknown,
        ErrorCode::NameInvalid,
        ErrorCode::NameUnknown,
        ErrorCode::SizeInvalid,
        ErrorCode::Unauthorized,
        ErrorCode::Denied,
        ErrorCode::Unsupported,
        ErrorCode::TooManyRequests,
    ];

    /// Returns a sentence for people: the meaning, and what to do.
    pub fn meaning(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "The repository does not have this blob.",
            ErrorCode::BlobUploadInvalid => "The upload cannot be continued like this.",
            ErrorCode::BlobUploadUnknown => "The upload does not exist: it ended, was cancelled or expired.",
            ErrorCode::DigestInvalid => "The digest is malformed, or does not match the content.",
            ErrorCode::ManifestBlobUnknown => {
                "The manifest references content that the repository does not have. Push that first."
            }
            ErrorCode::ManifestInvalid => "The manifest is not valid. The message says why.",
            ErrorCode::ManifestUnknown => "The repository does not have this manifest or tag.",
            ErrorCode::NameInvalid => "The name of the repository is not valid.",
            ErrorCode::NameUnknown => "The repository does not exist.",
            ErrorCode::SizeInvalid => "The length does not match the content, or exceeds a limit.",
            ErrorCode::Unauthorized => "Log in, or get another token.",
            ErrorCode::Denied => "The user may not do this.",
            ErrorCode::Unsupported => "The operation does not exist here, or the configuration disables it.",
            ErrorCode::TooManyRequests => {
                "Too many requests or failed log-ins. Wait as long as Retry-After says."
            }
        }
    }

    /// Returns the identifier of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "BLOB_UNKNOWN",
            ErrorCode::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            ErrorCode::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            ErrorCode::DigestInvalid => "DIGEST_INVALID",
            ErrorCode::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ErrorCode::ManifestInvalid => "MANIFEST_INVALID",
            ErrorCode::ManifestUnknown => "MANIFEST_UNKNOWN",
            ErrorCode::NameInvalid => "NAME_INVALID",
            ErrorCode::NameUnknown => "NAME_UNKNOWN",
            ErrorCode::SizeInvalid => "SIZE_INVALID",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Denied => "DENIED",
            ErrorCode::Unsupported => "UNSUPPORTED",
            ErrorCode::TooManyRequests => "TOOMANYREQUESTS",
        }
    }
}
