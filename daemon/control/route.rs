//! Maps method and path to an endpoint of the local API. Pure: any path yields a route or an error.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::error::ControlError;
use super::transfers::{Parsed, TransferRoute};

/// The beginning of the paths of the local API.
pub const PREFIX: &str = "/_holdfast/v1/";

/// Maximum length of a job's name, in bytes.
const MAX_JOB_NAME: usize = 128;

/// An endpoint of the local API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET status`
    Status,
    /// `GET metrics`
    Metrics,
    /// `GET repositories`
    Repositories,
    /// `GET names`
    Names,
    /// `GET events`
    Events,
    /// `DELETE names`
    DeleteNames,
    /// `GET image`
    Image,
    /// `GET jobs`
    Jobs,
    /// `GET jobs/NAME`: follows a job.
    FollowJob(String),
    /// `POST jobs/NAME`: starts a job, or joins the running one.
    StartJob(String),
    /// `DELETE jobs/NAME`: cancels a job.
    CancelJob(String),
    /// `POST wake`: runs the jobs that are due.
    Wake,
    /// `GET inventory`
    Inventory,
    /// `transfers` and the paths below it.
    Transfer(TransferRoute),
}

impl Route {
    /// Parses the percent-encoded path of a request.
    ///
    /// # Errors
    /// Returns the error that the client is told.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, ControlError> {
        let unknown = || ControlError::not_found("the local API has no endpoint at this path");
        let rest = path.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let rest = percent_decode_str(rest).decode_utf8().map_err(|_| unknown())?;
        if let Some(rest) = rest.strip_prefix("transfers") {
            return match TransferRoute::parse(method, rest) {
                Parsed::Route(route) => Ok(Route::Transfer(route)),
                Parsed::OtherMethod => Err(other_method()),
                Parsed::Unknown => Err(unknown()),
                Parsed::Malformed(error) => Err(error),
            };
        }
        let job = rest.strip_prefix("jobs/").filter(|name| is_job_name(name)).map(ToOwned::to_owned);
        match (method, &*rest, job) {
            (&Method::GET, "status", _) => Ok(Route::Status),
            (&Method::GET, "metrics", _) => Ok(Route::Metrics),
            (&Method::GET, "repositories", _) => Ok(Route::Repositories),
            (&Method::GET, "names", _) => Ok(Route::Names),
            (&Method::GET, "events", _) => Ok(Route::Events),
            (&Method::DELETE, "names", _) => Ok(Route::DeleteNames),
            (&Method::GET, "image", _) => Ok(Route::Image),
            (&Method::GET, "inventory", _) => Ok(Route::Inventory),
            (&Method::GET, "jobs", _) => Ok(Route::Jobs),
            (&Method::GET, _, Some(name)) => Ok(Route::FollowJob(name)),
            (&Method::POST, _, Some(name)) => Ok(Route::StartJob(name)),
            (&Method::DELETE, _, Some(name)) => Ok(Route::CancelJob(name)),
            (&Method::POST, "wake", _) => Ok(Route::Wake),
            (
                _,
                "status" | "metrics" | "repositories" | "names" | "events" | "image" | "inventory" | "jobs"
                | "wake",
                _,
            )
            | (_, _, Some(_)) => Err(other_method()),
            _ => Err(unknown()),
        }
    }
}

fn other_method() -> ControlError {
    let message = "this endpoint does not support this method";
    ControlError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Returns true for a name that a job can have: `gc`, or `sync:RULE`.
fn is_job_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_JOB_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_parsed() {
        let parse = |method: Method, path: &str| Route::parse(&method, path).unwrap();
        assert_eq!(parse(Method::GET, "/_holdfast/v1/status"), Route::Status);
        assert_eq!(parse(Method::GET, "/_holdfast/v1/jobs"), Route::Jobs);
        assert_eq!(parse(Method::DELETE, "/_holdfast/v1/names"), Route::DeleteNames);
        assert_eq!(parse(Method::POST, "/_holdfast/v1/jobs/sync%3Aa"), Route::StartJob("sync:a".into()));
        assert_eq!(parse(Method::POST, "/_holdfast/v1/wake"), Route::Wake);
        assert_eq!(parse(Method::DELETE, "/_holdfast/v1/jobs/gc"), Route::CancelJob("gc".into()));
    }

    #[test]
    fn other_paths_and_methods_have_their_status() {
        let status = |method: Method, path: &str| {
            Route::parse(&method, path).unwrap_err().into_response().status().as_u16()
        };
        assert_eq!(status(Method::GET, "/"), 404);
        assert_eq!(status(Method::GET, "/_holdfast/v2/status"), 404);
        assert_eq!(status(Method::GET, "/_holdfast/v1/status/"), 404);
        assert_eq!(status(Method::GET, "/_holdfast/v1/jobs/a%2Fb"), 404);
        assert_eq!(status(Method::GET, "/_holdfast/v1/jobs/%ff"), 404);
        assert_eq!(status(Method::POST, "/_holdfast/v1/jobs/a%00"), 404);
        assert_eq!(status(Method::POST, &format!("/_holdfast/v1/jobs/{}", "x".repeat(200))), 404);
        assert_eq!(status(Method::POST, "/_holdfast/v1/status"), 405);
        assert_eq!(status(Method::PUT, "/_holdfast/v1/jobs/gc"), 405);
        assert_eq!(status(Method::GET, "/_holdfast/v1/wake"), 405);
    }
}
