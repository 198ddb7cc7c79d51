//! The admin page: HTML and forms, at `/` of the same port.
//!
//! Every page works without script; every form posts and is answered with a redirect. The pages call the same verbs of
//! the store as the API, with the same permits. A session cookie says who it is, and nothing else does: a Basic header
//! is not looked at, so that no other page can use what a browser remembers of the API. A form counts only with the
//! token of its session and from a page of this very host.

mod account;
mod activity;
mod artifact;
mod assets;
mod budget;
mod delete;
mod error;
mod image;
mod jobs;
mod login;
mod overview;
mod pages;
mod push;
mod repositories;
mod repository;
mod route;
mod tree;
mod upkeep;
mod users;
mod visit;
mod warnings;
mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, StatusCode};

use self::error::AdminError;
use self::jobs::Jobs;
use self::route::Page;
use self::visit::Visit;
use crate::access::{Access, HtpasswdError, Identity, Sessions};
use crate::queue::{FairPool, Limits};
use crate::store::{Holder, Policy, Store};
use crate::wire::audit::LoginCounters;
use crate::wire::{Events, Locations, RebindingPolicy, RequestBody, Response};

/// The page as the configuration has it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called.
    pub title: String,
    /// Who may see it; every user where nobody is named.
    pub users: Vec<String>,
    /// Whether one can delete here.
    pub delete: bool,
    /// What a collection may take.
    pub policy: Policy,
    /// Whether only this machine can reach the registry.
    pub loopback_only: bool,
}

/// What is kept while the configuration changes.
pub struct Desk {
    /// Who is logged in.
    pub sessions: Sessions,
    /// What happened lately.
    pub events: Arc<Events>,
    /// Counts failed log-ins.
    pub logins: Arc<LoginCounters>,
    jobs: Arc<Jobs>,
    /// Places for large forms, which are in memory while they arrive.
    forms: Arc<FairPool<Holder>>,
    began: Instant,
}

/// Bounds of the large forms that arrive at once: some MiB of memory, and a part of it for each client.
const FORMS: Limits =
    Limits { places: 16, places_per_holder: 4, reserved: 2, waiting_per_holder: 16, holders: 4096 };

impl Desk {
    /// Nobody has been here yet.
    ///
    /// # Errors
    /// [`HtpasswdError::Random`] when the system has no random bytes.
    pub fn new(events: Arc<Events>) -> Result<Self, HtpasswdError> {
        Ok(Desk {
            sessions: Sessions::new()?,
            events,
            logins: Arc::default(),
            jobs: Arc::default(),
            forms: Arc::new(FairPool::new(FORMS)),
            began: Instant::now(),
        })
    }

    /// Whether a collection or a check goes on that was asked for here.
    pub fn is_at_work(&self) -> bool {
        self.jobs.is_running()
    }
}

/// The certificate that the registry shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whether the registry's own authority has issued it, and will renew it.
    pub is_own: bool,
    /// Until when it is valid, in seconds since 1970.
    pub until: Option<u64>,
    /// The SHA-256 of the authority's certificate, for people to compare.
    pub fingerprint: Option<String>,
    /// Whether the clock is behind a time that was seen already.
    pub clock_is_behind: bool,
}

/// What is around a request.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Who sent it.
    pub client: IpAddr,
    /// Who is at the other end of the connection: the client, or a proxy.
    pub peer: IpAddr,
    /// Whether the connection is protected by TLS.
    pub tls: bool,
    /// How many requests are being answered.
    pub requests: usize,
    /// Whether a request came by a proxy on this machine that the configuration does not name.
    pub unnamed_proxy: bool,
    /// The certificate, if TLS is on.
    pub certificate: Option<Certificate>,
}

/// The admin page.
pub struct Admin {
    /// As it is configured.
    pub settings: Settings,
    /// What is kept while that changes.
    pub desk: Arc<Desk>,
    /// What it is about.
    pub store: Store,
    /// By which name clients call the registry.
    pub locations: Locations,
}

impl Admin {
    /// Whether a request is for a page: it is under none of the paths of the API.
    pub fn is_for(method: &Method, path: &str) -> bool {
        Page::parse(method, path) != Err(route::Error::NotFound)
    }

    /// Answers a request for a page, and says who it was.
    pub async fn answer(
        &self,
        parts: Parts,
        body: RequestBody,
        surroundings: Surroundings,
        access: &Access,
    ) -> (Response, Identity) {
        let page = Page::parse(&parts.method, parts.uri.path());
        if let Ok(Page::Asset(name)) = &page {
            return (assets::answer(name), Identity::Anonymous);
        }
        let rebinding = RebindingPolicy::new(&self.locations);
        if let Err(problem) = rebinding.check(&parts.headers, surroundings.peer, access).await {
            return (AdminError::from(problem).plain(), Identity::Anonymous);
        }
        let client = surroundings.client;
        let mut visit = match Visit::new(self, access, parts, surroundings).await {
            Ok(visit) => visit,
            Err(error) => {
                error.log(client);
                return (error.plain(), Identity::Anonymous);
            }
        };
        let answered = match page {
            Ok(page) => visit.holder().run(dispatch(&mut visit, page, body)).await,
            Err(error) => Err(error.into()),
        };
        let response = answered.unwrap_or_else(|error| {
            error.log(client);
            visit.fail(&error)
        });
        (visit.finish(response), visit.identity)
    }
}

async fn dispatch(visit: &mut Visit<'_>, page: Page, body: RequestBody) -> Result<Response, AdminError> {
    if page.changes() {
        visit.take_form(body, matches!(page, Page::LogIn)).await?;
    }
    if !matches!(page, Page::Login | Page::LogIn | Page::LogOut) {
        visit.check_may_see()?;
    }
    match page {
        Page::Overview => overview::show(visit).await,
        Page::Login => login::show(visit),
        Page::LogIn => login::log_in(visit).await,
        Page::LogOut => Ok(login::log_out(visit)),
        Page::Repositories => repositories::show(visit).await,
        Page::Repository(name) => repository::show(visit, &name).await,
        Page::Image(name, reference) => image::show(visit, &name, &reference).await,
        Page::Raw(name, digest) => image::raw(visit, &name, &digest).await,
        Page::DeleteQuestion => delete::ask(visit).await,
        Page::Delete => delete::delete(visit).await,
        Page::Users => users::show(visit).await,
        Page::AddUser => users::add(visit).await,
        Page::PasswordForm => users::password(visit).await,
        Page::SetPassword => users::set_password(visit).await,
        Page::RemoveQuestion => users::ask(visit).await,
        Page::RemoveUser => users::remove(visit).await,
        Page::Account => account::show(visit),
        Page::ChangeOwn => account::change(visit).await,
        Page::Upkeep => upkeep::show(visit).await,
        Page::Collect => upkeep::collect(visit),
        Page::Check => upkeep::check(visit),
        Page::Activity => activity::show(visit),
        Page::Push => push::show(visit),
        Page::Asset(_) => Err(AdminError::NotFound("There is no such file.".into())),
    }
}

/// The status of a page that answers well.
const OK: StatusCode = StatusCode::OK;
