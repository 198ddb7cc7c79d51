//! From method and path to a [`Page`]; pure.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::oci::{Digest, Reference, RepositoryName};

/// A page, or what a form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Login,
    LogIn,
    LogOut,
    Repositories,
    Repository(RepositoryName),
    Image(RepositoryName, Reference),
    Raw(RepositoryName, Digest),
    DeleteQuestion,
    Delete,
    Users,
    AddUser,
    PasswordForm,
    SetPassword,
    RemoveQuestion,
    RemoveUser,
    Account,
    ChangeOwn,
    Upkeep,
    Collect,
    Check,
    Activity,
    Push,
    Asset(String),
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// There is nothing at this path.
    NotFound,
    /// There is, but not for this method; these are the methods.
    Method(&'static str),
}

impl Page {
    /// Finds the page of a method and a path.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, Error> {
        let path = percent_decode_str(path).decode_utf8().map_err(|_| Error::NotFound)?;
        let (get, post) = (matches!(*method, Method::GET | Method::HEAD), *method == Method::POST);
        let read = |page| if get { Ok(page) } else { Err(Error::Method("GET, HEAD")) };
        let change = |page| if post { Ok(page) } else { Err(Error::Method("POST")) };
        let both = |shown, changed| match (get, post) {
            (true, _) => Ok(shown),
            (_, true) => Ok(changed),
            _ => Err(Error::Method("GET, HEAD, POST")),
        };
        match &*path {
            "/" => read(Page::Overview),
            "/login" => both(Page::Login, Page::LogIn),
            "/logout" => change(Page::LogOut),
            "/repositories" => read(Page::Repositories),
            "/delete" => both(Page::DeleteQuestion, Page::Delete),
            "/users" => read(Page::Users),
            "/users/add" => change(Page::AddUser),
            "/users/password" => both(Page::PasswordForm, Page::SetPassword),
            "/users/remove" => both(Page::RemoveQuestion, Page::RemoveUser),
            "/account" => both(Page::Account, Page::ChangeOwn),
            "/upkeep" => read(Page::Upkeep),
            "/upkeep/collect" => change(Page::Collect),
            "/upkeep/check" => change(Page::Check),
            "/activity" => read(Page::Activity),
            "/push" => read(Page::Push),
            path => read(with_name(path).ok_or(Error::NotFound)?),
        }
    }

    /// Whether a form asks for it.
    pub(super) fn changes(&self) -> bool {
        matches!(
            self,
            Page::LogIn
                | Page::LogOut
                | Page::Delete
                | Page::AddUser
                | Page::SetPassword
                | Page::RemoveUser
                | Page::ChangeOwn
                | Page::Collect
                | Page::Check
        )
    }
}

fn with_name(path: &str) -> Option<Page> {
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    match kind {
        "assets" => Some(Page::Asset(rest.to_owned())),
        "repository" => Some(Page::Repository(rest.parse().ok()?)),
        "image" => {
            let (name, reference) = rest.split_once('@').or_else(|| rest.rsplit_once(':'))?;
            Some(Page::Image(name.parse().ok()?, reference.parse().ok()?))
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
    fn finds_every_page() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name: RepositoryName = "team/app".parse().unwrap();
        let get = |path: &str| Page::parse(&Method::GET, path).unwrap();
        assert_eq!(get("/"), Page::Overview);
        assert_eq!(get("/repository/team/app"), Page::Repository(name.clone()));
        for at in ["@", "%40"] {
            let reference = Reference::Digest(digest.parse().unwrap());
            assert_eq!(get(&format!("/image/team/app{at}{digest}")), Page::Image(name.clone(), reference));
        }
        assert_eq!(get("/image/team/app:1.0"), Page::Image(name, "1.0".parse().unwrap()));
        assert_eq!(Page::parse(&Method::POST, "/delete"), Ok(Page::Delete));
        assert_eq!(Page::parse(&Method::GET, "/logout"), Err(Error::Method("POST")));
        assert_eq!(Page::parse(&Method::POST, "/users"), Err(Error::Method("GET, HEAD")));
        for path in ["/v2/", "/x", "/image/UPPER:1", "/repository/", "/image/a", "/favicon.ico"] {
            assert_eq!(Page::parse(&Method::GET, path), Err(Error::NotFound), "{path}");
        }
    }

    #[test]
    fn every_post_is_a_change_and_no_get_is() {
        let paths = ["/", "/login", "/logout", "/delete", "/users/add", "/users/password", "/users/remove"];
        let more = ["/account", "/upkeep", "/upkeep/collect", "/upkeep/check", "/users", "/repository/a"];
        for path in paths.into_iter().chain(more) {
            assert!(
                Page::parse(&Method::POST, path).is_ok_and(|page| page.changes()) || {
                    matches!(Page::parse(&Method::POST, path), Err(Error::Method(_)))
                }
            );
            assert!(
                Page::parse(&Method::GET, path).is_ok_and(|page| !page.changes()) || {
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
