//! The local registry as the source of an export.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::super::failure::Failure;
use super::super::owner::{Answer, Event, RequestError, Session};
use super::forward::{Broken, forward};
use crate::control::{OpenTransfer, OpenedTransfer, TagItem, TransferPurpose};
use crate::oci::{
    Digest, Hasher, MAX_MANIFEST, MAX_REFERRERS, MediaType, RepositoryName, referrers_of_index,
};
use crate::transfer::Item;
use crate::transfer::export::{ExportError, Fetch, ManifestText, Registry, TagEntry};

/// Maximum length of a list of referrers, in bytes.
const MAX_LIST: usize = 32 << 20;
/// Digests in one request for the lease.
const PER_REQUEST: usize = 10_000;

/// A local registry, with the lease of an export.
pub(super) struct LocalRegistry<'a> {
    session: Session<'a>,
    /// The id of the transfer, once it is open.
    lease: Option<String>,
    leased: Vec<Item>,
}

impl<'a> LocalRegistry<'a> {
    pub(super) fn new(session: Session<'a>) -> Self {
        LocalRegistry { session, lease: None, leased: Vec::new() }
    }

    /// Opens a transfer whose lease holds off the collection from this content.
    pub(super) async fn lease(&mut self, contents: Vec<(Digest, u64)>) -> Result<(), Failure> {
        self.leased = contents.into_iter().map(|(digest, size)| Item { digest, size: Some(size) }).collect();
        self.renew_whole_lease().await.map_err(Failure::from)
    }

    async fn renew_whole_lease(&mut self) -> Result<(), RequestError> {
        let body = OpenTransfer { purpose: TransferPurpose::Export };
        let body = serde_json::to_vec(&body).map_err(|error| malformed(&error))?;
        let answer = self.session.send(Method::POST, "/_holdfast/v1/transfers", 0, body.into()).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal().await);
        }
        let bytes = answer.bytes(MAX_MANIFEST).await?.unwrap_or_default();
        let OpenedTransfer { id } = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
        self.lease = Some(id.clone());
        for part in self.leased.chunks(PER_REQUEST) {
            need(&mut self.session, &id, part).await?;
        }
        Ok(())
    }

    /// Renews the lease, which ends without requests. A registry that has restarted gets a new one.
    pub(super) async fn keep_lease(&mut self) {
        let Some(id) = &self.lease else { return };
        if need(&mut self.session, id, &[]).await.is_err() {
            // The next request for content reports a registry that is gone.
            let _ = self.renew_whole_lease().await;
        }
    }

    /// Ends the lease.
    pub(super) async fn end_lease(&mut self) {
        if let Some(id) = self.lease.take() {
            let path = format!("/_holdfast/v1/transfers/{id}");
            // Otherwise it ends by itself.
            if let Ok(answer) = self.session.send(Method::DELETE, &path, 0, Bytes::new()).await {
                let _ = answer.drain().await;
            }
        }
    }

    /// Returns true if the registry answers.
    pub(super) async fn is_there(&mut self) -> bool {
        match self.session.send(Method::GET, "/_holdfast/v1/status", 0, Bytes::new()).await {
            Ok(answer) if answer.status.is_success() => answer.drain().await.is_ok(),
            Ok(_) | Err(_) => false,
        }
    }

    /// Sends content to the writing thread, which checks its digest.
    pub(super) async fn send_content(&mut self, fetch: &Fetch, at: &mut u64) -> Result<(), Broken> {
        let mut refusal = None;
        for repository in &fetch.blob.repositories {
            let kind = if fetch.blob.is_manifest { "manifests" } else { "blobs" };
            let path = format!("/v2/{repository}/{kind}/{}", fetch.blob.digest);
            let answer = self.session.send(Method::GET, &path, *at, Bytes::new()).await?;
            if answer.status.is_success() {
                let start = if answer.status == StatusCode::PARTIAL_CONTENT { *at } else { 0 };
                return pass_on(answer, start, fetch, at).await;
            }
            refusal = Some(answer.status);
            answer.drain().await?;
        }
        // The name of the content is gone since the selection; the lease still has it.
        if let Some(id) = &self.lease {
            let path = format!("/_holdfast/v1/transfers/{id}/blobs/{}", fetch.blob.digest);
            let answer = self.session.send(Method::GET, &path, 0, Bytes::new()).await?;
            if answer.status.is_success() {
                return pass_on(answer, 0, fetch, at).await;
            }
            refusal = Some(answer.status);
            answer.drain().await?;
        }
        if *at == fetch.blob.size && *at > 0 {
            return Ok(());
        }
        Err(Broken::Unreadable(match refusal {
            Some(StatusCode::NOT_FOUND) | None => "the registry does not have it any more".into(),
            Some(status) => format!("the registry answers with {status}"),
        }))
    }
}

/// Adds content to a lease and renews it.
async fn need(session: &mut Session<'_>, id: &str, items: &[Item]) -> Result<(), RequestError> {
    let body = Item::lines(items).map_err(|error| malformed(&error))?;
    let path = format!("/_holdfast/v1/transfers/{id}/need");
    let answer = session.send(Method::POST, &path, 0, body.into()).await?;
    if answer.status.is_success() { answer.drain().await } else { Err(answer.refusal().await) }
}

fn malformed(error: &serde_json::Error) -> RequestError {
    RequestError::Failed(Failure::failed(format!("the registry is of another release ({error}); restart it")))
}

impl From<RequestError> for Broken {
    fn from(error: RequestError) -> Self {
        Broken::Connection(Failure::from(error).line)
    }
}

/// Forwards an answer that begins at a position.
async fn pass_on(mut answer: Answer, start: u64, fetch: &Fetch, at: &mut u64) -> Result<(), Broken> {
    forward(fetch, start, at, async || Ok(answer.chunk().await?)).await
}

fn failed(error: RequestError) -> ExportError {
    ExportError::Registry(Failure::from(error).line)
}

impl Registry for LocalRegistry<'_> {
    async fn tags(&mut self, repository: &str, tag: &str) -> Result<Vec<TagEntry>, ExportError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("repository", repository);
        if tag != "*" {
            query.append_pair("tag", tag);
        }
        let (mut tags, mut malformed) = (Vec::new(), None);
        let mut observe = |event| match event {
            Event::Item(item) => match entry(item) {
                Ok(entry) => tags.push(entry),
                Err(error) => malformed = Some(ExportError::Registry(error)),
            },
            Event::Progress(_) => {}
        };
        let path = format!("names?{}", query.finish());
        match self.session.stream(Method::GET, &path, &mut observe).await {
            Err(RequestError::Refused(detail)) if detail.code == "name_unknown" => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
            Ok(()) => malformed.map_or(Ok(tags), Err),
        }
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestText>, ExportError> {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let answer = self.session.send(Method::GET, &path, 0, Bytes::new()).await.map_err(failed)?;
        let media_type = answer.header("content-type").and_then(|text| text.parse::<MediaType>().ok());
        let status = answer.status;
        let unreadable = |why: &str| ExportError::Unreadable { digest: digest.clone(), why: why.into() };
        // Content that is damaged ends too early.
        let bytes = answer.bytes(MAX_MANIFEST).await.map_err(|_| unreadable("its content is not whole"))?;
        if !status.is_success() {
            let is_absent = status == StatusCode::NOT_FOUND;
            return if is_absent {
                Ok(None)
            } else {
                Err(unreadable(&format!("the registry answers with {status}")))
            };
        }
        let Some((bytes, media_type)) = bytes.zip(media_type) else { return Ok(None) };
        if Hasher::digest(digest.algorithm(), &bytes) != *digest {
            return Err(unreadable("its content does not match its digest"));
        }
        Ok(Some(ManifestText { media_type, bytes }))
    }

    async fn blob_size(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ExportError> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let answer = self.session.send(Method::HEAD, &path, 0, Bytes::new()).await.map_err(failed)?;
        let size = answer.length().filter(|_| answer.status.is_success());
        answer.drain().await.map_err(failed)?;
        Ok(size)
    }

    async fn referrers(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, ExportError> {
        let (mut found, mut last) = (Vec::new(), String::new());
        while found.len() < MAX_REFERRERS {
            let path = format!("/v2/{repository}/referrers/{digest}{last}");
            let answer = self.session.send(Method::GET, &path, 0, Bytes::new()).await.map_err(failed)?;
            let (is_there, has_more) = (answer.status.is_success(), answer.header("link").is_some());
            let bytes = answer.bytes(MAX_LIST).await.map_err(failed)?.unwrap_or_default();
            if !is_there {
                break;
            }
            let page = referrers_of_index(&bytes, MAX_REFERRERS);
            match page.keys().next_back() {
                // A page ends with its greatest digest.
                Some(digest) => last = format!("?last={digest}"),
                None => break,
            }
            found.extend(page.into_keys());
            if !has_more {
                break;
            }
        }
        Ok(found)
    }
}

fn entry(item: Value) -> Result<TagEntry, String> {
    let item: TagItem = serde_json::from_value(item).map_err(|error| error.to_string())?;
    Ok(TagEntry {
        repository: item
            .repository
            .parse()
            .map_err(|_| format!("{:?} is not a repository", item.repository))?,
        tag: item.tag.parse().map_err(|_| format!("{:?} is not a tag", item.tag))?,
        digest: item.digest.parse().map_err(|_| format!("{:?} is not a digest", item.digest))?,
        pushed: Some(item.pushed),
    })
}
