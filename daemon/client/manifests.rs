//! Manifests.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::error::{ClientError, absent, refusal};
use super::registry::{Call, RegistryClient};
use super::scope::Scope;
use crate::egress::Response;
use crate::oci::{Algorithm, Digest, Hasher, MAX_MANIFEST, MediaType, Reference, RepositoryName};

/// The media types of manifests that are read.
pub const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/json";

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The digest that a registry states for a manifest. Only the bytes would prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest.
    pub digest: Digest,
}

/// The answer to a manifest that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutAnswer {
    /// True if the registry lists it as a referrer of its subject by itself.
    pub lists_subject: bool,
}

impl RegistryClient {
    fn manifest_call(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: &Reference,
        scope: Scope,
    ) -> Call {
        let target = self.target(format!("/v2/{repository}/manifests/{reference}"));
        Call::new(method, target, scope).with_header(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES))
    }

    /// Asks for the digest behind a reference; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError`], as all methods.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, ClientError> {
        let call = self.manifest_call(Method::HEAD, repository, reference, Scope::pull(repository));
        let response = self.call(&call).await?;
        let digest = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match (response.status, digest) {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (StatusCode::OK, Some(digest)) => Ok(Some(ManifestHead { digest })),
            // Some registries answer only GET, or without the digest.
            (StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED, _) => {
                let read = self.manifest(repository, reference).await?;
                Ok(read.map(|manifest| ManifestHead { digest: manifest.digest }))
            }
            _ => Err(refusal(format!("{repository}:{reference}"), response).await),
        }
    }

    /// Reads a manifest; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError::Answer`] if its bytes do not match the digest that was asked for.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ClientError> {
        let call = self.manifest_call(Method::GET, repository, reference, Scope::pull(repository));
        let response = self.call(&call).await?;
        match response.status {
            StatusCode::NOT_FOUND => absent(response).await,
            StatusCode::OK => read(repository, reference, response).await.map(Some),
            _ => Err(refusal(format!("{repository}:{reference}"), response).await),
        }
    }

    /// Pushes a manifest under a tag or its digest.
    ///
    /// # Errors
    /// [`ClientError::Status`] if the registry refuses it, for example because content is missing.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        (media_type, bytes): (&MediaType, &Bytes),
    ) -> Result<PutAnswer, ClientError> {
        let mut call = self.manifest_call(Method::PUT, repository, reference, Scope::push(repository));
        let media_type = HeaderValue::try_from(media_type.as_str());
        let media_type = media_type.map_err(|error| ClientError::Answer(error.to_string()))?;
        call.headers.remove(ACCEPT);
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = bytes.clone();
        let response = self.call(&call).await?;
        if !response.status.is_success() {
            return Err(refusal(format!("{repository}:{reference}"), response).await);
        }
        let lists_subject = response.headers.contains_key("oci-subject");
        response.drain().await?;
        Ok(PutAnswer { lists_subject })
    }
}

async fn read(
    repository: &RepositoryName,
    reference: &Reference,
    response: Response,
) -> Result<Manifest, ClientError> {
    let malformed = |reason: &str| ClientError::Answer(format!("{repository}:{reference}: {reason}"));
    let stated = response.header(CONTENT_TYPE.as_str()).map(str::to_owned);
    let bytes = response.bytes(MAX_MANIFEST).await?;
    let algorithm = match reference {
        Reference::Digest(digest) => digest.algorithm(),
        Reference::Tag(_) => Algorithm::Sha256,
    };
    let digest = Hasher::digest(algorithm, &bytes);
    if matches!(reference, Reference::Digest(wanted) if *wanted != digest) {
        return Err(malformed("the bytes of the registry do not match the digest"));
    }
    let media_type = media_type(stated.as_deref(), &bytes)
        .ok_or_else(|| malformed("it has no media type of a manifest"))?;
    if media_type.is_schema1() {
        return Err(malformed("it has the manifest format of schema 1, which is not supported"));
    }
    Ok(Manifest { digest, media_type, bytes })
}

/// Returns the media type of a manifest: that of the answer, or its own if the answer has only a general one.
fn media_type(stated: Option<&str>, bytes: &[u8]) -> Option<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let own = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    let stated = stated.and_then(|text| text.split(';').next()).map(str::trim);
    let parsed = |text: &str| text.parse::<MediaType>().ok().filter(MediaType::is_for_manifests);
    stated
        .filter(|text| *text != "application/json")
        .and_then(parsed)
        .or_else(|| own.as_deref().and_then(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_name_their_media_type_or_the_answer_does() {
        let of = |stated: Option<&str>, text: &str| {
            media_type(stated, text.as_bytes()).map(|kind| kind.as_str().to_owned())
        };
        let own = format!(r#"{{"mediaType":"{}"}}"#, MediaType::OCI_INDEX);
        assert_eq!(of(Some("text/plain"), &own).as_deref(), Some(MediaType::OCI_INDEX));
        let stated = format!("{}; charset=utf-8", MediaType::DOCKER_MANIFEST);
        assert_eq!(of(Some(&stated), "{}").as_deref(), Some(MediaType::DOCKER_MANIFEST));
        assert_eq!(of(None, "{}"), None);
    }
}
