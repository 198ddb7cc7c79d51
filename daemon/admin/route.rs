//! Parses method and path into a [`Page`]; pure.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::oci::{Digest, Reference, RepositoryName};

/// A page, or the action of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    LoginForm,
    LogIn,
    LogOut,
    Theme,
    Repositories,
    Repository(RepositoryName),
    Image(RepositoryName, Reference),
    Download(RepositoryName, Reference),
    Raw(RepositoryName, Digest),
    Compare,
    Copy,
    ConfirmDelete,
    Delete,
    ConfirmDeleteRepository,
    DeleteRepository,
    Search,
    ConfirmDeleteUntagged,
    DeleteUntagged,
    Users,
    AddUser,
    PasswordForm,
    SetPassword,
    ConfirmRemoveUser,
    RemoveUser,
    Rights,
    ConfirmRule,
    SetRule,
    AddName,
    RemoveName,
    Account,
    ChangeOwnPassword,
    Maintenance,
    Collect,
    Free,
    Check,
    CancelJob,
    Activity,
    Push,
    Settings,
    Docs,
    ImportForm,
    Import,
    Asset(String),
}

/// A method and path without a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The path has no page.
    NotFound,
    /// The path has a page for other methods: the value of the `Allow` header.
    Method(&'static str),
}

impl Page {
    /// Parses a method and a path, which may be percent-encoded.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, Error> {
        let path = percent_decode_str(path).decode_utf8().map_err(|_| Error::NotFound)?;
        let (get, post) = (matches!(*method, Method::GET | Method::HEAD), *method == Method::POST);
        let read = |page| if get { Ok(page) } else { Err(Error::Method("GET, HEAD")) };
        let submit = |page| if post { Ok(page) } else { Err(Error::Method("POST")) };
        let both = |page, action| match (get, post) {
            (true, _) => Ok(page),
            (_, true) => Ok(action),
            (false, false) => Err(Error::Method("GET, HEAD, POST")),
        };
        match &*path {
            "/" => read(Page::Overview),
            "/login" => both(Page::LoginForm, Page::LogIn),
            "/logout" => submit(Page::LogOut),
            "/theme" => submit(Page::Theme),
            "/repositories" => read(Page::Repositories),
            "/delete" => both(Page::ConfirmDelete, Page::Delete),
            "/delete/repository" => both(Page::ConfirmDeleteRepository, Page::DeleteRepository),
            "/search" => read(Page::Search),
            "/delete/untagged" => both(Page::ConfirmDeleteUntagged, Page::DeleteUntagged),
            "/compare" => read(Page::Compare),
            "/copy" => submit(Page::Copy),
            "/users" => read(Page::Users),
            "/users/add" => submit(Page::AddUser),
            "/users/password" => both(Page::PasswordForm, Page::SetPassword),
            "/users/remove" => both(Page::ConfirmRemoveUser, Page::RemoveUser),
            "/users/rights" => read(Page::Rights),
            "/users/rule" => both(Page::ConfirmRule, Page::SetRule),
            "/push/name" => submit(Page::AddName),
            "/settings/name" => submit(Page::RemoveName),
            "/account" => both(Page::Account, Page::ChangeOwnPassword),
            "/maintenance" => read(Page::Maintenance),
            "/maintenance/collect" => submit(Page::Collect),
            "/maintenance/free" => submit(Page::Free),
            "/maintenance/check" => submit(Page::Check),
            "/maintenance/cancel" => submit(Page::CancelJob),
            "/activity" => read(Page::Activity),
            "/push" => read(Page::Push),
            "/settings" => read(Page::Settings),
            "/docs" => read(Page::Docs),
            "/import" => both(Page::ImportForm, Page::Import),
            path => read(with_name(path).ok_or(Error::NotFound)?),
        }
    }

    /// Returns true for the action of a form, which needs the CSRF checks.
    pub(super) fn is_form(&self) -> bool {
        match self {
            Page::LogIn
            | Page::LogOut
            | Page::Theme
            | Page::Delete
            | Page::DeleteRepository
            | Page::DeleteUntagged
            | Page::Copy
            | Page::AddUser
            | Page::SetPassword
            | Page::RemoveUser
            | Page::SetRule
            | Page::AddName
            | Page::RemoveName
            | Page::ChangeOwnPassword
            | Page::Collect
            | Page::Free
            | Page::Check
            | Page::CancelJob
            | Page::Import => true,
            Page::Overview
            | Page::LoginForm
            | Page::Repositories
            | Page::Repository(_)
            | Page::Image(..)
            | Page::Download(..)
            | Page::Raw(..)
            | Page::Compare
            | Page::ConfirmDelete
            | Page::ConfirmDeleteRepository
            | Page::Search
            | Page::ConfirmDeleteUntagged
            | Page::Users
            | Page::PasswordForm
            | Page::ConfirmRemoveUser
            | Page::Rights
            | Page::ConfirmRule
            | Page::Account
            | Page::Maintenance
            | Page::Activity
            | Page::Push
            | Page::Settings
            | Page::Docs
            | Page::ImportForm
            | Page::Asset(_) => false,
        }
    }
}

/// Parses the paths that contain the name of a repository or file.
fn with_name(path: &str) -> Option<Page> {
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    match kind {
        "assets" => Some(Page::Asset(rest.to_owned())),
        "repository" => Some(Page::Repository(rest.parse().ok()?)),
        "image" => {
            let (name, reference) = rest.split_once('@').or_else(|| rest.rsplit_once(':'))?;
            let name = name.parse().ok()?;
            // No tag and no digest has a slash.
            Some(match reference.strip_suffix("/download") {
                Some(reference) => Page::Download(name, reference.parse().ok()?),
                None => Page::Image(name, reference.parse().ok()?),
            })
        }
        "raw" => {
            let (name, digest) = rest.split_once('@')?;
            Some(Page::Raw(name.parse().ok()?, digest.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_parsed_into_pages() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name: RepositoryName = "team/app".parse().unwrap();
        let get = |path: &str| Page::parse(&Method::GET, path).unwrap();
        assert_eq!(get("/"), Page::Overview);
        assert_eq!(get("/repository/team/app"), Page::Repository(name.clone()));
        for at in ["@", "%40"] {
            let reference = Reference::Digest(digest.parse().unwrap());
            assert_eq!(get(&format!("/image/team/app{at}{digest}")), Page::Image(name.clone(), reference));
        }
        assert_eq!(get("/image/team/app:1.0"), Page::Image(name.clone(), "1.0".parse().unwrap()));
        assert_eq!(get("/image/team/app:1.0/download"), Page::Download(name, "1.0".parse().unwrap()));
        assert_eq!(Page::parse(&Method::POST, "/delete"), Ok(Page::Delete));
        assert_eq!(Page::parse(&Method::GET, "/logout"), Err(Error::Method("POST")));
        assert_eq!(Page::parse(&Method::POST, "/users"), Err(Error::Method("GET, HEAD")));
        for path in
            ["/v2/", "/x", "/image/UPPER:1", "/repository/", "/image/a", "/image/a/download", "/favicon.ico"]
        {
            assert_eq!(Page::parse(&Method::GET, path), Err(Error::NotFound), "{path}");
        }
    }

    #[test]
    fn every_post_has_the_csrf_checks_and_no_get_has() {
        let paths = [
            "/",
            "/login",
            "/logout",
            "/theme",
            "/delete",
            "/delete/repository",
            "/delete/untagged",
            "/copy",
            "/compare",
            "/users/add",
            "/users/password",
            "/users/remove",
        ];
        let more = [
            "/account",
            "/maintenance",
            "/maintenance/collect",
            "/maintenance/free",
            "/maintenance/check",
            "/maintenance/cancel",
            "/import",
            "/users",
            "/users/rights",
            "/users/rule",
            "/push/name",
            "/settings/name",
            "/repository/a",
        ];
        for path in paths.into_iter().chain(more) {
            assert!(
                Page::parse(&Method::POST, path).is_ok_and(|page| page.is_form()) || {
                    matches!(Page::parse(&Method::POST, path), Err(Error::Method(_)))
                }
            );
            assert!(
                Page::parse(&Method::GET, path).is_ok_and(|page| !page.is_form()) || {
                    matches!(Page::parse(&Method::GET, path), Err(Error::Method(_)))
                }
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in "/(image|raw|repository|assets)?/?.{0,60}") {
            let _ = Page::parse(&Method::GET, &path);
        }
    }
}
