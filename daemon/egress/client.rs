//! HTTP/1.1 requests over connections that are kept for the next one.
//!
//! HTTP/2 is not spoken: all its streams would share one congestion window.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, HOST, HeaderValue, LOCATION,
    TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, Method};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::AGENT;
use super::body::{Outgoing, whole_body};
use super::connector::Connector;
use super::error::{EgressError, chain};
use super::pool::{IdlePool, Sender};
use super::response::Response;
use super::target::{Origin, Target};

/// Time to the first byte of an answer.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// Redirects of one request.
const REDIRECTS: usize = 5;
/// Maximum length of the headers of an answer, in bytes.
const HEADERS: usize = 64 << 10;

/// The body of a request.
pub enum Payload {
    /// Bytes, which can be sent again.
    Bytes(Bytes),
    /// A stream, which is sent once. The caller bounds the time for the answer.
    Stream(Outgoing),
}

/// A request.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL.
    pub target: Target,
    /// Headers besides those that the client sets itself.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
    /// Time to the first byte of the answer, if it is not the usual one.
    pub patience: Option<Duration>,
    /// True if the host may have any address, although the operator did not name it.
    pub is_trusted: bool,
}

impl Request {
    /// Makes a request without a body.
    pub fn new(method: Method, target: Target) -> Self {
        let body = Payload::Bytes(Bytes::new());
        Request { method, target, headers: HeaderMap::new(), body, patience: None, is_trusted: false }
    }
}

/// A client for all hosts that its connector reaches.
pub struct HttpClient {
    connector: Connector,
    idle: Arc<IdlePool>,
}

impl HttpClient {
    /// Makes a client.
    pub fn new(connector: Connector) -> Self {
        HttpClient { connector, idle: Arc::default() }
    }

    /// Sends a request and follows the redirects of GET and HEAD.
    ///
    /// # Errors
    /// [`EgressError`], also for too many redirects.
    pub async fn fetch(&self, mut request: Request) -> Result<Response, EgressError> {
        let may_follow = matches!(request.method, Method::GET | Method::HEAD);
        for _ in 0..=REDIRECTS {
            let again = Request {
                method: request.method.clone(),
                target: request.target.clone(),
                headers: request.headers.clone(),
                body: Payload::Bytes(Bytes::new()),
                ..request
            };
            let response = self.send(request).await?;
            let is_redirect = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !may_follow || !is_redirect {
                return Ok(response);
            }
            request = again;
            let next = next_hop(&request.target, response.header(LOCATION.as_str()), &mut request.headers);
            request.target = next.map_err(|reason| {
                let reason = format!("its redirect cannot be followed: {reason}");
                EgressError::Protocol { host: request.target.origin.authority(), reason }
            })?;
            // The permission was for the first host.
            request.is_trusted = false;
            response.drain().await?;
        }
        let reason = format!("more than {REDIRECTS} redirects");
        Err(EgressError::Protocol { host: request.target.origin.authority(), reason })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn send(&self, request: Request) -> Result<Response, EgressError> {
        let Request { method, target, headers, body, patience, is_trusted } = request;
        let (origin, is_head) = (target.origin.clone(), method == Method::HEAD);
        let mut head = head(method, &target, headers)?;
        if matches!(&body, Payload::Bytes(bytes) if bytes.is_empty()) && !head.method().is_safe() {
            // Some proxies refuse a request that states no length.
            head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let patience = Some(patience.unwrap_or(FIRST_BYTE));
        let response = match body {
            Payload::Bytes(bytes) => {
                let request = || head.clone().map(|()| whole_body(bytes.clone()));
                let kept = self.idle.take(&origin);
                let answered = match kept {
                    Some(sender) => Some(exchange(sender, request(), &origin, patience).await),
                    None => None,
                };
                match answered {
                    Some(Ok(answered)) => answered,
                    // A host may close an idle connection at any time.
                    Some(Err(EgressError::Broken { .. })) | None => {
                        exchange(self.connect(&origin, is_trusted).await?, request(), &origin, patience)
                            .await?
                    }
                    Some(Err(error)) => return Err(error),
                }
            }
            Payload::Stream(stream) => {
                let sender = match self.idle.take(&origin) {
                    Some(sender) => sender,
                    None => self.connect(&origin, is_trusted).await?,
                };
                exchange(sender, head.map(|()| stream), &origin, None).await?
            }
        };
        let (sender, response) = response;
        accept(&origin, response, sender, &self.idle, is_head)
    }

    async fn connect(&self, origin: &Origin, is_trusted: bool) -> Result<Sender, EgressError> {
        let stream = self.connector.connect(origin, is_trusted).await?;
        let handshake = http1::Builder::new()
            .max_header_size(HEADERS)
            .max_buf_size(2 * HEADERS)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(|error| broken(origin, &error))?;
        // Ends when the sender and the response are dropped.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn broken(origin: &Origin, error: &dyn std::error::Error) -> EgressError {
    EgressError::Broken { host: origin.authority(), reason: chain(error) }
}

/// Makes the head of a request.
fn head(method: Method, target: &Target, headers: HeaderMap) -> Result<http::Request<()>, EgressError> {
    let malformed = |error: &dyn std::fmt::Display| EgressError::Protocol {
        host: target.origin.authority(),
        reason: format!("the request cannot be made: {error}"),
    };
    let mut request = http::Request::builder().method(method).uri(&target.path).body(());
    if let Ok(request) = &mut request {
        *request.headers_mut() = headers;
        let host = HeaderValue::try_from(target.origin.authority()).map_err(|error| malformed(&error))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        // Some registries compress blobs, which then have another length and digest.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    request.map_err(|error| malformed(&error))
}

/// Sends a request on a connection and waits for the head of the answer.
async fn exchange(
    mut sender: Sender,
    request: http::Request<Outgoing>,
    origin: &Origin,
    patience: Option<Duration>,
) -> Result<(Sender, http::Response<Incoming>), EgressError> {
    let answer = async {
        sender.ready().await?;
        sender.send_request(request).await
    };
    let answered = match patience {
        Some(patience) => tokio::time::timeout(patience, answer).await,
        None => Ok(answer.await),
    };
    match answered {
        Ok(Ok(response)) => Ok((sender, response)),
        Ok(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
            let reason = format!("its answer is not HTTP/1.1: {}", chain(&error));
            Err(EgressError::Protocol { host: origin.authority(), reason })
        }
        Ok(Err(error)) => Err(broken(origin, &error)),
        Err(_) => Err(EgressError::Silent { host: origin.authority() }),
    }
}

fn accept(
    origin: &Origin,
    response: http::Response<Incoming>,
    sender: Sender,
    idle: &Arc<IdlePool>,
    is_head: bool,
) -> Result<Response, EgressError> {
    let (parts, body) = response.into_parts();
    let is_plain =
        |name| parts.headers.get_all(name).iter().all(|value| value == "identity" || value == "chunked");
    if !is_plain(CONTENT_ENCODING) || !is_plain(TRANSFER_ENCODING) {
        let reason = "its answer is compressed, although it was asked for plain bytes".into();
        return Err(EgressError::Protocol { host: origin.authority(), reason });
    }
    let connection = if is_head {
        // Its answer has no body to wait for.
        idle.put(origin, sender);
        None
    } else {
        Some((sender, Arc::clone(idle)))
    };
    Ok(Response::new(origin.clone(), (parts.status, parts.headers), body, connection))
}

/// Returns the target of a redirect, and removes the headers that another party must not see.
fn next_hop(
    target: &Target,
    location: Option<&str>,
    headers: &mut HeaderMap,
) -> Result<Target, &'static str> {
    let next = target.join(location.ok_or("it has no Location")?)?;
    if !next.origin.is_same_party(&target.origin) {
        headers.remove(AUTHORIZATION);
        headers.remove(COOKIE);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use http::header::RANGE;

    use super::*;

    #[test]
    fn redirects_to_other_parties_lose_credentials_but_not_the_range() {
        let target = Target::parse("https://hub.lan/v2/a").unwrap();
        let kept = |location: &str| {
            let mut headers = HeaderMap::from_iter([
                (AUTHORIZATION, HeaderValue::from_static("Basic x")),
                (COOKIE, HeaderValue::from_static("a=b")),
                (RANGE, HeaderValue::from_static("bytes=5-")),
            ]);
            next_hop(&target, Some(location), &mut headers).map(|_| headers.len())
        };
        assert_eq!(kept("/b"), Ok(3));
        assert_eq!(kept("https://hub.lan:443/b"), Ok(3));
        for other in ["https://cdn.lan/b", "https://hub.lan:8443/b", "//hub.lan.evil/"] {
            assert_eq!(kept(other), Ok(1), "{other}");
        }
        assert!(kept("http://hub.lan/b").is_err());
        assert!(next_hop(&target, None, &mut HeaderMap::new()).is_err());
    }
}
