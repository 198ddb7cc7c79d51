//! Identity and permit of a request, and the challenges of those that lack one.

use std::net::IpAddr;

use http::header::AUTHORIZATION;
use http::request::Parts;

use super::access_log::AccessRecord;
use super::services::RequestServices;
use super::transport::Transport;
use crate::access::{
    self, Action, Actions, Caller, Challenge as Scheme, IdentifyError, Operation, Permit, Refusal, Scope,
};
use crate::wire::{ApiError, Challenge, Query, Route};

impl RequestServices {
    /// Identifies the sender of a request by its `Authorization` header; a failure is logged and counted. `challenge` makes
    /// the challenge for a request that fails, with an error code of RFC 6750.
    pub(super) async fn caller(
        &self,
        parts: &Parts,
        client: IpAddr,
        record: &mut AccessRecord,
        challenge: impl FnOnce(Option<&'static str>) -> Challenge,
    ) -> Result<Caller, ApiError> {
        let authorization = parts.headers.get(AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap_or("not text"));
        self.access.identify(authorization, client).await.map_err(|error| {
            let name = authorization.and_then(access::claimed_name).unwrap_or_default();
            self.record_failed_login(client, &name, &error);
            record.login_failed = true;
            unidentified(&error, challenge(error.code()))
        })
    }

    /// Logs, counts and records a failed log-in.
    pub(super) fn record_failed_login(&self, client: IpAddr, name: &str, error: &IdentifyError) {
        if self.logins.record_failure(client, "api", name, error) {
            self.registry.record_failed_login(self.access.known_user(name), client);
        }
    }

    /// Permits a request; `challenge` is as in [`RequestServices::caller`].
    pub(super) fn permit(
        &self,
        caller: &Caller,
        wanted: &Operation,
        challenge: impl FnOnce(Option<&'static str>) -> Challenge,
    ) -> Result<Permit, ApiError> {
        self.access.permit_caller(caller, wanted).map_err(|refusal| match refusal {
            Refusal::NeedsLogin => unauthorized(challenge(None), "authentication required"),
            Refusal::NoUsersYet => unauthorized(
                challenge(None),
                "this registry has no users yet; on its machine, run: holdfast user add NAME",
            ),
            Refusal::InsufficientScope => unauthorized(
                challenge(Some("insufficient_scope")),
                "the token does not have the scope for this request",
            ),
            Refusal::Denied => ApiError::denied(format!("user {} may not {wanted}", caller.identity())),
        })
    }

    /// Returns the challenge for a request: Bearer if the configuration wants that and the request names a host, else Basic.
    pub(super) fn challenge(
        &self,
        (parts, peer, transport): (&Parts, IpAddr, Transport),
        route: Option<&Route>,
        error: Option<&'static str>,
    ) -> Challenge {
        let tls = transport == Transport::Tls;
        match self.access.challenge() {
            Scheme::Basic => self.basic(),
            Scheme::Bearer => match self.registry.addresses.token_endpoint(&parts.headers, peer, tls) {
                Some(endpoint) => {
                    let scope = route.and_then(|route| scope_of(route, parts));
                    Challenge::Bearer { endpoint, scope, error }
                }
                None => self.basic(),
            },
        }
    }

    /// Returns the Basic challenge of this registry.
    pub(super) fn basic(&self) -> Challenge {
        Challenge::Basic { realm: self.realm.clone() }
    }
}

/// Maps credentials that were not accepted to their error.
pub(super) fn unidentified(error: &IdentifyError, challenge: Challenge) -> ApiError {
    ApiError::failed_login(error.into(), challenge)
}

/// Returns a 401 with this challenge.
pub(super) fn unauthorized(challenge: Challenge, message: &str) -> ApiError {
    ApiError::unauthorized(challenge, message)
}

/// Returns the scopes that a challenge asks the client to request: those of the route, and for a mount also `pull` of the
/// repository that it mounts from.
fn scope_of(route: &Route, parts: &Parts) -> Option<String> {
    let scope = match route.required_operation() {
        Operation::Ping | Operation::Maintenance | Operation::Users => return None,
        Operation::Catalog => Scope::Catalog,
        Operation::Repository { name, action: Action::Push } => {
            Scope::Repository(name, Actions::of(&[Action::Pull, Action::Push]))
        }
        Operation::Repository { name, action } => Scope::Repository(name, Actions::of(&[action])),
    };
    let mut text = scope.to_string();
    if matches!(route, Route::StartUpload(_)) {
        let query = Query::parse(parts.uri.query());
        let from = query.get("mount").and_then(|_| query.get("from")?.parse().ok());
        if let Some(from) = from {
            text += &format!(" {}", Scope::Repository(from, Actions::of(&[Action::Pull])));
        }
    }
    Some(text)
}
