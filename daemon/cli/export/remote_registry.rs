//! Another registry as the source of an export.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use tokio::task::JoinError;

use super::super::questions::ask_all;
use super::super::remote::explain;
use super::forward::{Broken, forward};
use crate::client::{ClientError, RegistryClient};
use crate::egress::EgressError;
use crate::oci::{Digest, Pattern, Reference, RepositoryName, Tag};
use crate::transfer::export::{ExportError, Fetch, ManifestText, Registry, TagEntry};

/// Another registry.
pub(super) struct RemoteRegistry {
    client: Arc<RegistryClient>,
    /// The tags of repositories that were listed.
    listed: BTreeMap<RepositoryName, Vec<Tag>>,
}

impl RemoteRegistry {
    /// Connects to a registry.
    pub(super) async fn open(client: RegistryClient) -> Result<Self, ClientError> {
        client.ping().await?;
        Ok(RemoteRegistry { client: Arc::new(client), listed: BTreeMap::new() })
    }

    /// Returns true if the registry answers.
    pub(super) async fn is_there(&self) -> bool {
        self.client.ping().await.is_ok()
    }

    /// Sends content to the writing thread, which checks its digest.
    pub(super) async fn send_content(&self, fetch: &Fetch, at: &mut u64) -> Result<(), Broken> {
        let mut refusal = "the registry does not have it any more".to_owned();
        let digest = &fetch.blob.digest;
        for repository in &fetch.blob.repositories {
            if fetch.blob.is_manifest {
                let read = self.client.manifest(repository, &Reference::Digest(digest.clone())).await;
                if let Some(manifest) = read.map_err(broken)? {
                    let mut whole = Some(manifest.bytes);
                    return forward(fetch, 0, at, async || Ok(whole.take())).await;
                }
                continue;
            }
            match self.client.blob(repository, digest, *at).await {
                Ok(Some(mut content)) => {
                    let start = content.start;
                    return forward(fetch, start, at, async || content.chunk().await.map_err(broken)).await;
                }
                Ok(None) => {}
                Err(error) if error.is_transient() => return Err(broken(error)),
                Err(error) => refusal = explain(&error),
            }
        }
        if *at == fetch.blob.size && *at > 0 {
            return Ok(());
        }
        Err(Broken::Unreadable(refusal))
    }

    /// Returns the repositories that match a pattern.
    async fn repositories(&self, pattern: &str) -> Result<Vec<RepositoryName>, ExportError> {
        if !pattern.contains('*') {
            return Ok(pattern.parse().into_iter().collect());
        }
        let Some(all) = self.client.repositories().await.map_err(failed)? else {
            let host = self.client.host();
            return Err(ExportError::Registry(format!(
                "{host} does not list its repositories; name each one, without * and --all"
            )));
        };
        let pattern = Pattern::from(pattern.to_owned());
        Ok(all.into_iter().filter(|name| pattern.matches(name.as_str())).collect())
    }

    /// Returns the tags of a repository that match a pattern. A tag without a `*` is not looked up here.
    async fn matching(
        &mut self,
        repository: &RepositoryName,
        pattern: &str,
    ) -> Result<Vec<Tag>, ExportError> {
        if !pattern.contains('*') {
            return Ok(pattern.parse().into_iter().collect());
        }
        if !self.listed.contains_key(repository) {
            let tags = match self.client.tags(repository).await {
                Ok(tags) => tags.unwrap_or_default(),
                // A name without patterns needs the list only for signatures.
                Err(error) if is_refusal(&error) && is_attachment(pattern) => {
                    log::warn!("{error}; signatures under tags such as sha256-HEX.sig are not exported");
                    Vec::new()
                }
                Err(error) => return Err(failed(error)),
            };
            self.listed.insert(repository.clone(), tags);
        }
        let pattern = Pattern::from(pattern.to_owned());
        let all = self.listed.get(repository).into_iter().flatten();
        Ok(all.filter(|tag| pattern.matches(tag.as_str())).cloned().collect())
    }
}

/// Returns true if the registry does not want to answer, now or later.
fn is_refusal(error: &ClientError) -> bool {
    match error {
        ClientError::Unauthorized { .. } => true,
        ClientError::Status { status, .. } => status.is_client_error(),
        ClientError::Egress(_) | ClientError::Answer(_) => false,
    }
}

/// Returns true for an error of one manifest: others may still be read.
fn concerns_only_the_content(error: &ClientError) -> bool {
    match error {
        ClientError::Answer(_) | ClientError::Egress(EgressError::Protocol { .. }) => true,
        ClientError::Status { status, .. } => {
            status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS
        }
        ClientError::Unauthorized { .. } | ClientError::Egress(_) => false,
    }
}

/// Returns true for the patterns of tags that attach content to an image.
fn is_attachment(pattern: &str) -> bool {
    pattern.starts_with("sha256-") || pattern.starts_with("sha512-")
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
fn failed(error: ClientError) -> ExportError {
    ExportError::Registry(explain(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
fn broken(error: ClientError) -> Broken {
    let text = explain(&error);
    if error.is_transient() { Broken::Connection(text) } else { Broken::Unreadable(text) }
}

/// A tag whose digest was asked for.
type Answer = (RepositoryName, Tag, Result<Option<Digest>, ClientError>);

/// Adds a tag to a list. One that is listed but names nothing is passed over.
fn take(answer: Result<Answer, JoinError>, found: &mut Vec<TagEntry>) -> Result<(), ExportError> {
    let (repository, tag, digest) = answer.map_err(|error| ExportError::Registry(error.to_string()))?;
    if let Some(digest) = digest.map_err(failed)? {
        // Registries do not say when a tag was pushed.
        found.push(TagEntry { repository, tag, digest, pushed: None });
    }
    Ok(())
}

impl Registry for RemoteRegistry {
    async fn tags(&mut self, repository: &str, tag: &str) -> Result<Vec<TagEntry>, ExportError> {
        let mut names = Vec::new();
        for repository in self.repositories(repository).await? {
            let tags = self.matching(&repository, tag).await?;
            names.extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
        }
        let questions = names.into_iter().map(|(repository, tag)| {
            let client = Arc::clone(&self.client);
            async move {
                let head = client.head_manifest(&repository, &Reference::Tag(tag.clone())).await;
                (repository, tag, head.map(|head| head.map(|head| head.digest)))
            }
        });
        let mut found = Vec::new();
        ask_all(questions, |answer| take(answer, &mut found)).await?;
        Ok(found)
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestText>, ExportError> {
        match self.client.manifest(repository, &Reference::Digest(digest.clone())).await {
            Ok(manifest) => Ok(manifest
                .map(|manifest| ManifestText { media_type: manifest.media_type, bytes: manifest.bytes })),
            // Its images are left out, and the others follow.
            Err(error) if concerns_only_the_content(&error) => {
                Err(ExportError::Unreadable { digest: digest.clone(), why: explain(&error) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn blob_size(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ExportError> {
        self.client.blob_size(repository, digest).await.map_err(failed)
    }

    async fn referrers(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, ExportError> {
        let found = self.client.referrers(repository, digest).await.map_err(failed)?;
        Ok(found.into_iter().collect())
    }
}
