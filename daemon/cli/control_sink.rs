//! The local registry as the sink of a transfer, over the local API.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::owner::{Client, Event, INTERRUPTED, RequestError};
use crate::control::{ExportAnswer, ExportRequest, OpenTransfer, OpenedTransfer, TransferPurpose};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::transfer::{Chunks, ImageSet, ImagesAnswer, Item, Put, Sink, SinkError, Stored};

/// Attempts to reach a daemon that restarts, and the time between them.
const ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// A transfer into the local registry.
pub(super) struct ControlSink<'a> {
    client: &'a mut Client,
    purpose: TransferPurpose,
    id: String,
    /// True if content is sent to its end although the registry has it.
    sends_all: bool,
}

impl<'a> ControlSink<'a> {
    /// Opens a transfer.
    pub(super) async fn open(client: &'a mut Client, purpose: TransferPurpose) -> Result<Self, SinkError> {
        let mut sink = ControlSink { client, purpose, id: String::new(), sends_all: false };
        sink.id = sink.new_id().await?;
        Ok(sink)
    }

    /// Sends content to its end although the registry has it, so that its digest is checked.
    pub(super) fn sending_all(self) -> Self {
        ControlSink { sends_all: true, ..self }
    }

    /// Returns the id of the transfer.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    async fn new_id(&mut self) -> Result<String, SinkError> {
        let body = OpenTransfer { purpose: self.purpose };
        let answer = self.client.request(Method::POST, "transfers", Some(&body)).await.map_err(error)?;
        Ok(parse::<OpenedTransfer>(answer)?.id)
    }

    fn path(&self, rest: &str) -> String {
        format!("transfers/{}{rest}", self.id)
    }

    /// Ends the transfer.
    pub(super) async fn close(self) {
        let path = self.path("");
        // It ends by itself after a while.
        let _ = self.client.request(Method::DELETE, &path, None::<&()>).await;
    }
}

impl Sink for ControlSink<'_> {
    async fn need(&mut self, items: &[Item]) -> Result<Vec<Item>, SinkError> {
        let body = Item::lines(items).map_err(other)?;
        let (mut missing, mut failed) = (Vec::new(), None);
        let mut observe = |event| match event {
            Event::Item(item) => match serde_json::from_value(item) {
                Ok(item) => missing.push(item),
                Err(error) => failed = Some(other(error)),
            },
            Event::Progress(_) => {}
        };
        let path = self.path("/need");
        self.client.stream_text(Method::POST, &path, body.into(), &mut observe).await.map_err(error)?;
        failed.map_or(Ok(missing), Err)
    }

    async fn put(&mut self, item: &Item, content: Chunks) -> Result<Put, SinkError> {
        let query = if self.sends_all { "?read=all" } else { "" };
        let path = self.path(&format!("/blobs/{}{query}", item.digest));
        match self.client.upload(Method::PUT, &path, item.size, content).await {
            Ok(answer) => {
                let Stored { size, present, .. } = parse(answer)?;
                Ok(if present { Put::Present(Some(size)) } else { Put::Stored })
            }
            Err(failed) => match error(failed) {
                SinkError::Refused(reason) => Ok(Put::Refused(reason)),
                error => Err(error),
            },
        }
    }

    async fn post(&mut self, content: Chunks) -> Result<Stored, SinkError> {
        let path = self.path("/blobs");
        parse(self.client.upload(Method::POST, &path, None, content).await.map_err(error)?)
    }

    async fn read(&mut self, digest: &Digest) -> Result<Option<Bytes>, SinkError> {
        let path = self.path(&format!("/blobs/{digest}"));
        self.client.bytes(&path).await.map(Some).map_err(error)
    }

    async fn export(&mut self, content: &str, signature: Option<&str>) -> Result<Option<String>, SinkError> {
        let body = ExportRequest { content: content.to_owned(), signature: signature.map(str::to_owned) };
        let path = self.path("/export");
        let answer = self.client.request(Method::PUT, &path, Some(&body)).await.map_err(error)?;
        Ok(parse::<ExportAnswer>(answer)?.signer)
    }

    async fn tagged(&mut self, repository: &str, tag: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        match self.client.registry_bytes(&path).await {
            Ok(bytes) => Ok(Some((Hasher::digest(Algorithm::Sha256, &bytes), bytes))),
            Err(RequestError::Refused(_)) => Ok(None),
            Err(failed) => Err(error(failed)),
        }
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        let mut attempt = 1;
        loop {
            match self.new_id().await {
                Ok(id) => {
                    self.id = id;
                    return Ok(());
                }
                Err(SinkError::Disconnected(_)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn images(&mut self, set: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        let path = self.path("/images");
        parse(self.client.request(Method::POST, &path, Some(set)).await.map_err(error)?)
    }
}

fn parse<T: DeserializeOwned>(answer: Value) -> Result<T, SinkError> {
    serde_json::from_value(answer).map_err(other)
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
fn other(error: serde_json::Error) -> SinkError {
    SinkError::Denied(format!("the registry is of another release ({error}); restart it"))
}

fn error(error: RequestError) -> SinkError {
    match error {
        RequestError::Failed(failure) if failure.code == INTERRUPTED => SinkError::Interrupted,
        RequestError::Failed(failure) => SinkError::Disconnected(failure.line),
        RequestError::Refused(detail) => {
            let text = match detail.hint {
                Some(hint) => format!("{}; {hint}", detail.message),
                None => detail.message,
            };
            match detail.code.as_str() {
                "full" => SinkError::Full(text),
                "transfer_unknown" => SinkError::Disconnected(text),
                "unsigned" | "bad_signature" | "read_only" | "busy" => SinkError::Denied(text),
                _ => SinkError::Refused(text),
            }
        }
    }
}
