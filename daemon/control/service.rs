//! The service that answers the requests of a connection.

use std::sync::Arc;

use http::header::USER_AGENT;
use hyper::body::Incoming;

use super::actor::Actor;
use super::api;
use super::body::Body;
use super::error::ControlError;
use super::host::Host;
use super::request::{LargeBodies, Request};
use super::route::Route;
use super::{deletes, events_feed, image, inventory, jobs, names, status, transfers};
use crate::wire::{ApiError, Query, RequestBody, audit, check_framing, check_host};

/// Maximum number of connections at a time; a further one is answered with 503.
pub const CONNECTIONS: usize = 32;

/// The local API of one process; cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(super) host: Arc<dyn Host>,
    large_bodies: LargeBodies,
}

impl Service {
    /// Makes the service of a process.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Service { host, large_bodies: LargeBodies::new() }
    }

    /// Answers a request; every failure becomes a response, too.
    pub(super) async fn answer(
        &self,
        request: http::Request<Incoming>,
        actor: &Actor,
    ) -> http::Response<Body> {
        let (mut parts, incoming) = request.into_parts();
        let body = RequestBody::new(&parts, incoming, self.host.limits().stall, 0);
        let (method, path) = (parts.method.clone(), audit::loggable_path(parts.uri.path()));
        let checked = check_framing(&parts).and_then(|()| check_host(&mut parts).map_err(ApiError::host));
        let is_api = parts.uri.path() == "/v2" || parts.uri.path().starts_with("/v2/");
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("-");
        let agent = agent.chars().take(80).collect::<String>();
        let response = match checked {
            Ok(()) if is_api => {
                let activity = self.host.begin_request();
                api::answer(&self.host, parts, body, actor).await.map(|body| body.during(activity))
            }
            Ok(()) => self.endpoint(parts, body, actor).await.unwrap_or_else(ControlError::into_response),
            Err(error) => ControlError::from(error).into_response(),
        };
        log::debug!(
            "{} {path} of local user {} ({agent:?}): {}",
            audit::loggable_method(&method),
            actor.user(),
            response.status()
        );
        response
    }

    /// Answers a request for an endpoint of the local API.
    async fn endpoint(
        &self,
        parts: http::request::Parts,
        body: RequestBody,
        actor: &Actor,
    ) -> Result<http::Response<Body>, ControlError> {
        let route = Route::parse(&parts.method, parts.uri.path())?;
        // Questions about the state are no activity: they do not keep the daemon awake.
        match route {
            Route::Status => return status::status(&*self.host).await,
            Route::Metrics => return status::metrics(&*self.host),
            Route::Repositories
            | Route::Names
            | Route::Events
            | Route::DeleteNames
            | Route::Image
            | Route::Jobs
            | Route::FollowJob(_)
            | Route::StartJob(_)
            | Route::CancelJob(_)
            | Route::Wake
            | Route::Inventory
            | Route::Transfer(_) => {}
        }
        let (host, actor) = (Arc::clone(&self.host), actor.clone());
        let (query, activity) = (Query::parse(parts.uri.query()), host.begin_request());
        let large_bodies = self.large_bodies.clone();
        let request = Request { host, actor, query, body, large_bodies, activity: Arc::clone(&activity) };
        let response = match route {
            Route::Status => status::status(&*self.host).await,
            Route::Metrics => status::metrics(&*self.host),
            Route::Repositories => names::repositories(&request),
            Route::Names => names::names(&request),
            Route::Events => events_feed::events(request).await,
            Route::DeleteNames => deletes::delete(request).await,
            Route::Image => image::image(request).await,
            Route::Jobs => Ok(jobs::list(&request)),
            Route::FollowJob(name) => jobs::follow(&request, &name),
            Route::StartJob(name) => jobs::start(request, name).await,
            Route::CancelJob(name) => jobs::cancel(&request, &name),
            Route::Wake => Ok(jobs::wake(&request)),
            Route::Inventory => inventory::inventory(&request),
            Route::Transfer(route) => transfers::answer(request, route).await,
        };
        response.map(|response| response.map(|body| body.during(activity)))
    }
}
