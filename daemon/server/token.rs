//! The token endpoint: `GET /token` as the distribution project defines it, `POST /token` as OAuth 2 (RFC 6749). A refresh
//! token is never issued.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::access_log::AccessRecord;
use super::authorize::unidentified;
use super::services::RequestServices;
use super::slots::ActiveRequest;
use crate::access::{Caller, Credentials, IdentifyError, Identity, IssuedToken, Scope, ScopeError};
use crate::wire::{ApiError, Query, RequestBody, Response, json as json_response};

/// Maximum length of a form, in bytes: 64 scopes with names of common length fit.
const MAX_FORM: usize = 16 << 10;

/// Error codes of RFC 6749, section 5.2.
#[derive(Clone, Copy)]
enum OauthError {
    InvalidRequest,
    InvalidGrant,
    UnsupportedGrantType,
    InvalidScope,
}

impl OauthError {
    fn code(self) -> &'static str {
        match self {
            OauthError::InvalidRequest => "invalid_request",
            OauthError::InvalidGrant => "invalid_grant",
            OauthError::UnsupportedGrantType => "unsupported_grant_type",
            OauthError::InvalidScope => "invalid_scope",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            OauthError::InvalidGrant => StatusCode::UNAUTHORIZED,
            OauthError::InvalidRequest | OauthError::UnsupportedGrantType | OauthError::InvalidScope => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

impl RequestServices {
    /// Answers a request for a token.
    pub(super) async fn token(
        &self,
        parts: &Parts,
        mut body: RequestBody,
        client: IpAddr,
        active: &ActiveRequest,
        record: &mut AccessRecord,
    ) -> Result<Response, ApiError> {
        match parts.method {
            Method::GET => {
                let query = Query::parse(parts.uri.query());
                let scopes = Scope::parse_all(query.all("scope"));
                let scopes = scopes
                    .map_err(|ScopeError(name, why)| ApiError::name_invalid(&name, &why.to_string()))?;
                let caller = self.caller_of_get(parts, client, record).await?;
                Ok(self.issue(&caller, scopes, active, record))
            }
            Method::POST => {
                if !is_form(&parts.headers) {
                    return Ok(self.oauth(
                        OauthError::InvalidRequest,
                        "Content-Type has to be application/x-www-form-urlencoded",
                    ));
                }
                let bytes = body.collect(MAX_FORM).await?;
                self.token_by_form(&bytes, client, active, record).await
            }
            _ => Err(ApiError::method("GET, POST")),
        }
    }

    /// Returns the sender of a request: the user of a Basic header, or the anonymous user.
    async fn caller_of_get(
        &self,
        parts: &Parts,
        client: IpAddr,
        record: &mut AccessRecord,
    ) -> Result<Caller, ApiError> {
        let caller = self.caller(parts, client, record, |_| self.basic()).await?;
        if caller.has_token() {
            // A token that could be exchanged for another one would never expire.
            return Err(unidentified(&IdentifyError::InvalidToken, self.basic()));
        }
        Ok(caller)
    }

    async fn token_by_form(
        &self,
        bytes: &Bytes,
        client: IpAddr,
        active: &ActiveRequest,
        record: &mut AccessRecord,
    ) -> Result<Response, ApiError> {
        let form = Query::parse(std::str::from_utf8(bytes).ok());
        let (name, password) = match form.get("grant_type") {
            Some("password") => (form.get("username"), form.get("password")),
            // None is ever issued, so each is invalid.
            Some("refresh_token") => {
                return Ok(
                    self.oauth(OauthError::InvalidGrant, "the refresh token is not valid; log in again")
                );
            }
            Some(_) => {
                let why = "grant_type has to be password";
                return Ok(self.oauth(OauthError::UnsupportedGrantType, why));
            }
            None => return Ok(self.oauth(OauthError::InvalidRequest, "grant_type is missing")),
        };
        let (Some(name), Some(password)) = (name, password) else {
            return Ok(self.oauth(OauthError::InvalidRequest, "username or password is missing"));
        };
        let scopes = match Scope::parse_all(form.all("scope")) {
            Ok(scopes) => scopes,
            Err(error) => return Ok(self.oauth(OauthError::InvalidScope, &error.to_string())),
        };
        let credentials = Credentials { name: name.to_owned(), password: password.to_owned() };
        match self.access.identify_by(&credentials, client).await {
            Ok(caller) => Ok(self.issue(&caller, scopes, active, record)),
            Err(error) => {
                self.record_failed_login(client, name, &error);
                record.login_failed = true;
                match error {
                    IdentifyError::WrongCredentials
                    | IdentifyError::InvalidToken
                    | IdentifyError::ExpiredToken => {
                        Ok(self.oauth(OauthError::InvalidGrant, &error.to_string()))
                    }
                    IdentifyError::Throttled { .. } | IdentifyError::Unavailable => {
                        Err(unidentified(&error, self.basic()))
                    }
                }
            }
        }
    }

    fn issue(
        &self,
        caller: &Caller,
        scopes: Vec<Scope>,
        active: &ActiveRequest,
        record: &mut AccessRecord,
    ) -> Response {
        record.user = caller.identity().to_string();
        if matches!(caller.identity(), Identity::User(_)) {
            active.permit();
        }
        self.logins.record_token();
        token_response(&self.access.issue_token(caller, scopes))
    }

    /// Returns an error in the form of OAuth 2 and, beside it, in that of the distribution spec, which clients show.
    fn oauth(&self, error: OauthError, description: &str) -> Response {
        let code = match error {
            OauthError::InvalidGrant => "UNAUTHORIZED",
            OauthError::InvalidRequest | OauthError::UnsupportedGrantType | OauthError::InvalidScope => {
                "UNSUPPORTED"
            }
        };
        let mut response = json_response(
            error.status(),
            &json!({
                "error": error.code(),
                "error_description": description,
                "errors": [{ "code": code, "message": description, "detail": null }],
            }),
        );
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let (StatusCode::UNAUTHORIZED, Ok(challenge)) = (error.status(), self.basic().header().parse()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Returns the response with a token. It omits `issued_at`, which clients compare with their own clock, since the registry's
/// clock may be wrong; without it they count from the time at which they received the token.
fn token_response(token: &IssuedToken) -> Response {
    let mut response = json_response(
        StatusCode::OK,
        &json!({
            "token": token.text,
            "access_token": token.text,
            "token_type": "Bearer",
            "expires_in": token.lifetime.as_secs(),
            "scope": token.scope,
        }),
    );
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
