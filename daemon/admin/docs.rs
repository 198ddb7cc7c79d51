//! The API in short: its endpoints, commands for this host, and the error codes.

use askama::Template;

use super::error::AdminError;
use super::format::shell_argument;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::oci::ErrorCode;
use crate::wire::Response;

/// The endpoints: method, path and purpose. `NAME` is a repository, `REFERENCE` a tag or a digest.
const ENDPOINTS: [(&str, &str, &str); 14] = [
    ("GET", "/v2/", "Checks the API and the log-in."),
    ("GET", "/v2/_catalog", "Lists repositories; ?n= and ?last= page."),
    ("GET", "/v2/NAME/tags/list", "Lists tags; ?n= and ?last= page."),
    ("GET", "/v2/NAME/manifests/REFERENCE", "Returns a manifest; HEAD returns its headers."),
    ("PUT", "/v2/NAME/manifests/REFERENCE", "Stores a manifest; ?tag= sets further tags."),
    ("DELETE", "/v2/NAME/manifests/REFERENCE", "Deletes a tag, or a manifest with its tags."),
    ("GET", "/v2/NAME/blobs/DIGEST", "Returns a blob or a range of it; HEAD returns its headers."),
    ("DELETE", "/v2/NAME/blobs/DIGEST", "Removes a blob from the repository."),
    (
        "POST",
        "/v2/NAME/blobs/uploads/",
        "Starts an upload; ?mount= and ?from= take a blob from another repository.",
    ),
    ("GET", "/v2/NAME/blobs/uploads/ID", "Returns how much of an upload has arrived."),
    ("PATCH", "/v2/NAME/blobs/uploads/ID", "Continues an upload."),
    ("PUT", "/v2/NAME/blobs/uploads/ID", "Ends an upload with ?digest=."),
    ("DELETE", "/v2/NAME/blobs/uploads/ID", "Cancels an upload."),
    (
        "GET",
        "/v2/NAME/referrers/DIGEST",
        "Lists signatures, SBOMs and other referrers; ?artifactType= filters.",
    ),
];
/// The endpoints beside the API.
const OTHERS: [(&str, &str, &str); 5] = [
    ("GET", "/token", "Issues a bearer token, where the registry asks for one."),
    ("GET", "/healthz", "Answers 200 while the daemon serves."),
    ("GET", "/readyz", "Answers 200 while pushes are accepted."),
    ("GET", "/metrics", "Metrics for Prometheus, as metrics.access allows."),
    ("GET", "/ca.crt", "The certificate of the registry's own authority."),
];

#[derive(Template)]
#[template(path = "docs.html")]
struct Page {
    frame: Frame,
    endpoints: &'static [(&'static str, &'static str, &'static str)],
    others: &'static [(&'static str, &'static str, &'static str)],
    /// Purpose and command.
    examples: Vec<(&'static str, String)>,
    errors: Vec<(&'static str, &'static str)>,
}

/// Shows the page.
pub(super) fn show(request: &AdminRequest) -> Result<Response, AdminError> {
    let user = request.access.has_users();
    let examples = examples(&request.display_host(), request.secure, user);
    render(OK, &page(Frame::new(request, "docs"), examples))
}

fn page(frame: Frame, examples: Vec<(&'static str, String)>) -> Page {
    let errors = ErrorCode::ALL.iter().map(|code| (code.as_str(), code.meaning())).collect();
    Page { frame, endpoints: &ENDPOINTS, others: &OTHERS, examples, errors }
}

/// Returns commands for this host. With users, curl asks for the password.
fn examples(host: &str, secure: bool, has_users: bool) -> Vec<(&'static str, String)> {
    let scheme = if secure { "https" } else { "http" };
    let login = if has_users { " -u USER" } else { "" };
    let curl = |options: &str, path: &str| {
        format!("curl -fsS{login}{options} {}", shell_argument(&format!("{scheme}://{host}{path}")))
    };
    let accept =
        " -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json'";
    vec![
        ("Check the log-in", curl("", "/v2/")),
        ("List repositories", curl("", "/v2/_catalog")),
        ("List the tags of a repository", curl("", "/v2/NAME/tags/list")),
        ("Show a manifest", curl(accept, "/v2/NAME/manifests/TAG")),
        ("Show the digest of a tag", curl(" -I", "/v2/NAME/manifests/TAG")),
        ("Save a blob", curl(" -o FILE", "/v2/NAME/blobs/DIGEST")),
        ("Delete a tag", curl(" -X DELETE", "/v2/NAME/manifests/TAG")),
        (
            "Is the registry ready?",
            format!("curl -fsS {}", shell_argument(&format!("{scheme}://{host}/readyz"))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;
    use crate::wire::Route;

    #[test]
    fn each_endpoint_is_a_route_of_the_api() {
        let digest = worst_case::digest().to_string();
        for (method, path, _) in ENDPOINTS {
            let path = path.replace("NAME", "team/app").replace("REFERENCE", "1").replace("DIGEST", &digest);
            let method = method.parse().unwrap();
            assert!(Route::parse(&method, &path).is_ok(), "{method} {path}");
        }
    }

    #[test]
    fn commands_name_the_host_and_ask_for_a_user_only_if_there_are_users() {
        let with = examples("[::1]:5000", true, true);
        assert_eq!(with[1].1, "curl -fsS -u USER 'https://[::1]:5000/v2/_catalog'");
        assert_eq!(examples("pi:5000", false, false)[0].1, "curl -fsS http://pi:5000/v2/");
    }

    #[test]
    fn largest_page_is_small() {
        worst_case::assert_small(&page(worst_case::frame(), examples(&"[".repeat(260), true, true)));
    }
}
