//! The admin page: HTML and forms at `/`, on the same port as the API.
//!
//! Every page works without script, and every form is a POST that ends in a redirect. The pages call the same operations
//! of the store as the API, with the same permits. Only the session cookie identifies a user: a Basic header is ignored,
//! so that other sites cannot use the credentials that a browser caches for the API. A form is accepted only from a page
//! of the same origin and with its CSRF token.
//!
//! The size of every page is bounded by constants, see `limits.rs`.

mod about;
mod account;
mod activity;
mod artifact;
mod assets;
mod clients;
mod compare;
mod configuration;
mod cookies;
mod copy;
mod delete;
mod delete_repository;
mod docs;
mod document;
mod download;
mod error;
mod escape;
mod file;
mod format;
mod image;
mod import;
mod importer;
mod jobs;
mod limits;
mod login;
mod maintenance;
mod manifest_excerpt;
mod names;
mod overview;
mod pager;
mod pages;
mod plots;
mod pull_command;
mod push;
mod repositories;
mod repository;
mod request;
mod response;
mod rights;
mod route;
mod search;
mod section;
mod state;
mod theme;
mod theme_form;
mod tree;
mod untagged;
mod users;
mod warnings;
#[cfg(test)]
mod worst_case;

use http::Method;
use http::request::Parts;

use self::error::AdminError;
use self::request::AdminRequest;
use self::route::Page;
use crate::access::{Access, Identity};
use crate::wire::{RebindingPolicy, RequestBody, Response};

pub use self::format::freed;
pub use self::importer::{Importer, Importing, UploadedArchive};
pub use self::state::{
    Admin, AdminState, Certificate, CertificateNames, Copies, NameRefusal, RequestContext, SettingInEffect,
    Settings,
};

impl Admin {
    /// Returns true if a request is for the admin page: its path is not one of the API's.
    pub fn is_for(method: &Method, path: &str) -> bool {
        Page::parse(method, path) != Err(route::Error::NotFound)
    }

    /// Answers a request for a page, and returns its user for the access log.
    pub async fn answer(
        &self,
        parts: Parts,
        body: RequestBody,
        context: RequestContext,
        access: &Access,
    ) -> (Response, Identity) {
        let page = Page::parse(&parts.method, parts.uri.path());
        if let Ok(Page::Asset(name)) = &page {
            return (assets::answer(name, &parts.headers), Identity::Anonymous);
        }
        let rebinding = RebindingPolicy::new(&self.addresses);
        if let Err(problem) = rebinding.check(&parts.headers, context.peer, access).await {
            return (AdminError::from(problem).plain(), Identity::Anonymous);
        }
        let client = context.client;
        let mut request = match AdminRequest::new(self, access, parts, context).await {
            Ok(request) => request,
            Err(error) => {
                error.log(client);
                return (error.plain(), Identity::Anonymous);
            }
        };
        let answered = match page {
            Ok(page) => request.holder().run(dispatch(&mut request, page, body)).await,
            Err(error) => Err(error.into()),
        };
        let response = answered.unwrap_or_else(|error| {
            error.log(client);
            pages::failure(&request, &error)
        });
        (request.finish(response), request.identity)
    }
}

async fn dispatch(
    request: &mut AdminRequest<'_>,
    page: Page,
    body: RequestBody,
) -> Result<Response, AdminError> {
    // The form of an upload has its token within.
    let body = if page.is_form() && page != Page::Import {
        request.take_form(body, matches!(page, Page::LogIn)).await?;
        None
    } else {
        Some(body)
    };
    if !matches!(page, Page::LoginForm | Page::LogIn | Page::LogOut | Page::Theme) {
        request.check_access()?;
    }
    match page {
        Page::Overview => overview::show(request).await,
        Page::LoginForm => login::show(request),
        Page::LogIn => login::log_in(request).await,
        Page::LogOut => Ok(login::log_out(request)),
        Page::Theme => Ok(theme_form::choose(request)),
        Page::Repositories => repositories::show(request).await,
        Page::Repository(name) => repository::show(request, &name).await,
        Page::Image(name, reference) => image::show(request, &name, &reference).await,
        Page::Download(name, reference) => download::download(request, &name, &reference).await,
        Page::Raw(name, digest) => image::raw(request, &name, &digest).await,
        Page::Compare => compare::show(request).await,
        Page::Copy => copy::copy(request).await,
        Page::ConfirmDeleteUntagged => untagged::confirm(request),
        Page::DeleteUntagged => untagged::delete(request).await,
        Page::ConfirmDelete => delete::confirm(request).await,
        Page::Delete => delete::delete(request).await,
        Page::ConfirmDeleteRepository => delete_repository::confirm(request).await,
        Page::DeleteRepository => delete_repository::delete(request).await,
        Page::Search => search::show(request).await,
        Page::Users => users::show(request).await,
        Page::AddUser => users::add(request).await,
        Page::PasswordForm => users::password_form(request).await,
        Page::SetPassword => users::set_password(request).await,
        Page::ConfirmRemoveUser => users::confirm_remove(request).await,
        Page::RemoveUser => users::remove(request).await,
        Page::Rights => rights::show(request).await,
        Page::ConfirmRule => rights::confirm(request).await,
        Page::SetRule => rights::set(request).await,
        Page::Account => account::show(request),
        Page::ChangeOwnPassword => account::change(request).await,
        Page::Maintenance => maintenance::show(request).await,
        Page::Collect => maintenance::collect(request),
        Page::Free => maintenance::free(request),
        Page::Check => maintenance::check(request),
        Page::CancelJob => maintenance::cancel(request),
        Page::Activity => activity::show(request).await,
        Page::Push => push::show(request),
        Page::AddName => names::add(request).await,
        Page::RemoveName => names::remove(request).await,
        Page::Settings => configuration::show(request),
        Page::Docs => docs::show(request),
        Page::ImportForm => import::show(request),
        Page::Import => import::import(request, body.ok_or(AdminError::NotForm)?).await,
        Page::Asset(_) => Err(AdminError::NotFound("There is no such file.".into())),
    }
}
