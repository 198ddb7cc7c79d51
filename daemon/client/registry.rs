//! Requests to a registry, with authorization.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};

use super::challenge::{Challenge, parse};
use super::credentials::Credentials;
use super::error::{ClientError, refusal};
use super::realm::is_trusted;
use super::scope::Scope;
use super::token::{TokenServer, Tokens};
use crate::base::Lock;
use crate::egress::{
    Backoff, EgressError, HostName, HttpClient, Origin, Outgoing, Payload, Remedy, Request, Response, Target,
};

/// A wait that is worth a line in the log.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// The settings of a client for one registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port.
    pub origin: Origin,
    /// The credentials for a log-in.
    pub credentials: Option<Credentials>,
    /// Token servers on other hosts that may see the credentials.
    pub token_hosts: Vec<HostName>,
}

/// A client of one registry.
pub struct RegistryClient {
    http: HttpClient,
    settings: Settings,
    login: Lock<Login>,
    tokens: Tokens,
    /// False once the registry has said that it does not list referrers.
    pub(super) lists_referrers: AtomicBool,
}

/// The kind of log-in that the registry asks for.
#[derive(Clone, Debug)]
enum Login {
    /// It has not asked yet.
    Unknown,
    Basic,
    Bearer(TokenServer),
}

/// A request whose body can be sent again.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) scope: Scope,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) patience: Option<Duration>,
}

impl Call {
    pub(super) fn new(method: Method, target: Target, scope: Scope) -> Self {
        Call { method, target, scope, headers: HeaderMap::new(), body: Bytes::new(), patience: None }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl RegistryClient {
    /// Makes a client. It does not connect yet.
    pub fn new(http: HttpClient, settings: Settings) -> Self {
        RegistryClient {
            http,
            settings,
            login: Lock::new(Login::Unknown),
            tokens: Tokens::new(),
            lists_referrers: AtomicBool::new(true),
        }
    }

    /// Returns the registry's host, with its port unless that is the default one.
    pub fn host(&self) -> String {
        self.settings.origin.authority()
    }

    /// Returns the URL of a path.
    pub(super) fn target(&self, path: impl Into<String>) -> Target {
        Target::of(&self.settings.origin, path)
    }

    /// Asks whether this is a registry, once, and learns how to log in.
    ///
    /// # Errors
    /// [`ClientError`] if it is not there or is not a registry.
    pub async fn ping(&self) -> Result<(), ClientError> {
        let response = self.http.fetch(Request::new(Method::GET, self.target("/v2/"))).await?;
        match response.status {
            StatusCode::OK => Ok(response.drain().await?),
            // Another host, to which a redirect led, has no say in how to log in here.
            StatusCode::UNAUTHORIZED if response.origin == self.settings.origin => {
                self.learn(&response, &Scope::default())?;
                Ok(response.drain().await?)
            }
            StatusCode::NOT_FOUND => Err(ClientError::Answer(format!(
                "{} is not a registry: it has no /v2/",
                self.settings.origin
            ))),
            _ => Err(refusal(self.settings.origin.to_string(), response).await),
        }
    }

    /// Sends a request; repeats it after failures that pass, and with new authorization.
    pub(super) async fn call(&self, call: &Call) -> Result<Response, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.authorized(call).await {
                Ok(response) => {
                    match backoff.after_answer(response.status, &response.headers, SystemTime::now()) {
                        Some(pause) => pause,
                        None => return Ok(response),
                    }
                }
                Err(error) if error.is_transient() => match backoff.after_failure() {
                    Some(pause) => pause,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            };
            if pause > LONG_WAIT {
                log::warn!("{} asks to wait; trying again in {} seconds", self.host(), pause.as_secs());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request, and again with new authorization if the registry wants that.
    pub(super) async fn authorized(&self, call: &Call) -> Result<Response, ClientError> {
        let mut is_repeated = false;
        loop {
            let mut request = Request::new(call.method.clone(), call.target.clone());
            request.headers = call.headers.clone();
            request.body = Payload::Bytes(call.body.clone());
            request.patience = call.patience;
            self.authorize(&mut request, &call.scope).await?;
            let response = self.http.fetch(request).await?;
            // Another host, to which a redirect led, has no say in how to log in here.
            let is_own = response.origin == self.settings.origin;
            if response.status != StatusCode::UNAUTHORIZED || !is_own {
                return Ok(response);
            }
            if is_repeated {
                return Err(self.denied(response).await);
            }
            is_repeated = true;
            self.learn(&response, &call.scope)?;
            response.drain().await?;
        }
    }

    /// Sends a request with a body that can be sent once, and returns its answer, whatever it is.
    pub(super) async fn send_stream(
        &self,
        mut request: Request,
        scope: &Scope,
        body: Outgoing,
    ) -> Result<Response, ClientError> {
        request.body = Payload::Stream(body);
        self.authorize(&mut request, scope).await?;
        Ok(self.http.send(request).await?)
    }

    /// Adds `Authorization` to a request to the registry itself.
    async fn authorize(&self, request: &mut Request, scope: &Scope) -> Result<(), ClientError> {
        if request.target.origin != self.settings.origin {
            return Ok(());
        }
        let login = self.login.lock().clone();
        let authorization = match login {
            Login::Unknown => return Ok(()),
            Login::Basic => {
                let basic = self.settings.credentials.as_ref().and_then(Credentials::basic);
                let Some(basic) = basic else { return Err(self.wants_login()) };
                let mut value = HeaderValue::try_from(basic).map_err(|_| self.wants_login())?;
                value.set_sensitive(true);
                value
            }
            Login::Bearer(server) => {
                let credentials = self.settings.credentials.as_ref();
                let token = self.tokens.authorization(&self.http, &server, scope, credentials).await;
                token.map_err(|error| self.token_error(error, &server))?
            }
        };
        request.headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// Takes from a 401 how to log in. Tokens are preferred to a password in each request.
    fn learn(&self, response: &Response, scope: &Scope) -> Result<(), ClientError> {
        self.tokens.forget(scope);
        let headers = response.headers.get_all(WWW_AUTHENTICATE).iter();
        let all: Vec<Challenge> = headers.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
        let bearer = all.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        let login = match bearer {
            Some((realm, service)) => {
                let realm = self.realm(realm)?;
                let is_trusted = is_trusted(&realm, &self.settings.origin, &self.settings.token_hosts);
                Login::Bearer(TokenServer { realm, service: service.clone(), is_trusted })
            }
            None if all.contains(&Challenge::Basic) => Login::Basic,
            None => {
                return Err(ClientError::wrong_credentials(format!(
                    "{} requires a log-in of a kind that is not supported",
                    self.host()
                )));
            }
        };
        *self.login.lock() = login;
        Ok(())
    }

    fn realm(&self, realm: &str) -> Result<Target, ClientError> {
        let parsed = if realm.starts_with('/') { self.target("/").join(realm) } else { Target::parse(realm) };
        parsed.map_err(|reason| {
            ClientError::Answer(format!("{} names a token server that cannot be used: {reason}", self.host()))
        })
    }

    fn wants_login(&self) -> ClientError {
        let host = self.host();
        let reason = format!("{host} requires a log-in");
        ClientError::Unauthorized { reason, remedy: Some(Remedy::LogIn(host)) }
    }

    /// Explains why no token came.
    fn token_error(&self, error: ClientError, server: &TokenServer) -> ClientError {
        let is_refusal = matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN));
        let is_unreachable = matches!(error, ClientError::Egress(EgressError::NotPublic { .. }));
        if (is_refusal || is_unreachable) && !server.is_trusted {
            return self.withheld(server);
        }
        match (is_refusal, &self.settings.credentials) {
            (false, _) => error,
            (true, Some(_)) => {
                ClientError::wrong_credentials(format!("the user or the password is wrong ({error})"))
            }
            (true, None) => self.wants_login(),
        }
    }

    fn withheld(&self, server: &TokenServer) -> ClientError {
        let reason = format!(
            "{} sends clients to the token server {}, which is on another host and gets no credentials",
            self.host(),
            server.realm
        );
        ClientError::Unauthorized { reason, remedy: Some(Remedy::TokenHost(server.realm.origin.authority())) }
    }

    /// Explains a 401 that came in spite of authorization.
    async fn denied(&self, response: Response) -> ClientError {
        let login = self.login.lock().clone();
        let error = refusal(self.host(), response).await;
        match (login, &self.settings.credentials) {
            (Login::Bearer(server), Some(_)) if !server.is_trusted => self.withheld(&server),
            (_, Some(_)) => ClientError::wrong_credentials(format!(
                "the user or the password is wrong, or lacks rights ({error})"
            )),
            (_, None) => self.wants_login(),
        }
    }
}
