//! The form with the archive, while it arrives.

use bytes::Bytes;

use super::super::error::AdminError;
use super::super::importer::UploadedArchive;
use super::super::request::AdminRequest;
use crate::access::{Action, Operation};
use crate::base::human::printable;
use crate::intake::{ByteSender, Multipart, MultipartError, Piece, byte_stream};
use crate::oci::{ErrorCode, Problem, ProblemKind, RepositoryName};
use crate::transfer::{ImportError, Report, TargetName};
use crate::wire::{ApiError, RequestBody};

/// The longest field but for the file, in bytes: a repository name with a tag fits.
const MAX_FIELD: usize = 512;
/// The most bytes of a form of unknown length that are read after an error.
const UNANNOUNCED: u64 = 1 << 30;
/// The most fields before the file.
const MAX_FIELDS: usize = 8;

/// An upload that has ended.
pub(super) struct Upload {
    /// The name of the file.
    pub(super) archive: String,
    pub(super) report: Result<Report, ImportError>,
}

/// The fields before the file.
#[derive(Default)]
struct Fields {
    name: String,
    prefix: String,
    moves_tags: bool,
}

/// The bytes of a form as they arrive.
struct Form {
    body: RequestBody,
    multipart: Multipart,
}

impl Form {
    /// Returns the next piece.
    async fn next(&mut self) -> Result<Piece, AdminError> {
        loop {
            match self.multipart.take() {
                Ok(Some(piece)) => return Ok(piece),
                Ok(None) => match self.body.chunk().await? {
                    Some(bytes) => self.multipart.push(&bytes),
                    None => {
                        return Err(malformed(
                            self.multipart.finish().err().unwrap_or(MultipartError::Truncated),
                        ));
                    }
                },
                Err(error) => return Err(malformed(error)),
            }
        }
    }

    /// Reads the rest, so that the browser sees the answer: it looks for one only after the last byte.
    async fn drain(&mut self) {
        let mut rest = self.body.announced().unwrap_or(UNANNOUNCED);
        while let Ok(Some(bytes)) = self.body.chunk().await {
            rest = rest.saturating_sub(bytes.len() as u64);
            if rest == 0 {
                break;
            }
        }
    }

    /// Reads a short field.
    async fn text(&mut self) -> Result<String, AdminError> {
        let mut text = Vec::new();
        loop {
            match self.next().await? {
                Piece::Content(bytes) if text.len() + bytes.len() <= MAX_FIELD => {
                    text.extend_from_slice(&bytes);
                }
                Piece::EndOfField => return Ok(String::from_utf8_lossy(&text).trim().to_owned()),
                Piece::Content(_) => return Err(ApiError::too_large(MAX_FIELD).into()),
                Piece::Field { .. } | Piece::End => return Err(malformed(MultipartError::Malformed)),
            }
        }
    }
}

fn malformed(error: MultipartError) -> AdminError {
    Problem::new(ProblemKind::Malformed, ErrorCode::Unsupported, error.to_string()).into()
}

fn no_archive() -> AdminError {
    AdminError::Invalid("Choose an archive first.".into())
}

/// Receives the form, and imports its file while it arrives.
pub(super) async fn receive(
    request: &AdminRequest<'_>,
    multipart: Multipart,
    body: RequestBody,
) -> Result<Upload, AdminError> {
    let mut form = Form { body, multipart };
    let received = receive_form(request, &mut form).await;
    match &received {
        // A web page of another site, or a client that is not logged in.
        Err(AdminError::Forged(_) | AdminError::NeedsLogin) => {}
        Ok(_) | Err(_) => form.drain().await,
    }
    received
}

async fn receive_form(request: &AdminRequest<'_>, form: &mut Form) -> Result<Upload, AdminError> {
    let (fields, archive) = read_fields(request, form).await?;
    let Some(importer) = request.admin.state.importer.get() else {
        return Err(Problem::unavailable("the registry is starting; try again").into());
    };
    // Bounds the memory and the disk of uploads.
    let _place = request.admin.state.uploads.try_acquire(&request.holder()).ok_or_else(|| {
        let text =
            "another archive is being uploaded by you, or four by other users; try again when one has ended";
        AdminError::from(Problem::new(ProblemKind::Conflict, ErrorCode::Denied, text))
    })?;
    let first = match form.next().await? {
        Piece::Content(bytes) => bytes,
        // Browsers send an empty file if none was chosen.
        Piece::EndOfField => return Err(no_archive()),
        Piece::Field { .. } | Piece::End => return Err(malformed(MultipartError::Malformed)),
    };
    let (sender, content) = byte_stream();
    let only_name = only_name(request, &fields.name)?;
    let uploaded = UploadedArchive {
        name: archive.clone(),
        content,
        only_name,
        prefix: prefix(&fields.prefix)?,
        moves_tags: fields.moves_tags,
        permit: request.own_permit()?,
        has_full_rights: request.may(&Operation::Maintenance),
        client: request.context.client,
    };
    let (report, forwarded) = tokio::join!(importer.import(uploaded), forward(form, first, sender));
    // The reason of the form is better than that of the engine, which saw a stream that broke.
    forwarded?;
    Ok(Upload { archive, report })
}

/// Reads the fields before the file; the first one has to be the CSRF token. Returns them with the name of the file.
async fn read_fields(request: &AdminRequest<'_>, form: &mut Form) -> Result<(Fields, String), AdminError> {
    match form.next().await? {
        Piece::Field { name, file: None } if name == "token" => request.check_token(&form.text().await?)?,
        Piece::Field { .. } | Piece::Content(_) | Piece::EndOfField | Piece::End => {
            request.check_token("")?;
        }
    }
    let mut fields = Fields::default();
    for _ in 0..MAX_FIELDS {
        match form.next().await? {
            Piece::Field { name, file: Some(file) } if name == "file" => {
                return Ok((fields, file_name(&file)));
            }
            Piece::Field { name, file: _ } => {
                let text = form.text().await?;
                match name.as_str() {
                    "name" => fields.name = text,
                    "prefix" => fields.prefix = text,
                    "move" => fields.moves_tags = true,
                    _ => {}
                }
            }
            Piece::End => return Err(no_archive()),
            Piece::Content(_) | Piece::EndOfField => return Err(malformed(MultipartError::Malformed)),
        }
    }
    Err(malformed(MultipartError::Malformed))
}

/// Returns the last component of the path that a browser sends.
fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() { "the archive".into() } else { printable(name) }
}

fn only_name(request: &AdminRequest<'_>, text: &str) -> Result<Option<TargetName>, AdminError> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = TargetName::parse(text).map_err(|error| AdminError::Invalid(format!("Name: {error}.")))?;
    // Before the first byte of the file.
    request.check(Action::Push, &name.repository)?;
    Ok(Some(name))
}

/// Returns the folder with its slash.
fn prefix(text: &str) -> Result<String, AdminError> {
    let folder = text.trim_end_matches('/');
    if folder.is_empty() {
        return Ok(String::new());
    }
    let name: Result<RepositoryName, _> = folder.parse();
    name.map(|name| format!("{name}/")).map_err(|error| AdminError::Invalid(format!("Folder: {error}.")))
}

/// Forwards the file to the engine. The stream ends in good order only with the form, so that nothing of a form that breaks gets a
/// name.
async fn forward(form: &mut Form, first: Bytes, sender: ByteSender) -> Result<(), AdminError> {
    match forward_file(form, first, &sender).await {
        Ok(Forwarded::Whole) => sender.finish().await,
        // The engine has failed, and says why.
        Ok(Forwarded::Unwanted) => {}
        Err(error) => {
            sender.fail("the upload ended early").await;
            return Err(error);
        }
    }
    Ok(())
}

enum Forwarded {
    Whole,
    Unwanted,
}

async fn forward_file(form: &mut Form, first: Bytes, sender: &ByteSender) -> Result<Forwarded, AdminError> {
    let mut next = Piece::Content(first);
    while let Piece::Content(bytes) = next {
        if !sender.send(bytes).await {
            return Ok(Forwarded::Unwanted);
        }
        next = form.next().await?;
    }
    match form.next().await? {
        Piece::End => Ok(Forwarded::Whole),
        Piece::Field { .. } | Piece::Content(_) | Piece::EndOfField => Err(AdminError::Invalid(
            "The file has to be the only one, and the last field of the form.".into(),
        )),
    }
}
