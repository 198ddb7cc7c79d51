//! The form with which a browser chooses its theme. A cookie remembers it.

use http::Method;
use percent_encoding::percent_decode_str;

use super::login::local_path;
use super::request::AdminRequest;
use super::response::see_other;
use super::route::Page;
use super::theme::Theme;
use crate::wire::Response;

/// Remembers the theme of the form, and returns to the page with the form.
pub(super) fn choose(request: &mut AdminRequest<'_>) -> Response {
    request.set_theme(Theme::parse(request.field("theme")));
    let path = request.referring_path().unwrap_or_default().to_owned();
    see_other(&return_path(&path))
}

/// Returns the path to return to; `/` for that of a form that was processed, or of another host.
fn return_path(path: &str) -> String {
    let is_page = |path: &str| {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        Page::parse(&Method::GET, &path[..end]).is_ok()
    };
    let local = match path.strip_prefix("/login?next=") {
        // The log-in form, with the page to return to after the log-in.
        Some(next) => match local_path(percent_decode_str(next).decode_utf8().ok().as_deref()) {
            next if next == "/" => "/login".into(),
            next => format!(
                "/login?next={}",
                form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>()
            ),
        },
        None => local_path(Some(path)),
    };
    // The redirect after a form has its result as a parameter, which is not shown again.
    if is_page(&local) && !local.contains("done=") { local } else { "/".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theme_returns_to_pages_only() {
        assert_eq!(return_path("/repositories?q=a"), "/repositories?q=a");
        let next = "/login?next=%2Factivity%3Fq%3Dx";
        assert_eq!(return_path(next), next);
        for next in ["//evil.example", "%2F%2Fevil.example", "%2Flogin", "%5C", ""] {
            assert_eq!(return_path(&format!("/login?next={next}")), "/login", "{next}");
        }
        for path in ["/users/add", "//evil.example/", "/v2/", "/users?done=added", ""] {
            assert_eq!(return_path(path), "/", "{path}");
        }
    }
}
