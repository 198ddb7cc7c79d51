//! Bearer tokens of a token server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::credentials::Credentials;
use super::error::{ClientError, refusal};
use super::scope::Scope;
use crate::base::Lock;
use crate::egress::{AGENT, HttpClient, Payload, Request, Target};

/// Maximum length of the answer of a token server, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// The validity of a token whose answer does not tell it, and the longest that is used.
const DEFAULT_VALIDITY: u64 = 60;
const LONGEST_VALIDITY: u64 = 3600;
/// Tokens that are kept.
const KEPT: usize = 256;

/// The tokens of a registry by their scopes, while they are valid.
pub(super) struct Tokens {
    kept: Lock<HashMap<Scope, Token>>,
    /// One request for a token at a time: the others find its answer.
    refresh: Semaphore,
}

struct Token {
    authorization: HeaderValue,
    until: Instant,
}

/// A token server, as a challenge names it.
#[derive(Clone, Debug)]
pub(super) struct TokenServer {
    pub(super) realm: Target,
    pub(super) service: Option<String>,
    /// True if it may see the credentials.
    pub(super) is_trusted: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Tokens { kept: Lock::default(), refresh: Semaphore::new(1) }
    }

    fn get(&self, scope: &Scope) -> Option<HeaderValue> {
        let kept = self.kept.lock();
        kept.get(scope).filter(|token| token.until > Instant::now()).map(|token| token.authorization.clone())
    }

    /// Forgets a token that the registry has refused.
    pub(super) fn forget(&self, scope: &Scope) {
        self.kept.lock().remove(scope);
    }

    /// Returns the value of `Authorization` for a scope; requests a token if none is valid.
    pub(super) async fn authorization(
        &self,
        http: &HttpClient,
        server: &TokenServer,
        scope: &Scope,
        credentials: Option<&Credentials>,
    ) -> Result<HeaderValue, ClientError> {
        if let Some(known) = self.get(scope) {
            return Ok(known);
        }
        let _turn = self.refresh.acquire().await;
        if let Some(known) = self.get(scope) {
            return Ok(known);
        }
        let token = server.request(http, scope, credentials.filter(|_| server.is_trusted)).await?;
        let authorization = token.authorization.clone();
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(scope.clone(), token);
        Ok(authorization)
    }
}

impl TokenServer {
    /// Requests a token. No redirect is followed: it could take the credentials elsewhere.
    async fn request(
        &self,
        http: &HttpClient,
        scope: &Scope,
        credentials: Option<&Credentials>,
    ) -> Result<Token, ClientError> {
        let mut request = match credentials {
            Some(Credentials::Identity(token)) => self.post(scope, token),
            Some(Credentials::Password { .. }) | None => self.get(scope),
        };
        if let Some(basic) = credentials.and_then(Credentials::basic) {
            let mut value = HeaderValue::try_from(basic).map_err(|_| {
                ClientError::wrong_credentials("the user or password has characters that no header takes")
            })?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        request.is_trusted = self.is_trusted;
        let asked = Instant::now();
        let response = http.send(request).await?;
        if response.status != StatusCode::OK {
            return Err(refusal(format!("token server {}", self.realm), response).await);
        }
        let malformed = |reason: &str| ClientError::Answer(format!("token server {}: {reason}", self.realm));
        let bytes = response.bytes(MAX_ANSWER).await?;
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| malformed("its answer has no token"))?;
        let text = answer.token.or(answer.access_token).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| malformed("its answer has no token"))?;
        let value = HeaderValue::try_from(format!("Bearer {text}"));
        let mut authorization =
            value.map_err(|_| malformed("its token has characters that no header takes"))?;
        authorization.set_sensitive(true);
        Ok(Token { authorization, until: asked + validity(answer.expires_in) })
    }

    fn get(&self, scope: &Scope) -> Request {
        let mut target = self.realm.clone();
        for (name, value) in self.parameters(scope) {
            target = target.with_parameter(name, value);
        }
        Request::new(Method::GET, target)
    }

    /// Makes the request of an identity token, which is a secret and so stands in the body.
    fn post(&self, scope: &Scope, identity: &str) -> Request {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", AGENT);
        form.append_pair("refresh_token", identity);
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", &scope.to_string());
        let mut request = Request::new(Method::POST, self.realm.clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = Payload::Bytes(form.finish().into());
        request
    }

    fn parameters<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (&'static str, &'a str)> {
        let service = self.service.as_deref().map(|service| ("service", service));
        service.into_iter().chain(scope.parts().map(|part| ("scope", part)))
    }
}

/// Returns how long a token is used: a tenth less than it is valid, at most an hour.
fn validity(expires_in: Option<u64>) -> Duration {
    let seconds = expires_in.unwrap_or(DEFAULT_VALIDITY).min(LONGEST_VALIDITY);
    Duration::from_secs(seconds - seconds / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_used_for_less_than_they_are_valid() {
        let seconds = |expires_in| validity(expires_in).as_secs();
        assert_eq!((seconds(None), seconds(Some(300)), seconds(Some(1))), (54, 270, 1));
        assert_eq!(seconds(Some(u64::MAX)), 3240);
    }

    #[test]
    fn requests_name_service_and_own_scopes() {
        let (a, b) = ("team/a".parse().unwrap(), "b".parse().unwrap());
        let realm = Target::parse("https://auth.lan/token?x=1").unwrap();
        let server = TokenServer { realm, service: Some("hub lan".into()), is_trusted: true };
        let request = server.get(&Scope::mount(&a, &b));
        assert_eq!(
            request.target.path,
            "/token?x=1&service=hub+lan&scope=repository%3Ateam%2Fa%3Apull%2Cpush&scope=repository%3Ab%3Apull"
        );
    }
}
