//! A request for a page: its user, its permissions, and its form once the CSRF checks have passed.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue, REFERER, SET_COOKIE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::cookies::Cookie;
use super::error::AdminError;
use super::response::{protect, see_other};
use super::state::{Admin, RequestContext};
use super::theme::Theme;
use crate::access::{
    self, Access, Action, IdentifyError, Identity, Operation, Permit, UserChangeKind, UserName,
};
use crate::intake::Multipart;
use crate::oci::{ErrorCode, Problem, ProblemKind, RepositoryName};
use crate::queue::FairPermit;
use crate::store::{Cause, FailedLogin, Holder, Note, NoteKind, Origin, StoreError, Visible};
use crate::wire::{CsrfPolicy, Query, RequestBody, Response};

/// The largest form, in bytes: one with all tags of a page fits.
const LARGEST_FORM: usize = 256 << 10;
/// The largest form that is received without a place among the large ones, in bytes.
const SMALL_FORM: usize = LARGEST_FORM >> 4;
/// The time that a large form waits for a place.
pub(super) const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// The error of a form without a valid token.
const EXPIRED: AdminError =
    AdminError::Forged("The form has expired. Go back, reload the page and try again.");
/// The longest host that is shown: a DNS name of 253 characters and a port.
const LONGEST_HOST: usize = 260;

/// The parameter that seals the result of a form, the last one of an address.
const SEAL: &str = "&seal=";

/// A request for a page.
pub(super) struct AdminRequest<'a> {
    pub(super) admin: &'a Admin,
    pub(super) access: &'a Access,
    pub(super) context: RequestContext,
    /// The host as the browser's address bar shows it.
    host: String,
    /// True if the browser uses TLS, to the registry or to a proxy.
    pub(super) secure: bool,
    pub(super) identity: Identity,
    pub(super) query: Query,
    /// The fields of the form; empty before [`AdminRequest::take_form`].
    pub(super) form: Query,
    /// The place of a large form, released with the request.
    form_place: Option<FairPermit<Holder>>,
    headers: HeaderMap,
    /// Path and query.
    path: String,
    method: Method,
    /// The secret of the cookie that the CSRF token is derived from.
    secret: String,
    cookies: Vec<String>,
}

impl<'a> AdminRequest<'a> {
    /// Identifies the user by the session cookie, and sets the cookie for CSRF tokens where a client has none.
    pub(super) async fn new(
        admin: &'a Admin,
        access: &'a Access,
        parts: Parts,
        context: RequestContext,
    ) -> Result<Self, AdminError> {
        let target = admin.addresses.target_origin(&parts.headers, context.peer, context.tls);
        let (secure, host) = (target.https, target.host);
        let sessions = &admin.state.sessions;
        let session = Cookie::Session.value(secure, &parts.headers);
        let identity = access.session(sessions, session.as_deref()).await;
        let mut cookies = Vec::new();
        let known = match (session, &identity) {
            (Some(secret), Identity::User(_)) => Some(secret),
            _ => Cookie::PreSession.value(secure, &parts.headers),
        };
        let secret = if let Some(secret) = known {
            secret
        } else {
            let secret = sessions.new_secret()?;
            cookies.push(Cookie::PreSession.set(secure, &secret));
            secret
        };
        Ok(AdminRequest {
            query: Query::parse(parts.uri.query()),
            path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            method: parts.method,
            headers: parts.headers,
            form: Query::default(),
            form_place: None,
            admin,
            access,
            context,
            host: host.unwrap_or_default(),
            secure,
            identity,
            secret,
            cookies,
        })
    }

    /// Refuses users who may not open the admin page.
    pub(super) fn check_access(&self) -> Result<(), AdminError> {
        let named = &self.admin.settings.users;
        match &self.identity {
            Identity::User(name)
                if named.is_empty() || named.iter().any(|known| known == "*" || known == name.as_str()) =>
            {
                Ok(())
            }
            Identity::User(_) => {
                Err(AdminError::Denied("This user may not open the admin page (admin.users)."))
            }
            // Rules for the anonymous user open repositories, but not this page.
            Identity::Anonymous
                if named.is_empty() && self.access.allows_anonymous_pages() && self.permit().is_ok() =>
            {
                Ok(())
            }
            Identity::Anonymous | Identity::Local(_) => Err(AdminError::NeedsLogin),
        }
    }

    /// Returns the holder under whose name the request queues for places.
    pub(super) fn holder(&self) -> Holder {
        match &self.identity {
            Identity::User(name) => Holder::User(name.as_str().into()),
            Identity::Anonymous | Identity::Local(_) => Holder::Network(access::network(self.context.client)),
        }
    }

    /// Returns the origin of the changes that the request makes.
    pub(super) fn origin(&self) -> Origin {
        let agent = self.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        Origin::of_client(Cause::Admin, self.identity.actor(), self.context.client, agent)
    }

    /// Records a change of a user in the event feed. The change is made already, so a failure is only logged.
    pub(super) async fn record_user_change(&self, name: &str, kind: UserChangeKind) {
        let (subject, text) = (name.to_owned(), kind.text().to_owned());
        let note = Note { kind: NoteKind::User, subject, text, origin: self.origin() };
        if let Err(error) = self.admin.store.record(vec![note]).await {
            log::warn!("a change of user {name} is missing in the activity: {error}");
        }
    }

    /// Logs, counts and records a failed log-in.
    pub(super) fn record_failed_login(&self, name: &str, error: &IdentifyError) {
        let client = self.context.client;
        if self.admin.state.logins.record_failure(client, "admin", name, error) {
            let (user, client) = (self.access.known_user(name), access::network(client));
            self.admin.store.record_failed_login(FailedLogin { user, client, cause: Cause::Admin });
        }
    }

    /// Returns the repositories that lists show to the user: those that it may pull from.
    pub(super) fn visible(&self) -> Result<Visible, AdminError> {
        let permit = self.permit()?;
        if permit.may_everywhere(Action::Pull) {
            return Ok(Visible::All);
        }
        Ok(Visible::only(move |name| permit.may(Action::Pull, name)))
    }

    /// Returns the permit to list repositories; each repository is checked against it separately.
    pub(super) fn permit(&self) -> Result<Permit, AdminError> {
        let permit = self.access.permit(self.identity.clone(), &Operation::Catalog);
        permit.map_err(|_| match self.access.rules_fault() {
            None => AdminError::Denied("This user may not list repositories."),
            // The log names the file and the mistake.
            Some(_) => AdminError::Denied(
                "The rules of the admin page cannot be used, and grant nothing until their file is mended. The log of the \
                 registry says what is wrong.",
            ),
        })
    }

    /// Checks an action on a repository, by the same permit as the API.
    pub(super) fn check(&self, action: Action, name: &RepositoryName) -> Result<(), AdminError> {
        let wanted = Operation::Repository { name: name.clone(), action };
        let permit = self.access.permit(self.identity.clone(), &wanted);
        permit.map(drop).map_err(|_| match self.identity {
            Identity::Anonymous | Identity::Local(_) => AdminError::NeedsLogin,
            Identity::User(_) => AdminError::Denied("This user may not do this in this repository."),
        })
    }

    /// Checks that the user may pull from a repository that is the source of something. Without that right the repository
    /// does not exist for the user, as in the API.
    pub(super) fn check_source(&self, name: &RepositoryName) -> Result<(), AdminError> {
        match self.check(Action::Pull, name) {
            Err(AdminError::Denied(_)) => Err(StoreError::NameUnknown(name.clone()).into()),
            checked => checked,
        }
    }

    /// Returns true if the user has a permission that is not about one repository.
    pub(super) fn may(&self, wanted: &Operation) -> bool {
        self.access.permit(self.identity.clone(), wanted).is_ok()
    }

    /// Returns true if the user may delete in a repository, and deleting is on.
    pub(super) fn may_delete(&self, name: &RepositoryName) -> bool {
        self.admin.settings.delete && self.check(Action::Delete, name).is_ok()
    }

    /// Returns the host for the commands on a page; `HOST` where a client sent no valid one.
    pub(super) fn display_host(&self) -> String {
        display_host(&self.host)
    }

    /// Receives the form, if it passes both CSRF checks: the origin of the page and the token of the cookie.
    pub(super) async fn take_form(
        &mut self,
        mut body: RequestBody,
        is_login: bool,
    ) -> Result<(), AdminError> {
        let csrf = CsrfPolicy::new(&self.admin.addresses);
        csrf.check_form(&self.headers, self.context.peer, self.context.tls)?;
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(AdminError::NotForm);
        }
        // A client that is not logged in sends nothing larger than a password.
        let is_known = !is_login && self.check_access().is_ok();
        let limit = if is_known { LARGEST_FORM } else { SMALL_FORM };
        if limit > SMALL_FORM && body.announced().is_none_or(|length| length > SMALL_FORM as u64) {
            // The form is held in memory until its last byte arrives, however slowly the client sends.
            let place = self.admin.state.forms.acquire(self.holder());
            let place = tokio::time::timeout(PLACE_TIMEOUT, place).await;
            self.form_place = Some(place.ok().and_then(Result::ok).ok_or(AdminError::Busy)?);
        }
        let bytes = body.collect(limit).await?;
        let form = Query::parse(std::str::from_utf8(&bytes).ok());
        let checked = self.check_token(form.get("token").unwrap_or_default());
        match checked {
            Err(AdminError::NeedsLogin) if is_login => return Err(EXPIRED),
            checked => checked?,
        }
        self.form = form;
        Ok(())
    }

    /// Checks the CSRF token of a form.
    pub(super) fn check_token(&self, token: &str) -> Result<(), AdminError> {
        if self.admin.state.sessions.is_form_token(&self.secret, token) {
            return Ok(());
        }
        let is_logged_out = self.identity == Identity::Anonymous && self.check_access().is_err();
        Err(if is_logged_out { AdminError::NeedsLogin } else { EXPIRED })
    }

    /// Begins to read a form with a file, if it comes from a page of the registry. Its token is in its first field.
    pub(super) fn check_upload(&self) -> Result<Multipart, AdminError> {
        let csrf = CsrfPolicy::new(&self.admin.addresses);
        csrf.check_form(&self.headers, self.context.peer, self.context.tls)?;
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Multipart::new(content_type.unwrap_or_default()).map_err(|error| {
            Problem::new(ProblemKind::Malformed, ErrorCode::Unsupported, error.to_string()).into()
        })
    }

    /// Returns the permit of the user, for rights in repositories.
    pub(super) fn own_permit(&self) -> Result<Permit, AdminError> {
        let permit = self.access.permit(self.identity.clone(), &Operation::Ping);
        permit.map_err(|_| AdminError::NeedsLogin)
    }

    /// Returns the name of the user who is logged in.
    pub(super) fn own_name(&self) -> Result<UserName, AdminError> {
        match &self.identity {
            Identity::User(name) => Ok(name.clone()),
            Identity::Anonymous | Identity::Local(_) => Err(AdminError::NeedsLogin),
        }
    }

    /// Returns the redirect after a form, to a page that shows its result: `result` is the value of the parameter `done`, and
    /// the parameters of its notice. The page shows it only with the seal of this browser, so that no link of another site
    /// can make it claim anything.
    pub(super) fn see_result(&self, path: &str, result: &str) -> Response {
        let join = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{join}done={result}");
        let seal = self.admin.state.sessions.form_token(&self.sealed(&target));
        see_other(&format!("{target}{SEAL}{seal}"))
    }

    /// Returns the parameters of the notice about a form that led to this page.
    pub(super) fn result(&self) -> Option<&Query> {
        let (target, seal) = self.path.rsplit_once(SEAL)?;
        self.admin.state.sessions.is_form_token(&self.sealed(target), seal).then_some(&self.query)
    }

    /// Returns the text that a seal is made of; no secret of a cookie has a space.
    fn sealed(&self, target: &str) -> String {
        format!("{} {target}", self.secret)
    }

    /// Returns the CSRF token for the forms of this page.
    pub(super) fn token(&self) -> String {
        self.admin.state.sessions.form_token(&self.secret)
    }

    /// Starts a session in the browser.
    pub(super) fn begin_session(&mut self, secret: &str) {
        secret.clone_into(&mut self.secret);
        self.cookies.push(Cookie::Session.set(self.secure, secret));
    }

    /// Ends the session of the browser.
    pub(super) fn end_session(&mut self) {
        self.admin.state.sessions.end(&self.secret);
        self.cookies.push(Cookie::Session.expire(self.secure));
    }

    /// Returns a field of the form, without spaces around it.
    pub(super) fn field(&self, name: &str) -> &str {
        self.form.get(name).unwrap_or_default().trim()
    }

    /// Returns the path and query to return to after a log-in. The result of a form and the overview have none.
    pub(super) fn return_path(&self) -> Option<&str> {
        (self.method != Method::POST && self.path != "/").then_some(self.path.as_str())
    }

    /// Returns path and query of the page with the form that was sent, from the header `Referer`.
    pub(super) fn referring_path(&self) -> Option<&str> {
        let page = self.headers.get(REFERER)?.to_str().ok()?;
        let (_, rest) = page.split_once("://")?;
        rest.find('/').map(|at| &rest[at..])
    }

    /// Returns the theme of the browser's cookie.
    pub(super) fn theme(&self) -> Theme {
        let is_name = |value: &&str| Theme::parse(value) != Theme::System;
        let value = Cookie::Theme.find(self.secure, &self.headers, is_name);
        Theme::parse(value.as_deref().unwrap_or_default())
    }

    /// Remembers a theme in the browser.
    pub(super) fn set_theme(&mut self, theme: Theme) {
        self.cookies.push(match theme {
            Theme::System => Cookie::Theme.expire(self.secure),
            Theme::Light | Theme::Dark => Cookie::Theme.set(self.secure, theme.name()),
        });
    }

    /// Returns the name of the task that the browser remembers.
    pub(super) fn remembered_task(&self) -> Option<String> {
        Cookie::Task.find(self.secure, &self.headers, |_| true)
    }

    /// Remembers a task in the browser, or forgets it.
    pub(super) fn remember_task(&mut self, task: Option<&'static str>) {
        self.cookies.push(match task {
            Some(task) => Cookie::Task.set(self.secure, task),
            None => Cookie::Task.expire(self.secure),
        });
    }

    /// Returns true if the client wants the headers only.
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Sets the headers and cookies that every page has.
    pub(super) fn finish(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        protect(headers);
        for cookie in &self.cookies {
            if let Ok(cookie) = HeaderValue::from_str(cookie) {
                headers.append(SET_COOKIE, cookie);
            }
        }
        response
    }
}

fn display_host(host: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let is_valid = (1..=LONGEST_HOST).contains(&host.len()) && host.chars().all(allowed);
    if is_valid { host.to_owned() } else { "HOST".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_hosts_are_not_shown() {
        assert_eq!(display_host("[::1]:5000"), "[::1]:5000");
        for invalid in ["", "a b; rm -rf", &"a".repeat(LONGEST_HOST + 1)] {
            assert_eq!(display_host(invalid), "HOST");
        }
    }
}
