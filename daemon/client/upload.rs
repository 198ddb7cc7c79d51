//! Uploads: a session (POST), one stream (PATCH), the commit (PUT). A stream that breaks is continued where the registry has
//! it, as far as the last bytes are still in memory.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::error::{ClientError, refusal};
use super::registry::{Call, RegistryClient};
use super::scope::Scope;
use super::window::Window;
use crate::egress::{Backoff, EgressError, Request, Response, Target};
use crate::oci::{Algorithm, Digest, Hasher, MediaType, RepositoryName};

/// Time in which a registry reads the next bytes, and in which it answers after the last ones: it may have to copy and sync.
const STALL: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_mins(5);

/// Content on its way to a registry.
pub trait Content: Send {
    /// Polls for the next bytes; `None` at the end. An error means that the content is incomplete.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;
}

/// Content that a registry has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Reason why an upload failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The content is incomplete, or does not match its digest. The registry does not have it.
    #[error("{0}")]
    Content(String),
    /// The registry failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<EgressError> for UploadError {
    fn from(error: EgressError) -> Self {
        UploadError::Client(error.into())
    }
}

/// An upload in work.
struct Upload<'a> {
    client: &'a RegistryClient,
    repository: &'a RepositoryName,
    scope: Scope,
    /// The URL of the session, which each answer may change.
    location: Target,
    size: Option<u64>,
    hasher: Hasher,
    window: Window,
    /// True once the content has been read to its end.
    is_ended: bool,
}

impl RegistryClient {
    /// Uploads content. `session` is an upload that was begun by a mount.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn upload(
        &self,
        repository: &RepositoryName,
        session: Option<Target>,
        (expected, size): (Option<&Digest>, Option<u64>),
        content: &mut dyn Content,
    ) -> Result<Uploaded, UploadError> {
        let location = match session {
            Some(location) => location,
            None => self.begin_upload(repository).await?,
        };
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let scope = Scope::push(repository);
        let (hasher, window) = (Hasher::new(algorithm), Window::default());
        let mut upload =
            Upload { client: self, repository, scope, location, size, hasher, window, is_ended: false };
        let sent = upload.send(content).await;
        let size = upload.window.end();
        let digest = upload.hasher.clone().finish();
        let mismatch = || {
            let text = format!("the content has the digest {digest}, not {}", expected.unwrap_or(&digest));
            Err(UploadError::Content(text))
        };
        match sent {
            Ok(()) if expected.is_some_and(|expected| *expected != digest) => {
                self.cancel_upload(&upload.location, &upload.scope).await;
                mismatch()
            }
            Ok(()) => {
                upload.commit(&digest).await?;
                Ok(Uploaded { digest, size })
            }
            Err(error) => {
                // A registry that is gone would only be waited for.
                if !matches!(&error, UploadError::Client(error) if error.is_transient()) {
                    self.cancel_upload(&upload.location, &upload.scope).await;
                }
                Err(error)
            }
        }
    }

    /// Begins an upload; returns its URL.
    async fn begin_upload(&self, repository: &RepositoryName) -> Result<Target, ClientError> {
        let target = self.target(format!("/v2/{repository}/blobs/uploads/"));
        let response = self.call(&Call::new(Method::POST, target.clone(), Scope::push(repository))).await?;
        if response.status != StatusCode::ACCEPTED {
            return Err(refusal(format!("upload to {repository}"), response).await);
        }
        let location = next_location(&target, &response)?;
        response.drain().await?;
        location.ok_or_else(|| {
            ClientError::Answer(format!("upload to {repository}: the registry names no Location"))
        })
    }

    /// Cancels an upload, as far as the registry permits it. It expires there otherwise.
    pub async fn abandon_upload(&self, repository: &RepositoryName, location: &Target) {
        self.cancel_upload(location, &Scope::push(repository)).await;
    }

    async fn cancel_upload(&self, location: &Target, scope: &Scope) {
        // Once: nothing depends on it, so that it is not worth a wait.
        let call = Call::new(Method::DELETE, location.clone(), scope.clone());
        if let Ok(response) = self.authorized(&call).await {
            let _ = response.drain().await;
        }
    }
}

/// Returns the URL at which an upload continues; `None` if the answer does not change it.
fn next_location(target: &Target, response: &Response) -> Result<Option<Target>, ClientError> {
    let Some(location) = response.header(LOCATION.as_str()) else { return Ok(None) };
    let next = target.join(location);
    next.map(Some).map_err(|reason| {
        ClientError::Answer(format!(
            "{target}: the upload cannot be continued at the Location of the registry: {reason}"
        ))
    })
}

impl Upload<'_> {
    /// Sends all content; continues after failures that pass.
    async fn send(&mut self, content: &mut dyn Content) -> Result<(), UploadError> {
        let (mut offset, mut furthest, mut backoff) = (0, 0, Backoff::default());
        loop {
            let error = match self.patch(content, offset).await {
                Err(UploadError::Client(error)) => error,
                ended => return ended,
            };
            let is_resumable = error.is_transient()
                || matches!(
                    error.status(),
                    Some(StatusCode::UNAUTHORIZED | StatusCode::RANGE_NOT_SATISFIABLE)
                );
            if !is_resumable {
                return Err(error.into());
            }
            let Some(pause) = backoff.after_failure() else { return Err(error.into()) };
            tokio::time::sleep(pause).await;
            offset = self.find_offset(error).await?;
            if self.is_ended && offset == self.window.end() {
                return Ok(());
            }
            if offset > furthest {
                (furthest, backoff) = (offset, Backoff::default());
            }
        }
    }

    /// Asks how much the registry has; begins a new session if it has lost this one and all bytes are still in memory.
    async fn find_offset(&mut self, error: ClientError) -> Result<u64, UploadError> {
        let call = Call::new(Method::GET, self.location.clone(), self.scope.clone());
        let response = self.client.call(&call).await?;
        let offset = if response.status.is_success() {
            let length = response.header(RANGE.as_str()).and_then(length_of).unwrap_or(0);
            if let Some(location) = next_location(&self.location, &response)? {
                self.location = location;
            }
            response.drain().await?;
            length
        } else {
            response.drain().await?;
            if self.window.from(0).is_none() {
                return Err(error.into());
            }
            self.location = self.client.begin_upload(self.repository).await?;
            0
        };
        // Otherwise the caller has to begin again.
        if self.window.from(offset).is_some() { Ok(offset) } else { Err(error.into()) }
    }

    /// Sends the content from a position on, in one request.
    async fn patch(&mut self, content: &mut dyn Content, offset: u64) -> Result<(), UploadError> {
        let Upload { client, scope, location, size, hasher, window, is_ended, .. } = self;
        let (sender, receiver) = mpsc::channel(1);
        let place = location.clone();
        let feed = Feed { content, window, hasher, is_ended, size: *size, sender, place };
        if *size == Some(0) {
            drop(receiver);
            return feed.expect_end().await;
        }
        let request = request(location, *size, offset)?;
        let body = ChannelBody { receiver, rest: size.map(|size| size.saturating_sub(offset)) };
        let mut sending = pin!(client.send_stream(request, scope, body.boxed_unsync()));
        let mut feeding = pin!(feed.run(offset));
        let (answer, taken) = tokio::select! {
            answer = &mut sending => (answer, None),
            taken = &mut feeding => {
                let taken = taken?;
                match tokio::time::timeout(ANSWER, &mut sending).await {
                    Ok(answer) => (answer, Some(taken)),
                    Err(_) => return Err(broken(location, "it does not answer after the last byte").into()),
                }
            }
        };
        let response = answer?;
        if !response.status.is_success() {
            return Err(refusal(location.to_string(), response).await.into());
        }
        // The answer may come before the end of the content has been noticed here.
        let is_whole = match taken {
            Some(taken) => taken,
            None => feeding.await?,
        };
        if !is_whole {
            return Err(broken(location, "it answered before the last byte").into());
        }
        if let Some(next) = next_location(location, &response)? {
            *location = next;
        }
        Ok(response.drain().await?)
    }

    /// Makes a blob of the upload.
    async fn commit(&self, digest: &Digest) -> Result<(), UploadError> {
        let target = self.location.with_parameter("digest", &digest.to_string());
        let mut call = Call::new(Method::PUT, target, self.scope.clone());
        call.patience = Some(ANSWER);
        let response = self.client.call(&call).await?;
        if response.status.is_success() {
            return Ok(response.drain().await?);
        }
        // A commit whose answer was lost has ended the session.
        let may_be_there = response.status == StatusCode::NOT_FOUND;
        let error = refusal(format!("{}@{digest}", self.repository), response).await;
        if may_be_there && self.client.blob_size(self.repository, digest).await?.is_some() {
            return Ok(());
        }
        Err(error.into())
    }
}

fn request(location: &Target, size: Option<u64>, offset: u64) -> Result<Request, ClientError> {
    let mut request = Request::new(Method::PATCH, location.clone());
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MediaType::BYTES));
    if let Some(size) = size.filter(|_| offset > 0) {
        let range = HeaderValue::try_from(format!("{offset}-{}", size.saturating_sub(1)));
        let range = range.map_err(|error| ClientError::Answer(error.to_string()))?;
        request.headers.insert(CONTENT_RANGE, range);
    }
    Ok(request)
}

fn broken(location: &Target, reason: &str) -> ClientError {
    EgressError::Broken { host: location.origin.authority(), reason: reason.into() }.into()
}

/// Returns the length of an upload by its `Range`, `0-LAST`. That of an empty one is `0-0`.
fn length_of(range: &str) -> Option<u64> {
    let last: u64 =
        range.trim().strip_prefix("bytes=").unwrap_or(range).split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last.saturating_add(1) })
}

/// The way of content into the body of a request.
struct Feed<'a> {
    content: &'a mut dyn Content,
    window: &'a mut Window,
    hasher: &'a mut Hasher,
    is_ended: &'a mut bool,
    size: Option<u64>,
    sender: mpsc::Sender<Bytes>,
    /// The URL of the upload.
    place: Target,
}

impl Feed<'_> {
    /// Feeds the body from a position on; returns true if it took everything.
    async fn run(mut self, offset: u64) -> Result<bool, UploadError> {
        for chunk in self.window.from(offset).unwrap_or_default() {
            if !self.pass(chunk).await? {
                return Ok(false);
            }
        }
        while let Some(chunk) = self.next().await? {
            if !self.pass(chunk).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads content that has to be empty.
    async fn expect_end(mut self) -> Result<(), UploadError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Takes the next bytes of the content.
    async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        let next = std::future::poll_fn(|context| self.content.poll_next(context)).await;
        let next = next.transpose().map_err(|error| UploadError::Content(error.to_string()))?;
        if let Some(chunk) = &next {
            self.hasher.update(chunk);
            self.window.push(chunk.clone());
        }
        let (read, is_end) = (self.window.end(), next.is_none());
        *self.is_ended = is_end;
        match self.size {
            Some(size) if read > size || is_end && read < size => {
                Err(UploadError::Content(format!("the content does not have the expected {size} bytes")))
            }
            Some(_) | None => Ok(next),
        }
    }

    /// Passes bytes on; returns false if the request has ended.
    async fn pass(&mut self, chunk: Bytes) -> Result<bool, UploadError> {
        match tokio::time::timeout(STALL, self.sender.send(chunk)).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => Err(broken(&self.place, "it reads no more bytes").into()),
        }
    }
}

/// Bytes from a channel as the body of a request.
struct ChannelBody {
    receiver: mpsc::Receiver<Bytes>,
    /// Bytes that are still to come, if their number is known.
    rest: Option<u64>,
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = std::task::ready!(self.receiver.poll_recv(context));
        Poll::Ready(next.map(|bytes| {
            self.rest = self.rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
            Ok(Frame::data(bytes))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_from_ranges() {
        assert_eq!(
            (length_of("0-0"), length_of("0-99"), length_of("bytes=0-9")),
            (Some(0), Some(100), Some(10))
        );
        assert_eq!((length_of(""), length_of("0"), length_of("0-x")), (None, None, None));
    }
}
