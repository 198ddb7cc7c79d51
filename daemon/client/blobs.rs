//! Blobs: reading, and mounting from another repository.

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode};

use super::error::{ClientError, absent, refusal};
use super::registry::{Call, RegistryClient};
use super::scope::Scope;
use crate::egress::{Response, Target};
use crate::oci::{Digest, Hasher, RepositoryName};

/// The content of a blob, on its way. Its reader checks the digest.
pub struct BlobContent {
    response: Response,
    /// The position of its first byte: that which was asked for, or 0 from a registry that sends no parts.
    pub start: u64,
}

impl BlobContent {
    /// Returns the next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Egress`] if the body ends too early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        Ok(self.response.chunk().await?)
    }
}

/// The answer to a mount.
pub enum Mounted {
    /// The repository has the blob.
    Done,
    /// It does not; an upload was begun instead, at this URL.
    Upload(Target),
    /// It does not.
    Refused,
}

impl RegistryClient {
    fn blob_target(&self, repository: &RepositoryName, digest: &Digest) -> Target {
        self.target(format!("/v2/{repository}/blobs/{digest}"))
    }

    /// Asks for the length of a blob; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError`], as all methods.
    pub async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ClientError> {
        let target = self.blob_target(repository, digest);
        let response = self.call(&Call::new(Method::HEAD, target, Scope::pull(repository))).await?;
        match (response.status, response.length()) {
            (StatusCode::OK, Some(length)) => Ok(Some(length)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            // Some hosts of content answer only GET.
            _ => {
                let Some(content) = self.blob(repository, digest, 0).await? else { return Ok(None) };
                content.response.length().map(Some).ok_or_else(|| {
                    let text = format!("{repository}@{digest}: the registry does not state its length");
                    ClientError::Answer(text)
                })
            }
        }
    }

    /// Reads a blob, from a position on if the registry sends parts; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError::Answer`] if the registry sends another part than that.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobContent>, ClientError> {
        let mut call = Call::new(Method::GET, self.blob_target(repository, digest), Scope::pull(repository));
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            call.headers.insert(RANGE, range.map_err(|error| ClientError::Answer(error.to_string()))?);
        }
        let response = self.call(&call).await?;
        match response.status {
            StatusCode::OK => Ok(Some(BlobContent { response, start: 0 })),
            StatusCode::PARTIAL_CONTENT => {
                let start = response.header("content-range").and_then(start_of);
                if start != Some(offset) {
                    let text =
                        format!("{repository}@{digest}: the registry sends another part than was asked for");
                    return Err(ClientError::Answer(text));
                }
                Ok(Some(BlobContent { response, start: offset }))
            }
            StatusCode::NOT_FOUND => absent(response).await,
            _ => Err(refusal(format!("{repository}@{digest}"), response).await),
        }
    }

    /// Reads a small blob into memory; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError::Answer`] if it is longer than `limit`, or its bytes do not match its digest.
    pub async fn small_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<Bytes>, ClientError> {
        let Some(content) = self.blob(repository, digest, 0).await? else { return Ok(None) };
        let bytes = content.response.bytes(limit).await?;
        if Hasher::digest(digest.algorithm(), &bytes) == *digest {
            return Ok(Some(bytes));
        }
        Err(ClientError::Answer(format!(
            "{repository}@{digest}: the bytes of the registry do not match the digest"
        )))
    }

    /// Adds a blob of another repository, without sending it.
    ///
    /// # Errors
    /// [`ClientError`] if no answer came.
    pub async fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<Mounted, ClientError> {
        let target = self.target(format!("/v2/{repository}/blobs/uploads/"));
        let target =
            target.with_parameter("mount", &digest.to_string()).with_parameter("from", from.as_str());
        let response =
            match self.call(&Call::new(Method::POST, target.clone(), Scope::mount(repository, from))).await {
                Ok(response) => response,
                // The user may not read the other repository. Whether it may write here, the upload will tell.
                Err(ClientError::Unauthorized { .. }) => return Ok(Mounted::Refused),
                Err(error) => return Err(error),
            };
        let mounted = match (response.status, response.header(LOCATION.as_str())) {
            (StatusCode::CREATED, _) => Mounted::Done,
            (StatusCode::ACCEPTED, Some(location)) => {
                target.join(location).map_or(Mounted::Refused, Mounted::Upload)
            }
            _ => Mounted::Refused,
        };
        response.drain().await?;
        Ok(mounted)
    }
}

/// Returns the first position of a `Content-Range`.
fn start_of(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_where_their_header_says() {
        assert_eq!(start_of("bytes 5-9/10"), Some(5));
        for text in ["", "5-9", "bytes */10", "bytes -5", "items 5-9/10"] {
            assert_eq!(start_of(text), None, "{text}");
        }
    }
}
