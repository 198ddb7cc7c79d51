//! Manifests: pulls, pushes and deletes ("Pulling manifests", "Pushing Manifests", "Deleting Manifests").
//!
//! A manifest above 64 KiB is received into a file and sent in chunks, so that slow clients hold little memory.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use http::{Method, StatusCode};

use super::Registry;
use super::headers::{IMMUTABLE, set, set_digest};
use crate::access::Action;
use crate::oci::{MAX_MANIFEST, Manifest, MediaType, ParseTagError, Reference, RepositoryName, Tag};
use crate::store::{Delete, LargePlace, ManifestEntry, ManifestPush, Spool, StoreError};
use crate::wire::{ApiError, Permitted, Response, conditional, empty, mark_as_download, with_bytes};

/// A manifest above this size is large, in bytes. Builders make smaller ones.
const LARGE: u64 = 64 << 10;
/// The longest time for receiving a manifest.
const MAX_PUSH_TIME: Duration = Duration::from_mins(2);
/// The most tags that one push may set.
const MAX_TAGS: usize = 100;
/// The maximum number of lines of `OCI-Tag` in an answer; with more tags, a line has several.
const TAG_LINES: usize = 50;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

impl Registry {
    /// Serves GET and HEAD of a manifest (end-3).
    pub(super) async fn get_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        // A client that may push skips the upload of a manifest that HEAD by digest finds, so this renews the lease.
        let (entry, may_skip_upload) = match reference {
            Reference::Digest(digest) if request.permit.may(Action::Push, name) => {
                (self.store.manifest_with_lease(name, digest).await?, true)
            }
            Reference::Tag(_) | Reference::Digest(_) => (self.store.manifest(name, reference)?, false),
        };
        // Other HEADs stay one lookup in the index: clients poll tags with them.
        let checks_file = may_skip_upload || self.store.is_known_damaged(&entry.digest);
        if request.parts.method == Method::HEAD
            && checks_file
            && !self.store.has_file(&entry.digest, entry.size).await?
        {
            return Err(StoreError::ManifestUnknown(reference.clone()).into());
        }
        if request.parts.method == Method::GET {
            self.store.note_pull(name, &entry.digest);
        }
        let mut response = if conditional::is_not_modified(&request.parts.headers, &entry.digest) {
            empty(StatusCode::NOT_MODIFIED)
        } else if request.parts.method == Method::HEAD {
            let mut response = empty(StatusCode::OK);
            response.headers_mut().insert(CONTENT_LENGTH, entry.size.into());
            set(&mut response, CONTENT_TYPE, entry.media_type.content_type());
            response
        } else {
            let response = self.manifest_body(&entry, request).await?;
            self.store.record_pull(name, reference, &entry, &self.origin(request));
            response
        };
        // A release that did not check media types may have stored one that browsers run.
        if !entry.media_type.is_for_manifests() {
            mark_as_download(response.headers_mut());
        }
        set_digest(&mut response, &entry.digest);
        set(&mut response, ETAG, &conditional::etag(&entry.digest));
        let caching = match reference {
            Reference::Digest(_) => IMMUTABLE,
            // A tag can move: caches have to revalidate, which costs a 304.
            Reference::Tag(_) => "private, no-cache",
        };
        set(&mut response, CACHE_CONTROL, caching);
        Ok(response)
    }

    /// Returns the response with a manifest's bytes. A large one is sent in chunks, like a blob, so that slow readers
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

    /// Receives and parses the body of a push. A large one is parsed on a blocking thread, so that the async threads
    /// stay free.
    async fn receive_manifest(&self, request: &mut Permitted) -> Result<Received, ApiError> {
        let body = tokio::time::timeout(MAX_PUSH_TIME, self.receive_body(request));
        let body = body.await.map_err(|_| ApiError::stalled())??;
        let content_type = content_type(request)?;
        let limit = self.manifest_descriptors;
        let parse = move |bytes: Bytes| {
            let parsed = Manifest::check_size(&bytes, limit)
                .and_then(|()| Manifest::parse_pushed(&bytes, content_type.as_ref()))
                .map_err(|error| ApiError::manifest_invalid(error.to_string()));
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

    /// Receives the body of a push: into memory up to 64 KiB, then into a file. A slow client holds no more memory than
    /// that.
    async fn receive_body(&self, request: &mut Permitted) -> Result<ManifestBody, ApiError> {
        if request.body.announced().is_some_and(|length| length > MAX_MANIFEST as u64) {
            return Err(ApiError::too_large(MAX_MANIFEST));
        }
        let (mut small, mut spool, mut length): (_, Option<Spool>, _) = (Vec::new(), None, 0);
        while let Some(chunk) = request.body.chunk().await? {
            length += chunk.len();
            if length > MAX_MANIFEST {
                return Err(ApiError::too_large(MAX_MANIFEST));
            }
            if let Some(spool) = &mut spool {
                spool.write(&chunk).await?;
            } else if length as u64 <= LARGE {
                small.extend_from_slice(&chunk);
            } else {
                let mut file = self.store.spool().await?;
                file.write(&std::mem::take(&mut small)).await?;
                file.write(&chunk).await?;
                spool = Some(file);
            }
        }
        Ok(spool.map_or_else(|| ManifestBody::Small(small.into()), ManifestBody::Large))
    }

    /// Stores a manifest (PUT, end-7). A push by digest can set tags with `tag=` ("Pushing Manifests with Tags").
    pub(super) async fn put_manifest(
        &self,
        name: &RepositoryName,
        reference: Reference,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let Received { bytes, manifest, _place } = self.receive_manifest(request).await?;
        self.check_still_may_push(name, request).await?;
        let (expected, tags) = match &reference {
            Reference::Tag(tag) => (None, vec![tag.clone()]),
            Reference::Digest(digest) => (Some(digest.clone()), query_tags(request)?),
        };
        let subject = manifest.subject().cloned();
        let push = ManifestPush {
            repository: name.clone(),
            manifest,
            bytes,
            claimed: expected,
            tags: tags.clone(),
            may_be_sparse: self.sparse,
            origin: self.origin(request),
        };
        let digest = self.store.put_manifest(push).await?;
        let mut response = empty(StatusCode::CREATED);
        let location = self.location(&format!("/v2/{name}/manifests/{digest}"));
        set(&mut response, LOCATION, &location);
        set_digest(&mut response, &digest);
        // Without it the client maintains the list under the fallback tag itself ("Pushing Manifests with Subject").
        if let Some(subject) = subject {
            set(&mut response, OCI_SUBJECT, &subject.to_string());
        }
        if matches!(reference, Reference::Digest(_)) {
            // Some clients refuse an answer of more than 100 header lines.
            let of_line = tags.len().div_ceil(TAG_LINES).max(1);
            for line in tags.chunks(of_line) {
                let line: Vec<&str> = line.iter().map(Tag::as_str).collect();
                if let Ok(line) = HeaderValue::from_str(&line.join(", ")) {
                    response.headers_mut().append(OCI_TAG, line);
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

    /// Deletes a tag, or a manifest with all its tags (DELETE, end-9).
    pub(super) async fn delete_manifest(
        &self,
        name: &RepositoryName,
        reference: Reference,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        self.check_delete()?;
        let (repository, origin) = (name.clone(), self.origin(request));
        match reference.clone() {
            Reference::Tag(tag) => self.store.delete_tag(Delete { repository, object: tag, origin }).await?,
            Reference::Digest(digest) => {
                self.store.delete_manifest(Delete { repository, object: digest, origin }).await?;
            }
        }
        let client = self.client(request);
        log::info!(
            client:% = client, repository = name.as_str(), user:% = request.permit.identity();
            "deleted {reference} of {name}"
        );
        Ok(empty(StatusCode::ACCEPTED))
    }
}

/// Body of a push: in memory, or in a file without a name.
enum ManifestBody {
    Small(Bytes),
    Large(Spool),
}

/// Manifest of a push.
struct Received {
    bytes: Bytes,
    manifest: Manifest,
    /// The place of a large manifest in memory, held until the push is committed.
    _place: Option<LargePlace>,
}

/// Returns the media type in `Content-Type`, without parameters; `None` if the header is missing.
fn content_type(request: &Permitted) -> Result<Option<MediaType>, ApiError> {
    let mut values = request.parts.headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::manifest_invalid(
            "the request has more than one Content-Type header; send one",
        ));
    }
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    let invalid = || ApiError::manifest_invalid(format!("the Content-Type {value:?} is not a media type"));
    parsed.map(Some).ok_or_else(invalid)
}

/// Returns the tags in the query of a push by digest, without duplicates.
fn query_tags(request: &Permitted) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in request.query.all("tag") {
        let tag =
            text.parse().map_err(|error: ParseTagError| ApiError::tag_invalid(text, &error.to_string()))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > MAX_TAGS {
            return Err(ApiError::parameter(format!(
                "a push can set at most {MAX_TAGS} tags; push the others by tag"
            )));
        }
    }
    Ok(tags)
}
