//! `PUT transfers/ID/export`: the list of contents of an export, and its signature.
//!
//! Where `import.signers` is set, nothing is named without a valid signature, and only what the signed lists name (`signed`).

use std::fmt::Display;
use std::path::Path;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::body::Body;
use super::super::error::ControlError;
use super::super::request::Request;
use super::large_json;
use crate::base::clock::unix_seconds;
use crate::store::{SignedList, SignedRoot};
use crate::transfer::content_list::{ContentList, ListedRoot};
use crate::transfer::signature::AllowedSigners;
use crate::transfer::signers_file;

/// The body of the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportRequest {
    /// The exact text of `export.json`.
    pub content: String,
    /// Its signature.
    #[serde(default)]
    pub signature: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportAnswer {
    /// The principals of the signer; `None` if the signature was not checked.
    pub signer: Option<String>,
}

/// Accepts the list of contents.
pub(super) async fn export(mut request: Request, id: Uuid) -> Result<http::Response<Body>, ControlError> {
    let transfer = request.host.store().transfer(id)?;
    let (ExportRequest { content, signature }, _permit) = large_json(&mut request, &transfer).await?;
    let signers = request.host.signers();
    let checked = transfer.compute(move || check(&content, signature.as_deref(), signers.as_deref()));
    let signer = match checked.await?? {
        None => None,
        Some((list, signer)) => {
            transfer.permit(list)?;
            Some(signer)
        }
    };
    Ok(Body::json(&ExportAnswer { signer }))
}

/// Parses the list and checks its signature, if there are signers; blocking.
fn check(
    content: &str,
    signature: Option<&str>,
    signers: Option<&Path>,
) -> Result<Option<(SignedList, String)>, ControlError> {
    let Some(file) = signers else {
        parse(content)?;
        return Ok(None);
    };
    let signature = signature.ok_or_else(unsigned)?;
    let verified = read_signers(file)?.verify(content.as_bytes(), signature, unix_seconds());
    let signer = verified.map_err(|error| forbidden("bad_signature", error.to_string()))?;
    Ok(Some((signed_list(parse(content)?)?, signer)))
}

fn parse(content: &str) -> Result<ContentList, ControlError> {
    ContentList::parse(content.as_bytes()).map_err(|error| ControlError::malformed(error.to_string()))
}

fn read_signers(file: &Path) -> Result<AllowedSigners, ControlError> {
    signers_file::read(file).map_err(|error| {
        let message = format!("cannot read the allowed signers {} (import.signers): {error}", file.display());
        ControlError::new(StatusCode::INTERNAL_SERVER_ERROR, "signers", message)
    })
}

/// Returns the part of a list that limits what the transfer names.
fn signed_list(list: ContentList) -> Result<SignedList, ControlError> {
    let malformed =
        |error: &dyn Display| ControlError::malformed(format!("export.json is malformed: {error}"));
    let registry = list.from.registry.as_deref().map(Uuid::try_parse).transpose();
    let root = |root: ListedRoot| {
        Ok(SignedRoot {
            repository: root.repository.parse().map_err(|error| malformed(&error))?,
            tag: root.tag.map(|tag| tag.parse()).transpose().map_err(|error| malformed(&error))?,
            digest: root.digest,
            pushed: root.pushed,
        })
    };
    Ok(SignedList {
        registry: registry.map_err(|error| malformed(&error))?,
        content: list.digests().cloned().collect(),
        roots: list.roots.into_iter().map(root).collect::<Result<_, ControlError>>()?,
    })
}

pub(super) fn unsigned() -> ControlError {
    let message = "only signed exports are imported (import.signers), and this one has no signature";
    forbidden("unsigned", message.into()).with_hint("sign it: holdfast export --sign KEY")
}

pub(super) fn forbidden(code: &str, message: String) -> ControlError {
    ControlError::new(StatusCode::FORBIDDEN, code, message)
}
