//! `transfers`: imports and exports. A transfer is a lease: it holds the content that it needs or has delivered, so that no
//! collection takes it, until it is ended or 15 minutes have passed since its last request.
//!
//! | request | module |
//! |---|---|
//! | `POST transfers`, `DELETE transfers/ID` | `open` |
//! | `POST transfers/ID/need` | `need` |
//! | `PUT`, `POST` and `GET` of `transfers/ID/blobs` | `blobs` |
//! | `PUT transfers/ID/export` | `export` |
//! | `POST transfers/ID/images` | `images`, `signed` |

mod blobs;
mod export;
mod images;
mod need;
mod open;
mod signed;

use http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

pub use self::export::{ExportAnswer, ExportRequest};
pub use self::open::{OpenTransfer, OpenedTransfer, TransferPurpose};

use super::body::Body;
use super::error::ControlError;
use super::request::{MAX_JSON, Request};
use crate::oci::Digest;
use crate::store::{Purpose, StoreError, Transfer, TransferError};

/// An endpoint of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TransferRoute {
    /// `POST transfers`
    Open,
    /// `DELETE transfers/ID`
    End(Uuid),
    /// `POST transfers/ID/need`
    Need(Uuid),
    /// `POST transfers/ID/blobs`
    PostBlob(Uuid),
    /// `PUT transfers/ID/blobs/DIGEST`
    PutBlob(Uuid, Digest),
    /// `GET transfers/ID/blobs/DIGEST`
    GetBlob(Uuid, Digest),
    /// `PUT transfers/ID/export`
    Export(Uuid),
    /// `POST transfers/ID/images`
    Images(Uuid),
}

/// The result of parsing the rest of a path behind `transfers`.
pub(super) enum Parsed {
    Route(TransferRoute),
    /// The path exists, but not with this method.
    OtherMethod,
    Unknown,
    /// The path has a malformed digest.
    Malformed(ControlError),
}

impl TransferRoute {
    /// Parses the path behind `transfers`: empty, or with a slash first.
    pub(super) fn parse(method: &http::Method, path: &str) -> Parsed {
        use http::Method;
        let only = |wanted: &Method, route| {
            if method == wanted { Parsed::Route(route) } else { Parsed::OtherMethod }
        };
        if path.is_empty() {
            return only(&Method::POST, TransferRoute::Open);
        }
        let Some((id, rest)) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, "")))
        else {
            return Parsed::Unknown;
        };
        let Ok(id) = Uuid::try_parse(id) else { return Parsed::Unknown };
        match rest {
            "" if !path.ends_with('/') => only(&Method::DELETE, TransferRoute::End(id)),
            "need" => only(&Method::POST, TransferRoute::Need(id)),
            "blobs" => only(&Method::POST, TransferRoute::PostBlob(id)),
            "export" => only(&Method::PUT, TransferRoute::Export(id)),
            "images" => only(&Method::POST, TransferRoute::Images(id)),
            _ => match rest.strip_prefix("blobs/").map(str::parse::<Digest>) {
                Some(Ok(digest)) if method == Method::PUT => {
                    Parsed::Route(TransferRoute::PutBlob(id, digest))
                }
                Some(Ok(digest)) => only(&Method::GET, TransferRoute::GetBlob(id, digest)),
                Some(Err(error)) => Parsed::Malformed(ControlError::new(
                    StatusCode::BAD_REQUEST,
                    "digest_invalid",
                    error.to_string(),
                )),
                None => Parsed::Unknown,
            },
        }
    }
}

/// Answers a request.
pub(super) async fn answer(
    request: Request,
    route: TransferRoute,
) -> Result<http::Response<Body>, ControlError> {
    match route {
        TransferRoute::Open => open::open(request).await,
        TransferRoute::End(id) => open::end(&request, id),
        TransferRoute::Need(id) => need::need(request, id).await,
        TransferRoute::PostBlob(id) => blobs::post(request, id).await,
        TransferRoute::PutBlob(id, digest) => blobs::put(request, id, digest).await,
        TransferRoute::GetBlob(id, digest) => blobs::get(&request, id, &digest).await,
        TransferRoute::Export(id) => export::export(request, id).await,
        TransferRoute::Images(id) => images::images(request, id).await,
    }
}

/// Refuses content that the registry would not name: before its first byte, because a client may remove its own copy.
fn check_accepts(request: &Request, purpose: Purpose) -> Result<(), ControlError> {
    match purpose {
        Purpose::Export => Ok(()),
        Purpose::Import => Ok(request.host.registry().check_may_push()?),
        Purpose::Move => {
            request.host.registry().check_may_push()?;
            if request.host.signers().is_none() {
                return Ok(());
            }
            let message = "adopt cannot be used while import.signers is set";
            Err(ControlError::new(StatusCode::FORBIDDEN, "unsigned", message))
        }
    }
}

/// The maximum length of a body that is read without a permit of [`LargeBodies`](super::request::LargeBodies), in bytes.
const SMALL: u64 = 1 << 20;

/// Reads a JSON body of up to 32 MiB, and parses it on a thread of the store. The second value is dropped once the result is
/// no longer in memory.
async fn large_json<T: DeserializeOwned + Send + 'static>(
    request: &mut Request,
    transfer: &Transfer,
) -> Result<(T, Option<OwnedSemaphorePermit>), ControlError> {
    let is_small = request.body.announced().is_some_and(|length| length <= SMALL);
    let permit = if is_small { None } else { request.large_bodies.acquire().await };
    let bytes = request.body.collect(MAX_JSON).await?;
    let parsed = transfer.compute(move || serde_json::from_slice(&bytes)).await?;
    let malformed = |error| ControlError::malformed(format!("the body is not the expected JSON: {error}"));
    Ok((parsed.map_err(malformed)?, permit))
}

impl From<TransferError> for ControlError {
    fn from(error: TransferError) -> Self {
        let message = error.to_string();
        match error {
            TransferError::Unknown => ControlError::new(StatusCode::NOT_FOUND, "transfer_unknown", message)
                .with_hint("open a new transfer and ask again what is needed"),
            TransferError::TooMany => ControlError::new(StatusCode::TOO_MANY_REQUESTS, "busy", message),
            TransferError::TooManyDigests => {
                ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many", message)
            }
            TransferError::Full { .. } => {
                ControlError::new(StatusCode::INSUFFICIENT_STORAGE, "full", message)
                    .with_hint("delete images that are not needed and collect, or import fewer images")
            }
            TransferError::Store(error @ (StoreError::Full | StoreError::Quota)) => {
                ControlError::new(StatusCode::INSUFFICIENT_STORAGE, "full", error.to_string())
            }
            TransferError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn paths_are_parsed() {
        let id = Uuid::nil();
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let parse = |method: Method, path: &str| match TransferRoute::parse(&method, path) {
            Parsed::Route(route) => format!("{route:?}"),
            Parsed::OtherMethod => "405".into(),
            Parsed::Unknown => "404".into(),
            Parsed::Malformed(_) => "400".into(),
        };
        let blob = format!("/{id}/blobs/{digest}");
        assert_eq!(parse(Method::POST, ""), "Open");
        assert_eq!(parse(Method::GET, ""), "405");
        assert_eq!(parse(Method::DELETE, &format!("/{id}")), format!("End({id})"));
        assert_eq!(parse(Method::POST, &format!("/{id}/need")), format!("Need({id})"));
        assert_eq!(parse(Method::PUT, &blob), format!("PutBlob({id}, {digest})"));
        assert_eq!(parse(Method::GET, &blob), format!("GetBlob({id}, {digest})"));
        assert_eq!(parse(Method::DELETE, &blob), "405");
        assert_eq!(parse(Method::POST, &format!("/{id}/blobs")), format!("PostBlob({id})"));
        assert_eq!(parse(Method::PUT, &format!("/{id}/blobs/sha256:x")), "400");
        for path in ["/", "/x", "s", &format!("/{id}/"), &format!("/{id}/x"), &format!("/{id}/need/")] {
            assert_eq!(parse(Method::POST, path), "404", "{path}");
        }
    }
}
