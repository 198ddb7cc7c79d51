//! The client of the local API.

mod download;

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::failure::Failure;
use super::Invocation;
use super::child;
use super::exchange::{self, Lines, Sender, TransportError, Upload};
use super::find::Daemon;
use super::local::{BUFFER, Local};
use super::patient_host::PatientHost;
use crate::config::Config;
use crate::control::{Actor, Detail, EventKind, Host, Service, StatusReport, StreamOutcome};
use crate::store::{OwnerKind, Role};
use crate::transfer::Chunks;

pub(in crate::cli) use self::download::{Answer, Session};

/// Exit code of a command that a signal has interrupted.
pub(in crate::cli) const INTERRUPTED: u8 = 130;

/// An event of a stream, but for the last one.
pub(in crate::cli) enum Event {
    /// The progress of the work.
    Progress(Value),
    /// One result.
    Item(Value),
}

/// Reason why a request failed.
pub(in crate::cli) enum RequestError {
    /// The owner of the store refused it, or it failed there.
    Refused(Detail),
    /// It did not get through, or was cancelled.
    Failed(Failure),
}

/// Returns what to do after an error whose message does not say it.
fn next_step(code: &str) -> Option<&'static str> {
    match code {
        "name_unknown" => Some("`holdfast ls` lists the repositories"),
        "manifest_unknown" => Some("`holdfast ls REPOSITORY` lists the tags"),
        _ => None,
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(Detail { message, hint: Some(hint), .. }) => {
                Failure::failed(format!("{message}; {hint}"))
            }
            RequestError::Refused(Detail { code, message, hint: None }) => match next_step(&code) {
                Some(next) => Failure::failed(format!("{message}; {next}")),
                None => Failure::failed(message),
            },
            RequestError::Failed(failure) => failure,
        }
    }
}

impl From<TransportError> for RequestError {
    fn from(error: TransportError) -> Self {
        RequestError::Failed(Failure::failed(format!("the registry ended during the request: {error}")))
    }
}

/// The connection to the owner of the store.
enum Link {
    /// A daemon, by its control socket; each request has a connection of its own.
    Daemon(PathBuf),
    /// The store is open in this process.
    Memory(Local),
    /// The store is open in a child; one connection carries all requests.
    Child(Child, Option<Sender>),
    /// This process has the store open, and sends requests to itself.
    Process(Service, Actor),
}

/// A client of the owner of the store.
pub(in crate::cli) struct Client {
    link: Link,
    status: StatusReport,
    /// Signals that end a command that has to close a store.
    signals: Option<[Signal; 2]>,
}

impl Client {
    pub(super) fn of_daemon(daemon: Box<Daemon>) -> Self {
        Client { link: Link::Daemon(daemon.socket), status: daemon.status, signals: None }
    }

    /// Opens the store in this process; returns `None` if another process has it.
    pub(super) async fn of_memory(config: &Config, role: Role) -> Result<Option<Self>, Failure> {
        let signals = signals()?;
        match Local::open(config, role).await? {
            Some(local) => Self::of_own(Link::Memory(local), Some(signals)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens the store in a child process; returns `None` if another process has it.
    pub(super) async fn of_child(invocation: &Invocation, role: Role) -> Result<Option<Self>, Failure> {
        let signals = signals()?;
        let child::Started { child, stream } = child::start(invocation, role)?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(Failure::failed)?;
        let opened = async {
            let mut sender = exchange::handshake(stream).await?;
            let status =
                exchange::read(exchange::send(&mut sender, Method::GET, "status", Bytes::new()).await?)
                    .await?;
            Ok::<_, TransportError>((sender, status))
        };
        let Ok((sender, status)) = opened.await else {
            // A child that ends before it answers found the store taken, or has said why it failed.
            return child::wait(child).await.map(|_| None);
        };
        let link = Link::Child(child, Some(sender));
        let status = parse(&status.map_err(|detail| Failure::from(RequestError::Refused(detail)))?)?;
        Ok(Some(Client { link, status, signals: Some(signals) }))
    }

    /// Connects to the handlers of this process, which has the store open, on behalf of `actor`.
    pub(in crate::cli) async fn in_process(host: Arc<dyn Host>, actor: Actor) -> Result<Self, Failure> {
        let service = Service::new(Arc::new(PatientHost(host)));
        Self::of_own(Link::Process(service, actor), None).await
    }

    async fn of_own(mut link: Link, signals: Option<[Signal; 2]>) -> Result<Self, Failure> {
        let answer = async {
            let mut sender = link.sender().await?;
            let response = exchange::send(&mut sender, Method::GET, "status", Bytes::new()).await?;
            exchange::read(response).await?.map_err(RequestError::Refused)
        };
        let status = parse(&answer.await?)?;
        Ok(Client { link, status, signals })
    }

    /// Returns the status of the owner, as it was when the connection was made.
    pub(in crate::cli) fn status(&self) -> &StatusReport {
        &self.status
    }

    /// Returns true if this command has opened the store, because no daemon runs.
    pub(in crate::cli) fn owns_store(&self) -> bool {
        self.status.owner == OwnerKind::Command
    }

    /// Sends a request to an endpoint, such as `jobs`; returns the JSON of the answer.
    pub(in crate::cli) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Value, RequestError> {
        let answer = async |link: &mut Link| {
            let mut sender = link.sender().await?;
            let response = exchange::send(&mut sender, method, path, encode(body)?).await;
            link.keep(sender);
            exchange::read(response?).await?.map_err(RequestError::Refused)
        };
        let bytes = tokio::select! {
            answer = answer(&mut self.link) => answer?,
            () = interrupted(&mut self.signals) => return Err(cancelled()),
        };
        parse(&bytes).map_err(RequestError::Failed)
    }

    /// Reads content from an endpoint.
    pub(in crate::cli) async fn bytes(&mut self, path: &str) -> Result<Bytes, RequestError> {
        self.whole(async |sender: &mut Sender| exchange::send(sender, Method::GET, path, Bytes::new()).await)
            .await
    }

    /// Reads content of the registry by its path, such as `/v2/REPOSITORY/manifests/TAG`.
    pub(in crate::cli) async fn registry_bytes(&mut self, path: &str) -> Result<Bytes, RequestError> {
        self.whole(async |sender: &mut Sender| exchange::get(sender, path).await).await
    }

    /// Sends content to an endpoint; returns the JSON of the answer, which may come before the end of the content.
    pub(in crate::cli) async fn upload(
        &mut self,
        method: Method,
        path: &str,
        size: Option<u64>,
        content: Chunks,
    ) -> Result<Value, RequestError> {
        let keeps_connection = match self.link {
            Link::Daemon(_) | Link::Memory(_) | Link::Process(..) => false,
            Link::Child(..) => true,
        };
        let content = Upload::new(content, size, keeps_connection);
        let sending = async move |sender: &mut Sender| exchange::upload(sender, method, path, content).await;
        parse(&self.whole(sending).await?).map_err(RequestError::Failed)
    }

    /// Sends a request and reads the whole answer.
    async fn whole(
        &mut self,
        send: impl AsyncFnOnce(&mut Sender) -> Result<http::Response<Incoming>, TransportError>,
    ) -> Result<Bytes, RequestError> {
        let answer = async |link: &mut Link| {
            let mut sender = link.sender().await?;
            let response = send(&mut sender).await;
            let read = match response {
                Ok(response) => exchange::read(response).await,
                Err(error) => Err(error),
            };
            link.keep(sender);
            read?.map_err(RequestError::Refused)
        };
        tokio::select! {
            answer = answer(&mut self.link) => answer,
            () = interrupted(&mut self.signals) => Err(cancelled()),
        }
    }

    /// Sends a request that answers with a stream of events, and calls `observe` with each of them; returns the fields of the
    /// last event.
    pub(in crate::cli) async fn stream(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Map<String, Value>, RequestError> {
        self.stream_text(method, path, encode(body)?, observe).await
    }

    /// As [`Client::stream`], with the text of the body.
    pub(in crate::cli) async fn stream_text(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        observe: &mut (impl FnMut(Event) + ?Sized),
    ) -> Result<Map<String, Value>, RequestError> {
        let events = async |link: &mut Link| {
            let mut sender = link.sender().await?;
            let response = exchange::send(&mut sender, method, path, body).await?;
            if !response.status().is_success() {
                let refused = exchange::read(response).await?;
                link.keep(sender);
                return Err(match refused {
                    Err(detail) => RequestError::Refused(detail),
                    Ok(_) => RequestError::Failed(Failure::failed("the registry sent no events")),
                });
            }
            let ended = read_events(Lines::new(response), observe).await;
            link.keep(sender);
            ended
        };
        tokio::select! {
            ended = events(&mut self.link) => ended,
            // The connection closes with the response, which cancels the work.
            () = interrupted(&mut self.signals) => Err(cancelled()),
        }
    }

    /// Ends the connection; closes the store in good order if this command has opened it.
    pub(in crate::cli) async fn close(self) -> Result<(), Failure> {
        match self.link {
            Link::Daemon(_) | Link::Process(..) => Ok(()),
            Link::Memory(local) => local.close().await,
            Link::Child(child, sender) => {
                drop(sender);
                child::wait(child).await.map(drop)
            }
        }
    }
}

impl Link {
    /// Returns the sending side of a connection to the owner.
    async fn sender(&mut self) -> Result<Sender, RequestError> {
        match self {
            Link::Daemon(path) => {
                let stream = exchange::connect(path).await.map_err(|error| {
                    RequestError::Failed(Failure::failed(format!(
                        "cannot connect to the registry at {}: {error}; try again",
                        path.display()
                    )))
                })?;
                Ok(exchange::handshake(stream).await?)
            }
            Link::Memory(local) => Ok(exchange::handshake(local.connect()).await?),
            Link::Process(service, actor) => {
                let (near, far) = tokio::io::duplex(BUFFER);
                let (service, actor) = (service.clone(), actor.clone());
                tokio::spawn(async move { service.serve(far, actor).await });
                Ok(exchange::handshake(near).await?)
            }
            Link::Child(_, sender) => sender
                .take()
                .ok_or_else(|| RequestError::Failed(Failure::failed("the process with the store has ended"))),
        }
    }

    /// Keeps the one connection to a child for the next request; other connections end here.
    fn keep(&mut self, sender: Sender) {
        match self {
            Link::Child(_, kept) => *kept = Some(sender),
            Link::Daemon(_) | Link::Memory(_) | Link::Process(..) => drop(sender),
        }
    }
}

/// Reads the events of a stream to the last one.
async fn read_events(
    mut lines: Lines,
    observe: &mut (impl FnMut(Event) + ?Sized),
) -> Result<Map<String, Value>, RequestError> {
    let malformed =
        || RequestError::Failed(Failure::failed("the registry sent an event that is not known; restart it"));
    while let Some(line) = lines.next().await? {
        let mut fields: Map<String, Value> = serde_json::from_slice(&line).map_err(|_| malformed())?;
        let kind = fields
            .remove("event")
            .and_then(|kind| serde_json::from_value(kind).ok())
            .ok_or_else(malformed)?;
        match kind {
            EventKind::Progress => observe(Event::Progress(Value::Object(fields))),
            EventKind::Item => observe(Event::Item(Value::Object(fields))),
            EventKind::Done => {
                let outcome =
                    fields.remove("outcome").and_then(|outcome| serde_json::from_value(outcome).ok());
                return match outcome.ok_or_else(malformed)? {
                    StreamOutcome::Ok => Ok(fields),
                    StreamOutcome::Failed => {
                        let detail =
                            serde_json::from_value(Value::Object(fields)).map_err(|_| malformed())?;
                        Err(RequestError::Refused(detail))
                    }
                    StreamOutcome::Cancelled => {
                        let text = fields.get("text").and_then(Value::as_str).unwrap_or_default();
                        let failure = format!("the work was cancelled. {text}");
                        Err(RequestError::Failed(Failure::failed(failure.trim_end())))
                    }
                };
            }
        }
    }
    Err(RequestError::Failed(Failure::failed("the registry ended before the work was done; see its log")))
}

fn encode(body: Option<&impl Serialize>) -> Result<Bytes, RequestError> {
    let encoded = body.map(serde_json::to_vec).transpose();
    encoded
        .map(|bytes| bytes.unwrap_or_default().into())
        .map_err(|error| RequestError::Failed(Failure::failed(error)))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::failed(format!("the registry is of another release ({error}); restart it")))
}

fn signals() -> Result<[Signal; 2], Failure> {
    let of = |kind| signal(kind).map_err(Failure::failed);
    Ok([of(SignalKind::interrupt())?, of(SignalKind::terminate())?])
}

/// Waits for a signal; forever where the default action of signals does.
async fn interrupted(signals: &mut Option<[Signal; 2]>) {
    match signals {
        Some([interrupt, terminate]) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        None => std::future::pending().await,
    }
}

fn cancelled() -> RequestError {
    RequestError::Failed(Failure { code: INTERRUPTED, line: "interrupted".into() })
}
