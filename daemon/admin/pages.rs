//! What all pages have: the frame around them, and lists in pages.

use askama::Template;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};

use super::error::AdminError;
use super::visit::Visit;
use super::{assets, words};
use crate::access::{Identity, Wanted};
use crate::wire::{Query, Response, with_bytes};

/// What a page may load and do.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Sets the headers that keep this page safe from other pages and out of shared caches. Stored content that is shown
/// as it is has a stricter policy already.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // For browsers that do not know frame-ancestors.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Forms are checked by Origin or Referer: "no-referrer" would take both away.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The frame around a page.
pub(super) struct Frame {
    /// What the registry is called.
    pub(super) title: String,
    /// Which entry of the menu is this one.
    pub(super) here: &'static str,
    /// Who is logged in, if somebody is.
    pub(super) user: Option<String>,
    /// The token of forms.
    pub(super) token: String,
    /// Whether the menu is shown, and which entries not everybody has.
    pub(super) sees: bool,
    pub(super) users: bool,
    pub(super) upkeep: bool,
    /// After how many seconds the page is to be loaded again, where there is no script.
    pub(super) refresh: Option<u32>,
    /// What a form before this page has done.
    pub(super) notice: Option<String>,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) icon: &'static str,
    /// The clock of the registry, for the script to compare.
    pub(super) now: u64,
    pub(super) version: &'static str,
}

impl Frame {
    pub(super) fn new(visit: &Visit, here: &'static str) -> Self {
        let [style, script, icon] = assets::paths();
        let user = match &visit.identity {
            Identity::User(name) => Some(name.to_string()),
            Identity::Anonymous => None,
        };
        let sees = visit.check_may_see().is_ok();
        Frame {
            title: visit.admin.settings.title.clone(),
            here,
            token: visit.token(),
            sees,
            users: sees && visit.may(&Wanted::Users),
            upkeep: sees && visit.may(&Wanted::Upkeep),
            user,
            refresh: None,
            notice: notice(&visit.query),
            style,
            script,
            icon,
            now: words::now(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Whether what others do is in the menu.
    pub(super) fn activity(&self) -> bool {
        self.sees && (self.user.is_some() || self.upkeep)
    }
}

/// What has been done, by the parameters of the page that one is sent to: fixed words, so that no link can put its own
/// on the page.
fn notice(query: &Query) -> Option<String> {
    let number: u32 = query.get("count").and_then(|count| count.parse().ok()).unwrap_or(0);
    Some(match query.get("done")? {
        "deleted" => deleted(number, query.get("moved").and_then(|moved| moved.parse().ok()).unwrap_or(0)),
        "added" => "The user is added.".into(),
        "password" => "The password is changed.".into(),
        "removed" => "The user is removed.".into(),
        "own-password" => "Your password is changed. You are logged out everywhere else.".into(),
        "started" => "It has begun.".into(),
        "busy" => "Something goes on already: wait until it has ended.".into(),
        "logged-out" => "You are logged out.".into(),
        _ => return None,
    })
}

fn deleted(number: u32, moved: u32) -> String {
    let deleted = format!("{} deleted.", words::count(number, "tag"));
    match moved {
        0 => format!("{deleted} What nobody needs any more is freed by the next collection."),
        1 => format!("{deleted} 1 tag stays: it names another image than the one you were asked about."),
        _ => format!("{deleted} {moved} tags stay: they name other images than those you were asked about."),
    }
}

/// What a list is searched for. Nothing has a longer name.
pub(super) fn searched(query: &Query) -> String {
    let search = query.get("q").unwrap_or_default().trim();
    search[..search.floor_char_boundary(255)].to_owned()
}

/// A template as an answer.
pub(super) fn render(status: StatusCode, template: &impl Template) -> Result<Response, AdminError> {
    let html = template.render();
    let html = html.map_err(|error| AdminError::Internal(format!("a page cannot be made: {error}")))?;
    Ok(with_bytes(status, "text/html; charset=utf-8", Bytes::from(html)))
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Failure {
    frame: Frame,
    heading: &'static str,
    text: String,
}

/// The page that says what went wrong.
pub(super) fn failure(visit: &Visit, error: &AdminError) -> Response {
    let (status, heading, text) = error.shape();
    let page = Failure { frame: Frame::new(visit, ""), heading, text };
    render(status, &page).unwrap_or_else(|error| {
        error.log(visit.surroundings.client);
        error.plain()
    })
}

/// A list in pages: which one this is, and the way to the others.
pub(super) struct Pager {
    /// This page, counted from one.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// The address of this list without the number of the page.
    base: String,
}

impl Pager {
    /// The page that a query asks for.
    pub(super) fn wanted(query: &Query) -> usize {
        query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, 1_000_000)
    }

    /// The pages of a list, each of so many items, at a path with parameters; empty ones are left out.
    pub(super) fn new(
        page: usize,
        size: usize,
        total: usize,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Self {
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        let base = if query.is_empty() { format!("{path}?") } else { format!("{path}?{query}&") };
        Pager { page, pages: total.div_ceil(size).max(1), base }
    }

    fn link(&self, page: usize) -> String {
        format!("{}page={page}", self.base)
    }

    /// The address of the page before.
    pub(super) fn previous(&self) -> Option<String> {
        (self.page > 1).then(|| self.link((self.page - 1).min(self.pages)))
    }

    /// The address of the page after.
    pub(super) fn next(&self) -> Option<String> {
        (self.page < self.pages).then(|| self.link(self.page + 1))
    }
}

/// A way to sort a list: its name, its address, and whether it is the one that is in effect.
pub(super) struct Sorting {
    pub(super) name: &'static str,
    pub(super) link: String,
    /// `ascending` or `descending` where it is in effect.
    pub(super) active: Option<&'static str>,
}

impl Sorting {
    /// A way to sort by `key`; where that is in effect the address turns it round.
    pub(super) fn new(
        (name, key, falls): (&'static str, &str, bool),
        path: &str,
        search: &str,
        (active, descending): (&str, bool),
    ) -> Self {
        let is_active = active == key;
        let turned = if is_active { !descending } else { falls };
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !search.is_empty() {
            query.append_pair("q", search);
        }
        query.append_pair("sort", key).append_pair("dir", if turned { "down" } else { "up" });
        let direction = if descending { "descending" } else { "ascending" };
        Sorting { name, link: format!("{path}?{}", query.finish()), active: is_active.then_some(direction) }
    }
}
