//! Manifests: read, put, deleted ("Pulling manifests", "Pushing Manifests", "Deleting Manifests").

use std::time::Duration;

use bytes::Bytes;

use super::{Registry, name_digest, set};
use crate::access::Action;
use crate::oci::{Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::store::{LargePlace, ManifestEntry, Spool};
use crate::wire::{ApiError, Permitted, Response, as_download, conditional, empty, with_bytes};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use http::{Method, StatusCode};

/// The largest manifest that is taken, in bytes: what the standard asks registries to take at least.
const LARGEST: usize = 4 << 20;
/// A manifest above this size is large, in bytes: builders make smaller ones.
const LARGE: u64 = 64 << 10;
/// How long the body of a manifest may take.
const LONGEST_PUSH: Duration = Duration::from_mins(2);
/// The most tags that one push may name.
const MOST_TAGS: usize = 100;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

impl Registry {
    pub(super) async fn get_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        // A client that may push leaves out the upload of what a HEAD by digest finds.
        let (entry, may_skip) = match reference {
            Reference::Digest(digest) if request.permit.may(Action::Push, name) => {
                (self.store.manifest_to_count_on(name, digest).await?, true)
            }
            Reference::Tag(_) | Reference::Digest(_) => (self.store.manifest(name, reference)?, false),
        };
        // Other HEADs cost one lookup: clients poll tags with them.
        let looks_at_file = may_skip || self.store.is_known_damaged(&entry.digest);
        if request.parts.method == Method::HEAD
            && looks_at_file
            && !self.store.has_file(&entry.digest, entry.size).await?
        {
            return Err(ApiError::ManifestUnknown(reference.to_string()));
        }
        let mut response = if conditional::is_known(&request.parts.headers, &entry.digest) {
            empty(StatusCode::NOT_MODIFIED)
        } else if request.parts.method == Method::HEAD {
            let mut response = empty(StatusCode::OK);
            response.headers_mut().insert(CONTENT_LENGTH, entry.size.into());
            set(&mut response, CONTENT_TYPE, entry.media_type.content_type());
            response
        } else {
            self.manifest_body(&entry, request).await?
        };
        if !entry.media_type.is_for_manifests() {
            as_download(response.headers_mut());
        }
        name_digest(&mut response, &entry.digest);
        set(&mut response, ETAG, &conditional::etag(&entry.digest));
        let lasts = match reference {
            Reference::Digest(_) => super::blobs::IMMUTABLE,
            // A tag moves: caches have to ask each time, and are told "not modified" cheaply.
            Reference::Tag(_) => "private, no-cache",
        };
        set(&mut response, CACHE_CONTROL, lasts);
        Ok(response)
    }

    /// A manifest with its bytes. One that is large is sent in chunks, as blobs are, so that clients that take it slowly
    /// hold no memory.
    async fn manifest_body(&self, entry: &ManifestEntry, request: &Permitted) -> Result<Response, ApiError> {
        if entry.size <= LARGE {
            let bytes = self.store.read_manifest(entry).await?;
            return Ok(with_bytes(StatusCode::OK, entry.media_type.content_type(), bytes));
        }
        let mut response = empty(StatusCode::OK);
        *response.body_mut() = self.download(&entry.digest, (0, entry.size), request).await?;
        response.headers_mut().insert(CONTENT_LENGTH, entry.size.into());
        set(&mut response, CONTENT_TYPE, entry.media_type.content_type());
        Ok(response)
    }

    /// Reads the body of a push and the manifest that it is. One that is large is parsed on a blocking thread: the async
    /// threads serve others meanwhile.
    async fn receive_manifest(&self, request: &mut Permitted) -> Result<Received, ApiError> {
        let body = tokio::time::timeout(LONGEST_PUSH, self.receive_body(request));
        let body = body.await.map_err(|_| ApiError::Stalled)??;
        let content_type = content_type(request)?;
        let limit = self.manifest_descriptors;
        let parse = move |bytes: Bytes| {
            let parsed = Manifest::check_size(&bytes, limit)
                .and_then(|()| Manifest::parse_pushed(&bytes, content_type.as_ref()))
                .map_err(|error| ApiError::ManifestInvalid(error.to_string()));
            parsed.map(|manifest| (bytes, manifest))
        };
        let (parsed, place) = match body {
            ManifestBody::Small(bytes) => (parse(bytes), None),
            ManifestBody::Large(spool) => {
                let (parsed, place) = spool.parse(parse).await?;
                (parsed, Some(place))
            }
        };
        let (bytes, manifest) = parsed?;
        Ok(Received { bytes, manifest, _place: place })
    }

    /// Receives the body of a push. A client that sends slowly holds as much memory as a small manifest takes.
    async fn receive_body(&self, request: &mut Permitted) -> Result<ManifestBody, ApiError> {
        if request.body.announced().is_some_and(|length| length > LARGEST as u64) {
            return Err(ApiError::TooLarge(LARGEST));
        }
        let (mut small, mut spool, mut length): (_, Option<Spool>, _) = (Vec::new(), None, 0);
        while let Some(chunk) = request.body.chunk().await? {
            length += chunk.len();
            if length > LARGEST {
                return Err(ApiError::TooLarge(LARGEST));
            }
            if let Some(spool) = &mut spool {
                spool.write(&chunk).await?;
            } else if length as u64 <= LARGE {
                small.extend_from_slice(&chunk);
            } else {
                let mut begun = self.store.spool().await?;
                begun.write(&std::mem::take(&mut small)).await?;
                begun.write(&chunk).await?;
                spool = Some(begun);
            }
        }
        Ok(spool.map_or_else(|| ManifestBody::Small(small.into()), ManifestBody::Large))
    }

    pub(super) async fn put_manifest(
        &self,
        name: &RepositoryName,
        reference: Reference,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let Received { bytes, manifest, _place } = self.receive_manifest(request).await?;
        let (claimed, tags) = match &reference {
            Reference::Tag(tag) => (None, vec![tag.clone()]),
            Reference::Digest(digest) => (Some(digest.clone()), extra_tags(request)?),
        };
        let subject = manifest.subject().cloned();
        let digest = self.store.put_manifest(name, manifest, bytes, claimed, tags.clone()).await?;
        let mut response = empty(StatusCode::CREATED);
        let location = self.location(&format!("/v2/{name}/manifests/{digest}"), request);
        set(&mut response, LOCATION, &location);
        name_digest(&mut response, &digest);
        if let Some(subject) = subject {
            set(&mut response, OCI_SUBJECT, &subject.to_string());
        }
        if matches!(reference, Reference::Digest(_)) {
            for tag in tags {
                if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
                    response.headers_mut().append(OCI_TAG, tag);
                }
            }
        }
        let client = self.client(request);
        log::info!(
            client:% = client, repository = name.as_str(), user:% = request.permit.identity();
            "pushed {reference} of {name}"
        );
        Ok(response)
    }

    pub(super) async fn delete_manifest(
        &self,
        name: &RepositoryName,
        reference: Reference,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        self.check_delete()?;
        match &reference {
            Reference::Tag(tag) => self.store.delete_tag(name, tag).await?,
            Reference::Digest(digest) => self.store.delete_manifest(name, digest).await?,
        }
        let client = self.client(request);
        log::info!(
            client:% = client, repository = name.as_str(), user:% = request.permit.identity();
            "deleted {reference} of {name}"
        );
        Ok(empty(StatusCode::ACCEPTED))
    }
}

/// The body of a push.
enum ManifestBody {
    Small(Bytes),
    Large(Spool),
}

/// A manifest that has been received, with its place among the large ones, if it is one.
struct Received {
    bytes: Bytes,
    manifest: Manifest,
    _place: Option<LargePlace>,
}

/// Returns the media type that the request gives its body, without parameters.
fn content_type(request: &Permitted) -> Result<Option<MediaType>, ApiError> {
    let mut values = request.parts.headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::ManifestInvalid("there is more than one Content-Type".into()));
    }
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    let invalid = || ApiError::ManifestInvalid(format!("the Content-Type {value:?} is no media type"));
    parsed.map(Some).ok_or_else(invalid)
}

/// The tags that a manifest pushed by digest is to have ("Pushing Manifests with tags").
fn extra_tags(request: &Permitted) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in request.query.all("tag") {
        let tag = text.parse().map_err(|error: crate::oci::ParseTagError| {
            ApiError::TagInvalid(text.to_owned(), error.to_string())
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > MOST_TAGS {
            return Err(ApiError::Parameter(format!("one push may name {MOST_TAGS} tags")));
        }
    }
    Ok(tags)
}
