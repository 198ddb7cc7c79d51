//! Another registry as the sink of a transfer.
//!
//! Its content belongs to repositories, and it has no lease: content that no manifest names is for its own collection.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinError;

use super::super::questions::ask_all;
use super::super::remote::explain;
use super::remote_images::store_images;
use crate::client::{ClientError, Content, Mounted, RegistryClient, UploadError};
use crate::oci::{Digest, MAX_MANIFEST, Reference, RepositoryName};
use crate::transfer::{Chunks, ImageSet, ImagesAnswer, Item, Put, Sink, SinkError, Stored};

/// Attempts to reach a registry again, and the time between them.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);

/// A transfer into another registry.
pub(super) struct RemoteSink {
    client: Arc<RegistryClient>,
    /// The repository that was entered last.
    repository: Option<RepositoryName>,
    /// The repositories that have content, as far as this transfer knows.
    known: HashMap<Digest, BTreeSet<RepositoryName>>,
    /// True once the registry has accepted a request: a later refusal is that of one repository, or of another host that has
    /// a blob.
    is_accepted: bool,
}

/// The content of a transfer as that of a request.
struct ChunkContent(Chunks);

impl Content for ChunkContent {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.0.poll_next(context)
    }
}

impl RemoteSink {
    /// Opens a transfer. `repository` is that of content that comes before its name.
    pub(super) async fn open(
        client: RegistryClient,
        repository: Option<RepositoryName>,
    ) -> Result<Self, SinkError> {
        client.ping().await.map_err(|error| SinkError::Denied(explain(&error)))?;
        Ok(RemoteSink { client: Arc::new(client), repository, known: HashMap::new(), is_accepted: false })
    }

    fn repository(&self) -> Result<RepositoryName, SinkError> {
        self.repository.clone().ok_or_else(|| {
            SinkError::Denied(
                "a stream has its names at the end, and another registry takes content only into a repository; name it with \
                 --as REPOSITORY[:TAG], or store the archive uncompressed in a file"
                    .into(),
            )
        })
    }

    fn has(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.known.get(digest).is_some_and(|known| known.contains(repository))
    }

    fn note(&mut self, repository: &RepositoryName, digest: &Digest) {
        self.is_accepted = true;
        self.known.entry(digest.clone()).or_default().insert(repository.clone());
    }

    /// Returns the meaning of a failed request for the transfer.
    fn error(&self, error: &ClientError) -> SinkError {
        let text = explain(error);
        match error {
            _ if error.status() == Some(StatusCode::INSUFFICIENT_STORAGE) => SinkError::Full(text),
            _ if error.is_transient() => SinkError::Disconnected(text),
            ClientError::Unauthorized { .. } | ClientError::Egress(_) if self.is_accepted => {
                SinkError::Refused(text)
            }
            ClientError::Unauthorized { .. } | ClientError::Egress(_) => SinkError::Denied(text),
            ClientError::Status { .. } | ClientError::Answer(_) => SinkError::Refused(text),
        }
    }

    /// Adds the answer to a question.
    fn take(
        &mut self,
        repository: &RepositoryName,
        (item, found): (Item, Result<bool, ClientError>),
        missing: &mut Vec<Item>,
    ) -> Result<(), SinkError> {
        match found.map_err(|error| self.error(&error)) {
            Ok(true) => self.note(repository, &item.digest),
            Ok(false) => {
                self.is_accepted = true;
                missing.push(item);
            }
            // Sending it will be refused too, with the image.
            Err(SinkError::Refused(_)) => missing.push(item),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Mounts a blob that another repository has.
    async fn mount(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<Mounted, SinkError> {
        let Some(from) = self.known.get(digest).and_then(|known| known.first().cloned()) else {
            return Ok(Mounted::Refused);
        };
        let mounted =
            self.client.mount(repository, digest, &from).await.map_err(|error| self.error(&error))?;
        if matches!(mounted, Mounted::Done) {
            self.note(repository, digest);
        }
        Ok(mounted)
    }

    async fn upload(
        &mut self,
        repository: &RepositoryName,
        content: Chunks,
        (digest, size): (Option<&Digest>, Option<u64>),
    ) -> Result<Stored, SinkError> {
        let session = match digest {
            Some(digest) => match self.mount(repository, digest).await? {
                Mounted::Done => {
                    return Ok(Stored { digest: digest.clone(), size: size.unwrap_or(0), present: true });
                }
                Mounted::Upload(session) => Some(session),
                Mounted::Refused => None,
            },
            None => None,
        };
        let mut content = ChunkContent(content);
        match self.client.upload(repository, session, (digest, size), &mut content).await {
            Ok(uploaded) => {
                let present = self.has(repository, &uploaded.digest);
                self.note(repository, &uploaded.digest);
                Ok(Stored { digest: uploaded.digest, size: uploaded.size, present })
            }
            Err(UploadError::Content(reason)) => Err(SinkError::Refused(reason)),
            Err(UploadError::Client(error)) => Err(self.error(&error)),
        }
    }
}

/// Asks whether a repository has content. An item without a size may be a manifest.
async fn is_there(
    client: &RegistryClient,
    repository: &RepositoryName,
    item: &Item,
) -> Result<bool, ClientError> {
    if client.blob_size(repository, &item.digest).await?.is_some() {
        return Ok(true);
    }
    let reference = Reference::Digest(item.digest.clone());
    Ok(item.size.is_none() && client.head_manifest(repository, &reference).await?.is_some())
}

impl Sink for RemoteSink {
    fn is_by_repository(&self) -> bool {
        true
    }

    fn enter(&mut self, repository: &RepositoryName) {
        self.repository = Some(repository.clone());
    }

    async fn need(&mut self, items: &[Item]) -> Result<Vec<Item>, SinkError> {
        // The import asks for nothing to keep a lease, before it knows any repository.
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let repository = self.repository()?;
        let unknown: Vec<Item> =
            items.iter().filter(|item| !self.has(&repository, &item.digest)).cloned().collect();
        let client = Arc::clone(&self.client);
        let questions = unknown.into_iter().map(|item| {
            let (client, repository) = (Arc::clone(&client), repository.clone());
            async move {
                let found = is_there(&client, &repository, &item).await;
                (item, found)
            }
        });
        let mut absent = Vec::new();
        let take =
            |answer: Result<_, JoinError>| self.take(&repository, answer.map_err(stopped)?, &mut absent);
        ask_all(questions, take).await?;
        let mut missing = Vec::new();
        for item in absent {
            match self.mount(&repository, &item.digest).await? {
                Mounted::Done => continue,
                Mounted::Upload(session) => self.client.abandon_upload(&repository, &session).await,
                Mounted::Refused => {}
            }
            missing.push(item);
        }
        Ok(missing)
    }

    async fn put(&mut self, item: &Item, content: Chunks) -> Result<Put, SinkError> {
        let repository = self.repository()?;
        if self.has(&repository, &item.digest) {
            return Ok(Put::Present(None));
        }
        match self.upload(&repository, content, (Some(&item.digest), item.size)).await {
            Ok(stored) if stored.present => Ok(Put::Present(Some(stored.size))),
            Ok(_) => Ok(Put::Stored),
            Err(SinkError::Refused(reason)) => Ok(Put::Refused(reason)),
            Err(error) => Err(error),
        }
    }

    async fn post(&mut self, content: Chunks) -> Result<Stored, SinkError> {
        let repository = self.repository()?;
        self.upload(&repository, content, (None, None)).await
    }

    async fn read(&mut self, digest: &Digest) -> Result<Option<Bytes>, SinkError> {
        let repository = self.repository()?;
        let read = async {
            if let Some(bytes) = self.client.small_blob(&repository, digest, MAX_MANIFEST).await? {
                return Ok(Some(bytes));
            }
            let manifest = self.client.manifest(&repository, &Reference::Digest(digest.clone())).await?;
            Ok(manifest.map(|manifest| manifest.bytes))
        };
        read.await.map_err(|error| self.error(&error))
    }

    /// Another registry knows no content lists; `--signers` checks them in this process.
    async fn export(&mut self, _: &str, _: Option<&str>) -> Result<Option<String>, SinkError> {
        Ok(None)
    }

    async fn tagged(&mut self, repository: &str, tag: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        let (Ok(repository), Ok(tag)) = (repository.parse(), tag.parse()) else { return Ok(None) };
        let read = self.client.manifest(&repository, &Reference::Tag(tag)).await;
        match read.map_err(|error| self.error(&error)) {
            Ok(manifest) => Ok(manifest.map(|manifest| (manifest.digest, manifest.bytes))),
            Err(SinkError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        let mut attempt = 1;
        loop {
            match self.client.ping().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    async fn images(&mut self, set: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        if set.dry_run.is_some() {
            return Err(SinkError::Refused("another registry does not tell outcomes in advance".into()));
        }
        let repository: RepositoryName = set
            .repository
            .parse()
            .map_err(|error| SinkError::Refused(format!("{}: {error}", set.repository)))?;
        self.enter(&repository);
        let mut texts = HashMap::new();
        for manifest in set.manifests.iter().filter(|manifest| manifest.data.is_none()) {
            let text = self.read(&manifest.digest).await?;
            let lost = || SinkError::Refused(format!("manifest {} is missing", manifest.digest));
            texts.insert(manifest.digest.clone(), text.ok_or_else(lost)?);
        }
        let client = Arc::clone(&self.client);
        store_images(&client, &repository, set, texts).await.map_err(|error| self.error(&error))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
fn stopped(error: JoinError) -> SinkError {
    SinkError::Denied(format!("a question to the registry has stopped: {error}"))
}
