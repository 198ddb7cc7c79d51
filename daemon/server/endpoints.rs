//! The endpoint under which the metrics and the access log count a request.

use crate::metrics::Endpoint;
use crate::wire::Route;

/// Returns the endpoint of a path for supervisors: health checks and metrics.
pub(super) fn for_supervisors(path: &str) -> Option<Endpoint> {
    match path {
        "/healthz" | "/readyz" => Some(Endpoint::Health),
        "/metrics" => Some(Endpoint::Metrics),
        _ => None,
    }
}

/// Returns the endpoint of a route of the API.
pub(super) fn of_route(route: &Route) -> Endpoint {
    match route {
        Route::Ping => Endpoint::Ping,
        Route::Catalog => Endpoint::Catalog,
        Route::Tags(_) => Endpoint::Tags,
        Route::GetManifest(..) | Route::PutManifest(..) | Route::DeleteManifest(..) => Endpoint::Manifest,
        Route::GetBlob(..) | Route::DeleteBlob(..) => Endpoint::Blob,
        Route::StartUpload(_)
        | Route::UploadStatus(..)
        | Route::PatchUpload(..)
        | Route::PutUpload(..)
        | Route::CancelUpload(..) => Endpoint::Upload,
        Route::Referrers(..) => Endpoint::Referrers,
    }
}
