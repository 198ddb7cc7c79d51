//! Requests whose answers are read as they come: content of the registry and long texts.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::super::exchange::{Sender, TransportError, whole_body};
use super::{Client, Detail, Event, Failure, Link, RequestError};
use crate::server::OWN_AGENT;

/// A connection that carries one request after the other.
pub(in crate::cli) struct Session<'a> {
    client: &'a mut Client,
    kept: Option<Sender>,
}

/// The head of an answer, and its body.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl<'a> Session<'a> {
    pub(in crate::cli) fn new(client: &'a mut Client) -> Self {
        Session { client, kept: None }
    }

    /// Sends a request to an absolute path, such as `/v2/`, and returns its answer before the body. The body has to be read to
    /// its end, or [drained](Answer::drain), before the next request.
    pub(in crate::cli) async fn send(
        &mut self,
        method: Method,
        path: &str,
        offset: u64,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        let request = || {
            let mut request = http::Request::builder()
                .method(method.clone())
                .uri(path)
                .header(HOST, "localhost")
                .header(USER_AGENT, OWN_AGENT)
                .header(CONTENT_TYPE, "application/json");
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            request.body(whole_body(body.clone())).map_err(TransportError::from)
        };
        // The daemon closes a connection that was idle for long.
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request()?).await
        {
            self.kept = Some(sender);
            return Ok(Answer::from(response));
        }
        let mut sender = self.client.link.sender().await?;
        let sent = async {
            sender.ready().await?;
            Ok::<_, TransportError>(sender.send_request(request()?).await?)
        };
        let sent = sent.await;
        match &self.client.link {
            Link::Daemon(_) | Link::Memory(_) | Link::Process(..) => self.kept = Some(sender),
            Link::Child(..) => self.client.link.keep(sender),
        }
        Ok(Answer::from(sent?))
    }

    /// Sends a request that answers with a stream of events.
    pub(in crate::cli) async fn stream(
        &mut self,
        method: Method,
        path: &str,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), RequestError> {
        self.client.stream(method, path, None::<&()>, observe).await.map(drop)
    }
}

impl From<http::Response<Incoming>> for Answer {
    fn from(response: http::Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    /// Returns the length of the content, if the answer states it.
    pub(in crate::cli) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Returns the text of a header.
    pub(in crate::cli) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the next bytes; `None` at the end.
    pub(in crate::cli) async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(TransportError::from)?;
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads the whole body; `None` if it is longer than `limit`.
    pub(in crate::cli) async fn bytes(mut self, limit: usize) -> Result<Option<Bytes>, RequestError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if whole.len() <= limit {
                whole.extend_from_slice(&bytes);
            }
        }
        Ok((whole.len() <= limit).then(|| whole.into()))
    }

    /// Reads the body without keeping it.
    pub(in crate::cli) async fn drain(mut self) -> Result<(), RequestError> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }

    /// Returns the error of an answer that is no success.
    pub(in crate::cli) async fn refusal(self) -> RequestError {
        let status = self.status;
        match self.bytes(1 << 20).await {
            Ok(bytes) => match bytes.and_then(|bytes| serde_json::from_slice::<Detail>(&bytes).ok()) {
                Some(detail) => RequestError::Refused(detail),
                None => RequestError::Failed(Failure::failed(format!("the registry answered with {status}"))),
            },
            Err(error) => error,
        }
    }
}
