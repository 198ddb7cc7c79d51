//! `POST transfers` and `DELETE transfers/ID`.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::super::body::Body;
use super::super::error::ControlError;
use super::super::request::Request;
use super::check_accepts;
use crate::store::Purpose;

/// The maximum length of the body, in bytes.
const MAX_BODY: usize = 4096;

/// The body of a request that opens a transfer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OpenTransfer {
    /// The purpose.
    pub purpose: TransferPurpose,
}

/// The purpose of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferPurpose {
    /// Content comes in.
    Import,
    /// As an import, and the content is removed from the same disk as it is admitted.
    Move,
    /// Content is read.
    Export,
}

/// The answer to [`OpenTransfer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenedTransfer {
    /// The id of the transfer, a UUID.
    pub id: String,
}

/// Opens a transfer.
pub(super) async fn open(mut request: Request) -> Result<http::Response<Body>, ControlError> {
    let OpenTransfer { purpose } = request.json(MAX_BODY).await?;
    let purpose = match purpose {
        TransferPurpose::Import => Purpose::Import,
        TransferPurpose::Move => Purpose::Move,
        TransferPurpose::Export => Purpose::Export,
    };
    check_accepts(&request, purpose)?;
    let id = request.host.store().open_transfer(purpose)?;
    let mut response = Body::json(&OpenedTransfer { id: id.to_string() });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Ends a transfer.
pub(super) fn end(request: &Request, id: Uuid) -> Result<http::Response<Body>, ControlError> {
    request.host.store().end_transfer(id)?;
    Ok(Body::json(&json!({})))
}
