//! The frame around every page, the pages for errors, and the rendering of templates.

use std::fmt;

use askama::Template;
use askama::filters::Safe;
use bytes::Bytes;
use http::StatusCode;

use super::assets;
use super::error::AdminError;
use super::limits::{SENTENCE, shorten};
use super::request::AdminRequest;
use super::response::see_other;
use super::theme::Theme;
use crate::access::{Identity, Operation};
use crate::base::clock;
use crate::base::human::count;
use crate::store::{Amount, WaitingContent};
use crate::wire::{Query, Response, with_bytes};

/// The header, menu and footer around a page.
pub(super) struct Frame {
    /// The name of the registry.
    pub(super) title: String,
    /// The menu entry of this page.
    pub(super) here: &'static str,
    /// The logged-in user.
    pub(super) user: Option<String>,
    /// The CSRF token of the forms.
    pub(super) token: String,
    /// True if the user sees the menu.
    pub(super) sees_menu: bool,
    /// True if the menu has the entries that not every user has.
    pub(super) users: bool,
    pub(super) maintenance: bool,
    /// The interval at which a browser without script reloads the page, in seconds.
    pub(super) refresh: Option<u32>,
    /// The form that frees the waiting content of the notice, for users who may.
    pub(super) free: Option<&'static str>,
    /// The result of the form that led to this page.
    pub(super) notice: Option<String>,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    /// The logo, which also is the icon of the browser's tab.
    pub(super) mark: &'static str,
    /// The file with the drawings of all icons.
    pub(super) icons: &'static str,
    pub(super) theme: Theme,
    /// The text of the search field, on the page with its results.
    pub(super) searched: String,
    /// The wall clock of the registry, which the script compares with the browser's.
    pub(super) now: u64,
    pub(super) version: &'static str,
}

impl Frame {
    /// Returns the frame of the page with the menu entry `here`.
    pub(super) fn new(request: &AdminRequest, here: &'static str) -> Self {
        let [style, script, mark, icons] = assets::paths();
        let user = match &request.identity {
            Identity::User(name) => Some(name.to_string()),
            Identity::Anonymous | Identity::Local(_) => None,
        };
        let sees_menu = request.check_access().is_ok();
        let result = request.result();
        Frame {
            title: request.admin.settings.title.clone(),
            here,
            token: request.token(),
            sees_menu,
            users: sees_menu && request.may(&Operation::Users),
            maintenance: sees_menu && request.may(&Operation::Maintenance),
            user,
            refresh: None,
            free: (sees_menu
                && result.is_some_and(|result| waiting(result).is_some())
                && request.may(&Operation::Maintenance))
            .then_some("/maintenance/free"),
            notice: result.and_then(notice).or_else(|| logged_out(request)),
            style,
            script,
            mark,
            icons,
            theme: request.theme(),
            searched: String::new(),
            now: clock::unix_seconds(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Returns the drawing of an icon, for a template: `{{ frame.draw("tag") }}`. The text beside it says the same.
    pub(super) fn draw(&self, icon: &'static str) -> Safe<Icon> {
        Safe(Icon { file: self.icons, id: icon })
    }

    /// Returns the choices of the theme: each with its label, and true for the one in use.
    pub(super) fn themes(&self) -> [(Theme, &'static str, bool); 3] {
        [(Theme::System, "System"), (Theme::Light, "Light"), (Theme::Dark, "Dark")]
            .map(|(theme, label)| (theme, label, theme == self.theme))
    }

    /// Returns true if the menu has the activity of other users.
    pub(super) fn activity(&self) -> bool {
        self.sees_menu && (self.user.is_some() || self.maintenance)
    }
}

/// An icon of `icons.svg`.
pub(super) struct Icon {
    file: &'static str,
    id: &'static str,
}

impl fmt::Display for Icon {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Icon { file, id } = self;
        write!(out, "<svg class=\"icon\" aria-hidden=\"true\"><use href=\"/assets/{file}#{id}\"/></svg>")
    }
}

/// Returns the notice after a log-out, which has no session left to seal it: it is shown to clients that are logged out.
fn logged_out(request: &AdminRequest) -> Option<String> {
    let is_logged_out =
        request.identity == Identity::Anonymous && request.query.get("done") == Some("logged-out");
    is_logged_out.then(|| "You are logged out.".into())
}

/// Returns the notice for the parameter `done`, which the redirect after a form sets and seals.
fn notice(query: &Query) -> Option<String> {
    let number = |name| query.get(name).and_then(|number| number.parse().ok()).unwrap_or(0);
    Some(match query.get("done")? {
        "deleted" => deleted(number("count"), number("moved"), waiting(query)),
        "repository-deleted" => match waiting(query) {
            Some(waiting) => format!("Repository deleted. {waiting}."),
            None => "Repository deleted. A collection frees its content after the grace period.".into(),
        },
        "partly-deleted" => {
            format!("{} deleted so far. Delete again to continue.", count(number("count"), "manifest"))
        }
        "deleted-manifests" => deleted_manifests(number("count"), number("moved")),
        "copied" => "Copied. No content was moved.".into(),
        "added" => "User added.".into(),
        "password" => "Password changed.".into(),
        "removed" => "User removed.".into(),
        "rule" => "Rule saved. It is in effect.".into(),
        "rule-removed" => "Rule removed.".into(),
        "name-added" => "Name added. The certificate includes it now; connect again to see it.".into(),
        "name-removed" => "Name removed. The certificate no longer includes it.".into(),
        "own-password" => "Your password is changed. All your other sessions are logged out.".into(),
        "started" => "Started.".into(),
        "joined" => "Already running: this page shows its progress.".into(),
        "busy" => "A collection or check is already running. Try again when it has finished.".into(),
        "cancelled" => "Cancelled. The job ends at its next safe point.".into(),
        "ended" => "The job had already ended.".into(),
        _ => return None,
    })
}

/// Returns the parameters by which a notice describes waiting content.
pub(super) fn waiting_parameters(waiting: &WaitingContent) -> String {
    let WaitingContent { manifests, blobs, at_least, from, until } = waiting;
    let least = if *at_least { "&least=yes" } else { "" };
    let numbers = format!("&manifests={manifests}&blobs={}&bytes={}{least}", blobs.count, blobs.bytes);
    let time = |name: &str, time: &Option<u64>| time.map_or(String::new(), |time| format!("&{name}={time}"));
    numbers + &time("from", from) + &time("until", until)
}

/// Reads the parameters of [`waiting_parameters`], and returns the sentence for them.
fn waiting(query: &Query) -> Option<String> {
    let number = |name| query.get(name)?.parse::<u64>().ok();
    let blobs = Amount { count: number("blobs")?, bytes: number("bytes")? };
    let (from, until) = (number("from"), number("until"));
    let at_least = query.get("least").is_some();
    WaitingContent { manifests: number("manifests")?, blobs, at_least, from, until }.sentence()
}

fn deleted_manifests(number: u32, kept: u32) -> String {
    let deleted = format!("{} deleted.", count(number, "manifest"));
    match kept {
        0 => format!("{deleted} A collection frees their content after the grace period."),
        _ => format!("{deleted} {} kept, with a tag or as a part of another image.", count(kept, "manifest")),
    }
}

fn deleted(number: u32, moved: u32, waiting: Option<String>) -> String {
    let deleted = format!("{} deleted.", count(number, "tag"));
    match moved {
        0 => match waiting {
            Some(waiting) => format!("{deleted} {waiting}."),
            None => {
                format!("{deleted} Collections free what is no longer referenced, after its grace period.")
            }
        },
        1 => format!("{deleted} 1 tag was kept: it now names a different image from the one you confirmed."),
        _ => format!(
            "{deleted} {moved} tags were kept: they now name different images from those you confirmed."
        ),
    }
}

/// Renders a template.
pub(super) fn render(status: StatusCode, template: &impl Template) -> Result<Response, AdminError> {
    let html = template.render();
    let html = html.map_err(|error| AdminError::Internal(format!("cannot render a page: {error}")))?;
    Ok(with_bytes(status, "text/html; charset=utf-8", Bytes::from(html)))
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Failure {
    frame: Frame,
    heading: &'static str,
    text: String,
}

/// Returns the response for an error: the page that describes it, or the redirect to the log-in form.
pub(super) fn failure(request: &AdminRequest, error: &AdminError) -> Response {
    if let AdminError::NeedsLogin = error {
        let encoded = |path: &str| form_urlencoded::byte_serialize(path.as_bytes()).collect::<String>();
        let next = request.return_path().map(|path| format!("/login?next={}", encoded(path)));
        return see_other(&next.unwrap_or_else(|| "/login".into()));
    }
    if let AdminError::BeyondLastPage(last) = error {
        return see_other(last);
    }
    let (status, heading, text) = error.shape();
    let page = Failure { frame: Frame::new(request, ""), heading, text: shorten(&text, SENTENCE) };
    let mut response = render(status, &page).unwrap_or_else(|error| {
        error.log(request.context.client);
        error.plain()
    });
    error.set_headers(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_error_page_is_small() {
        for text in worst_case::texts() {
            let page =
                Failure { frame: worst_case::frame(), heading: "Heading", text: shorten(&text, SENTENCE) };
            worst_case::assert_small(&page);
        }
    }
}
