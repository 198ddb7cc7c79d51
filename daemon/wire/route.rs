//! Maps method and path to a [`Route`]. Pure: no I/O, and any path yields a route or a [`RouteError`].

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::access::{Action, Operation};
use crate::oci::{Digest, ParseDigestError, ParseNameError, ParseReferenceError, Reference, RepositoryName};

/// Route: an endpoint of the distribution specification ("Endpoints") with its parsed parameters. `end-N` is its number
/// in the table there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// end-1: check of the API version.
    Ping,
    /// The list of repositories (an extension of the standard).
    Catalog,
    /// end-8: list of tags.
    Tags(RepositoryName),
    /// end-3: pull of a manifest.
    GetManifest(RepositoryName, Reference),
    /// end-7: push of a manifest.
    PutManifest(RepositoryName, Reference),
    /// end-9: delete of a manifest or a tag.
    DeleteManifest(RepositoryName, Reference),
    /// end-2: pull of a blob.
    GetBlob(RepositoryName, Digest),
    /// end-10: delete of a blob.
    DeleteBlob(RepositoryName, Digest),
    /// end-4, end-11: start of an upload, or a mount.
    StartUpload(RepositoryName),
    /// end-13: status of an upload.
    UploadStatus(RepositoryName, String),
    /// end-5: chunk of an upload.
    PatchUpload(RepositoryName, String),
    /// end-6: end of an upload.
    PutUpload(RepositoryName, String),
    /// end-14: cancellation of an upload.
    CancelUpload(RepositoryName, String),
    /// end-12: list of referrers.
    Referrers(RepositoryName, Digest),
}

/// Reason why a method and a path are not a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The path belongs to no endpoint.
    NotFound,
    /// The endpoint has other methods: these, as in `Allow`.
    Method(&'static str),
    /// The path has an invalid repository name.
    Name(String, ParseNameError),
    /// The path has neither a tag nor a digest.
    Reference(String, ParseReferenceError),
    /// A pull names a reference that no manifest can have.
    ManifestUnknown(String),
    /// The path, or a query parameter, has an invalid digest.
    Digest(String, ParseDigestError),
}

impl Route {
    /// Parses the percent-encoded path of a request.
    ///
    /// # Errors
    /// Returns the [`RouteError`] that the client is told.
    pub fn parse(method: &Method, path: &str) -> Result<Self, RouteError> {
        let path = percent_decode_str(path).decode_utf8().map_err(|_| RouteError::NotFound)?;
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return check_read(method).map(|()| Route::Ping),
            Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
            None => return Err(RouteError::NotFound),
        };
        if rest == "_catalog" {
            return check_read(method).map(|()| Route::Catalog);
        }
        let mut parts = rest.rsplitn(3, '/');
        let (last, kind, before) = (parts.next(), parts.next(), parts.next());
        let (Some(last), Some(kind)) = (last, kind) else { return Err(RouteError::NotFound) };
        match (before, kind, last) {
            (Some(before), "uploads", id) if before.ends_with("/blobs") => {
                upload(method, before.strip_suffix("/blobs").unwrap_or_default(), id)
            }
            (Some(name), "blobs", "uploads") => start_upload(method, name),
            (Some(name), "blobs", digest) => blob(method, name, digest),
            (Some(name), "manifests", reference) => manifest(method, name, reference),
            (Some(name), "tags", "list") => {
                check_read(method)?;
                Ok(Route::Tags(repository(name)?))
            }
            (Some(name), "referrers", digest) => {
                check_read(method)?;
                Ok(Route::Referrers(repository(name)?, parse_digest(digest)?))
            }
            _ => Err(RouteError::NotFound),
        }
    }

    /// Returns the right that a request of this route needs.
    pub fn required_operation(&self) -> Operation {
        let (name, action) = match self {
            Route::Ping => return Operation::Ping,
            Route::Catalog => return Operation::Catalog,
            Route::Tags(name)
            | Route::GetManifest(name, _)
            | Route::GetBlob(name, _)
            | Route::Referrers(name, _) => (name, Action::Pull),
            Route::PutManifest(name, _)
            | Route::StartUpload(name)
            | Route::UploadStatus(name, _)
            | Route::PatchUpload(name, _)
            | Route::PutUpload(name, _)
            | Route::CancelUpload(name, _) => (name, Action::Push),
            Route::DeleteManifest(name, _) | Route::DeleteBlob(name, _) => (name, Action::Delete),
        };
        Operation::Repository { name: name.clone(), action }
    }

    /// Returns true if a request of this route may change stored content.
    pub fn changes_content(&self) -> bool {
        match self {
            Route::PutManifest(..)
            | Route::DeleteManifest(..)
            | Route::DeleteBlob(..)
            | Route::StartUpload(_)
            | Route::PatchUpload(..)
            | Route::PutUpload(..)
            | Route::CancelUpload(..) => true,
            Route::Ping
            | Route::Catalog
            | Route::Tags(_)
            | Route::GetManifest(..)
            | Route::GetBlob(..)
            | Route::UploadStatus(..)
            | Route::Referrers(..) => false,
        }
    }

    /// Returns the repository, if the route has one.
    pub fn repository(&self) -> Option<RepositoryName> {
        match self.required_operation() {
            Operation::Repository { name, .. } => Some(name),
            Operation::Ping | Operation::Catalog | Operation::Maintenance | Operation::Users => None,
        }
    }

    /// Returns the tag or the digest, if the route has one.
    pub fn reference(&self) -> Option<String> {
        match self {
            Route::GetManifest(_, reference)
            | Route::PutManifest(_, reference)
            | Route::DeleteManifest(_, reference) => Some(reference.to_string()),
            Route::GetBlob(_, digest) | Route::DeleteBlob(_, digest) | Route::Referrers(_, digest) => {
                Some(digest.to_string())
            }
            Route::Ping
            | Route::Catalog
            | Route::Tags(_)
            | Route::StartUpload(_)
            | Route::UploadStatus(..)
            | Route::PatchUpload(..)
            | Route::PutUpload(..)
            | Route::CancelUpload(..) => None,
        }
    }
}

fn check_read(method: &Method) -> Result<(), RouteError> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(RouteError::Method("GET, HEAD")) }
}

fn start_upload(method: &Method, name: &str) -> Result<Route, RouteError> {
    if *method != Method::POST {
        return Err(RouteError::Method("POST"));
    }
    Ok(Route::StartUpload(repository(name)?))
}

fn upload(method: &Method, name: &str, id: &str) -> Result<Route, RouteError> {
    if id.is_empty() {
        return start_upload(method, name);
    }
    let name = repository(name)?;
    let id = id.to_owned();
    match *method {
        Method::GET | Method::HEAD => Ok(Route::UploadStatus(name, id)),
        Method::PATCH => Ok(Route::PatchUpload(name, id)),
        Method::PUT => Ok(Route::PutUpload(name, id)),
        Method::DELETE => Ok(Route::CancelUpload(name, id)),
        _ => Err(RouteError::Method("GET, HEAD, PATCH, PUT, DELETE")),
    }
}

fn blob(method: &Method, name: &str, digest: &str) -> Result<Route, RouteError> {
    let (name, digest) = (repository(name)?, parse_digest(digest)?);
    match *method {
        Method::GET | Method::HEAD => Ok(Route::GetBlob(name, digest)),
        Method::DELETE => Ok(Route::DeleteBlob(name, digest)),
        _ => Err(RouteError::Method("GET, HEAD, DELETE")),
    }
}

fn manifest(method: &Method, name: &str, reference: &str) -> Result<Route, RouteError> {
    let name = repository(name)?;
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let reference = reference.parse().map_err(|error| {
        // "If the manifest is not found in the repository, the response code MUST be 404", also for a reference that
        // cannot be pushed. A malformed digest has its own error code, DIGEST_INVALID.
        if is_read && !reference.contains(':') {
            return RouteError::ManifestUnknown(reference.to_owned());
        }
        RouteError::Reference(reference.to_owned(), error)
    })?;
    match *method {
        Method::GET | Method::HEAD => Ok(Route::GetManifest(name, reference)),
        Method::PUT => Ok(Route::PutManifest(name, reference)),
        Method::DELETE => Ok(Route::DeleteManifest(name, reference)),
        _ => Err(RouteError::Method("GET, HEAD, PUT, DELETE")),
    }
}

fn repository(name: &str) -> Result<RepositoryName, RouteError> {
    name.parse().map_err(|error| RouteError::Name(name.to_owned(), error))
}

fn parse_digest(digest: &str) -> Result<Digest, RouteError> {
    digest.parse().map_err(|error| RouteError::Digest(digest.to_owned(), error))
}

/// Parameters of a query or a form.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a URL, or a form body.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(pairs.map(|(name, value)| (Cow::into_owned(name), Cow::into_owned(value))).collect())
    }

    /// Returns the first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first value of a parameter as a digest.
    ///
    /// # Errors
    /// Returns [`RouteError::Digest`] for a malformed one.
    pub fn digest(&self, name: &str) -> Result<Option<Digest>, RouteError> {
        self.get(name).map(parse_digest).transpose()
    }

    /// Returns all values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_endpoint_is_parsed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name: RepositoryName = "team/app".parse().unwrap();
        let parse = |method: Method, path: &str| Route::parse(&method, path).unwrap();
        assert_eq!(parse(Method::GET, "/v2/"), Route::Ping);
        assert_eq!(parse(Method::GET, "/v2"), Route::Ping);
        assert_eq!(parse(Method::GET, "/v2/_catalog"), Route::Catalog);
        assert_eq!(parse(Method::GET, "/v2/team/app/tags/list"), Route::Tags(name.clone()));
        for path in ["/v2/team/app/blobs/uploads/", "/v2/team/app/blobs/uploads"] {
            assert_eq!(parse(Method::POST, path), Route::StartUpload(name.clone()));
        }
        let id = "x-y".to_owned();
        assert_eq!(
            parse(Method::PATCH, "/v2/team/app/blobs/uploads/x-y"),
            Route::PatchUpload(name.clone(), id)
        );
        let escaped = format!("/v2/team/app/blobs/{}", digest.replace(':', "%3A"));
        assert_eq!(parse(Method::GET, &escaped), Route::GetBlob(name.clone(), digest.parse().unwrap()));
        assert_eq!(
            parse(Method::DELETE, "/v2/team/app/manifests/1"),
            Route::DeleteManifest(name, "1".parse().unwrap())
        );
        let inner = parse(Method::POST, "/v2/a/blobs/uploads/blobs/uploads/");
        assert_eq!(inner, Route::StartUpload("a/blobs/uploads".parse().unwrap()));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let error = |method: Method, path: &str| Route::parse(&method, path).unwrap_err();
        assert_eq!(error(Method::GET, "/v3/"), RouteError::NotFound);
        assert_eq!(error(Method::POST, "/v2/"), RouteError::Method("GET, HEAD"));
        assert!(matches!(error(Method::GET, "/v2/UPPER/tags/list"), RouteError::Name(..)));
        assert!(matches!(error(Method::GET, "/v2/a/blobs/sha256:x"), RouteError::Digest(..)));
        for method in [Method::GET, Method::HEAD] {
            let unknown = RouteError::ManifestUnknown(".x".into());
            assert_eq!(error(method.clone(), "/v2/a/manifests/.x"), unknown);
            assert!(matches!(error(method, "/v2/a/manifests/sha256:x"), RouteError::Reference(..)));
        }
        for method in [Method::PUT, Method::DELETE] {
            assert!(matches!(error(method, "/v2/a/manifests/.x"), RouteError::Reference(..)));
        }
        assert!(matches!(error(Method::GET, "/v2/../x/tags/list"), RouteError::Name(..)));
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in "(/v2)?/.{0,80}", tail in "(/blobs/uploads/|/manifests/|/tags/list)?.{0,20}") {
            let _ = Route::parse(&Method::GET, &format!("{path}{tail}"));
        }
    }
}
