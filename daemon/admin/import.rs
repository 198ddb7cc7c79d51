//! The upload of an archive of images: the form, and its result.
//!
//! The form is `multipart/form-data`: the CSRF token is its first field and the file the last, which is imported while it arrives
//! and is never in memory or on the disk as a whole. Images get their names once the form has ended in good order.

mod form;

use askama::Template;

use self::form::{Upload, receive};
use super::assets;
use super::error::AdminError;
use super::format::short_digest;
use super::limits::{SENTENCE, TEXT, shorten};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Action, Identity};
use crate::base::human::{count, size};
use crate::oci::{ErrorCode, Problem, ProblemKind};
use crate::transfer::{ImportError, Outcome, Report, Row, SinkError};
use crate::wire::{RequestBody, Response};

/// The images on the page of a result; the others are counted.
const ROWS: usize = 30;

#[derive(Template)]
#[template(path = "import.html")]
struct Page {
    frame: Frame,
    upload_script: &'static str,
}

impl Page {
    fn new(frame: Frame) -> Self {
        Page { frame, upload_script: assets::upload_script() }
    }
}

#[derive(Template)]
#[template(path = "import_result.html")]
struct ResultPage {
    frame: Frame,
    archive: String,
    /// True if every image was imported.
    is_done: bool,
    /// The counts of the outcomes.
    summary: String,
    rows: Vec<ResultRow>,
    /// The number of images that are not on the page.
    more: usize,
    stored: String,
    signer: Option<String>,
}

struct ResultRow {
    name: String,
    /// The address of the image, if it is in the registry and not too long.
    link: Option<String>,
    outcome: &'static str,
    digest: String,
    remark: String,
}

/// Shows the form.
pub(super) fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    render(OK, &Page::new(Frame::new(request, "push")))
}

/// Imports the archive of the form.
pub(super) async fn import(request: &AdminRequest<'_>, body: RequestBody) -> Result<Response, AdminError> {
    let form = request.check_upload()?;
    check_may(request)?;
    let Upload { archive, report } = receive(request, form, body).await?;
    let report = report.map_err(|error| failed(&error))?;
    render(OK, &result(Frame::new(request, "push"), &archive, &report))
}

/// Refuses users who may push nothing.
fn check_may(request: &AdminRequest<'_>) -> Result<(), AdminError> {
    if may_push(request) {
        return Ok(());
    }
    Err(match request.identity {
        Identity::Anonymous | Identity::Local(_) => AdminError::NeedsLogin,
        Identity::User(_) => AdminError::Denied("This user may not push images."),
    })
}

/// Returns true if the user may push to some repository.
pub(super) fn may_push(request: &AdminRequest<'_>) -> bool {
    request.own_permit().is_ok_and(|permit| permit.may_somewhere(Action::Push))
}

/// The error of an import that ended before its images.
fn failed(error: &ImportError) -> AdminError {
    let text = shorten(&error.to_string(), SENTENCE);
    let problem = |kind, code| Problem::new(kind, code, text.as_str()).into();
    match error {
        ImportError::Source(_) | ImportError::Usage(_) | ImportError::Empty(_) => AdminError::Invalid(text),
        ImportError::Unsigned(_) | ImportError::Sink(SinkError::Denied(_)) => {
            problem(ProblemKind::Forbidden, ErrorCode::Denied)
        }
        ImportError::Sink(SinkError::Full(_)) => problem(ProblemKind::NoSpace, ErrorCode::Denied),
        ImportError::Sink(SinkError::Refused(_)) => {
            problem(ProblemKind::InputInvalid, ErrorCode::Unsupported)
        }
        ImportError::Sink(SinkError::Disconnected(_) | SinkError::Interrupted) => {
            Problem::unavailable(text).into()
        }
    }
}

fn result(frame: Frame, archive: &str, report: &Report) -> ResultPage {
    let mut images: Vec<&Row> = report.images.iter().collect();
    // The sort is stable: failures come first.
    images.sort_by_key(|row| row.outcome.is_done());
    let signer = report.signer.as_ref().map(|signer| shorten(signer, TEXT));
    ResultPage {
        frame,
        archive: shorten(archive, TEXT),
        is_done: crate::intake::is_done(report),
        summary: crate::intake::summary(report),
        more: images.len().saturating_sub(ROWS),
        rows: images.into_iter().take(ROWS).map(row).collect(),
        stored: format!(
            "{} stored ({}), {} already there",
            count(report.blobs, "blob"),
            size(report.bytes),
            count(report.present, "blob")
        ),
        signer,
    }
}

fn row(row: &Row) -> ResultRow {
    let is_there = match row.outcome {
        Outcome::Taken | Outcome::Present | Outcome::Moved | Outcome::Kept => true,
        Outcome::Missing | Outcome::Refused => false,
    };
    ResultRow {
        link: (is_there && row.name.len() <= TEXT).then(|| format!("/image/{}", row.name)),
        name: shorten(&row.name, TEXT),
        outcome: row.outcome.as_str(),
        digest: row.digest.as_ref().map(short_digest).unwrap_or_default(),
        remark: shorten(&remark(row), TEXT),
    }
}

fn remark(row: &Row) -> String {
    if let Some(first) = row.missing.first() {
        let more = match row.missing.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!("lacks {}{more}", first.digest);
    }
    let reason = row.reason.as_deref().map(|reason| shorten(reason, SENTENCE)).unwrap_or_default();
    match &row.old {
        Some(old) if row.outcome == Outcome::Moved => format!("was {}", short_digest(old)),
        Some(old) if row.outcome == Outcome::Kept => format!("still {}: {reason}", short_digest(old)),
        Some(_) | None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;
    use crate::transfer::Item;

    #[test]
    fn largest_pages_are_small() {
        worst_case::assert_small(&Page::new(worst_case::frame()));
        for text in worst_case::texts() {
            let row = |number: usize| Row {
                name: if number.is_multiple_of(2) {
                    format!("{}:1", &worst_case::name(number).as_str()[..150])
                } else {
                    text.clone()
                },
                digest: Some(worst_case::digest()),
                outcome: Outcome::Kept,
                reason: Some(text.clone()),
                old: Some(worst_case::digest()),
                missing: [].into(),
            };
            let images = (0..600).map(row).collect();
            let report = Report {
                images,
                signer: Some(text.clone()),
                bytes: u64::MAX,
                blobs: u64::MAX,
                ..Report::default()
            };
            worst_case::assert_small(&result(worst_case::frame(), &text, &report));
        }
    }

    #[test]
    fn failures_come_first_with_their_reasons() {
        let refused = Row::refused("b:1", None, "it has no name in the archive; give it a name in the form");
        let taken = Row { outcome: Outcome::Taken, reason: None, ..Row::refused("a:1", None, "") };
        let lacking = Row {
            outcome: Outcome::Missing,
            missing: vec![Item { digest: worst_case::digest(), size: None }; 3].into(),
            ..taken.clone()
        };
        let report = Report { images: vec![taken, lacking, refused], ..Report::default() };
        let page = result(worst_case::frame(), "x.tar", &report);
        let outcomes: Vec<_> = page.rows.iter().map(|row| row.outcome).collect();
        assert_eq!(outcomes, ["missing", "refused", "taken"]);
        assert!(page.rows[0].remark.ends_with("and 2 more"));
        assert_eq!(page.rows[1].remark, "it has no name in the archive; give it a name in the form");
        assert_eq!((page.rows[2].link.as_deref(), page.is_done), (Some("/image/a:1"), false));
        assert_eq!(page.summary, "1 taken, 1 missing, 1 refused");
    }
}
