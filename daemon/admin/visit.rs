//! A request for a page: who it is, whether its form is to be believed, and the headers of its answer.

use std::time::Duration;

use http::header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::error::AdminError;
use super::{Admin, Surroundings, pages};
use crate::access::{self, Access, Action, Identity, Permit, Wanted};
use crate::oci::RepositoryName;
use crate::queue::FairPermit;
use crate::store::Holder;
use crate::wire::{CsrfPolicy, Query, RequestBody, Response, empty};

/// The largest form, in bytes: a page full of tags fits.
const LARGEST_FORM: usize = 256 << 10;
/// The largest form that is received without a place among the large ones, in bytes.
const SMALL_FORM: usize = LARGEST_FORM >> 4;
/// How long a large form waits for a place.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cookie: its name over plain HTTP; over TLS it gets a prefix that keeps other hosts and plain HTTP from setting it.
#[derive(Clone, Copy)]
enum Cookie {
    /// Of somebody who is logged in.
    Session,
    /// Of somebody who is not, for the token of forms.
    Visit,
}

/// A request for a page.
pub(super) struct Visit<'a> {
    pub(super) admin: &'a Admin,
    pub(super) access: &'a Access,
    pub(super) surroundings: Surroundings,
    /// The host as it stands in the browser's address line.
    pub(super) host: String,
    /// Whether the browser speaks TLS, be it to a proxy.
    pub(super) secure: bool,
    pub(super) identity: Identity,
    pub(super) query: Query,
    /// What a form has, once it is believed.
    pub(super) form: Query,
    /// The place of a large form, given back with the request.
    form_place: Option<FairPermit<Holder>>,
    headers: HeaderMap,
    path: String,
    /// Whether it asks for a page, rather than for a change.
    reads: bool,
    /// What the token of forms belongs to.
    secret: String,
    cookies: Vec<String>,
}

impl<'a> Visit<'a> {
    pub(super) async fn new(
        admin: &'a Admin,
        access: &'a Access,
        parts: Parts,
        surroundings: Surroundings,
    ) -> Result<Self, AdminError> {
        let target = admin.locations.target_origin(&parts.headers, surroundings.peer, surroundings.tls);
        let (secure, host) = (target.https, target.host.unwrap_or_default());
        let sessions = &admin.desk.sessions;
        let session = cookie(&parts.headers, &Cookie::Session.name(secure));
        let identity = access.session(sessions, session.as_deref()).await;
        let mut cookies = Vec::new();
        let known = match (session, &identity) {
            (Some(secret), Identity::User(_)) => Some(secret),
            _ => cookie(&parts.headers, &Cookie::Visit.name(secure)),
        };
        let secret = if let Some(secret) = known {
            secret
        } else {
            let secret = sessions.secret()?;
            cookies.push(Cookie::Visit.set(secure, &secret));
            secret
        };
        Ok(Visit {
            query: Query::parse(parts.uri.query()),
            path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            reads: parts.method != Method::POST,
            headers: parts.headers,
            form: Query::default(),
            form_place: None,
            admin,
            access,
            surroundings,
            host,
            secure,
            identity,
            secret,
            cookies,
        })
    }

    /// Refuses whoever may not see the pages at all.
    pub(super) fn check_may_see(&self) -> Result<(), AdminError> {
        let named = &self.admin.settings.users;
        match &self.identity {
            Identity::User(name)
                if named.is_empty() || named.iter().any(|known| known == "*" || known == name.as_str()) =>
            {
                Ok(())
            }
            Identity::User(_) => {
                Err(AdminError::Denied("The admin page is not for this user (admin.users)."))
            }
            // Rules for the anonymous user open repositories, but not this page.
            Identity::Anonymous if named.is_empty() && self.access.opens_pages() && self.permit().is_ok() => {
                Ok(())
            }
            Identity::Anonymous => Err(AdminError::NeedsLogin),
        }
    }

    /// Returns the party that the request waits for its turn as.
    pub(super) fn holder(&self) -> Holder {
        match &self.identity {
            Identity::User(name) => Holder::User(name.as_str().into()),
            Identity::Anonymous => Holder::Network(access::network(self.surroundings.client)),
        }
    }

    /// The permit to see lists; what is in them is decided one by one.
    pub(super) fn permit(&self) -> Result<Permit, AdminError> {
        let permit = self.access.permit(self.identity.clone(), &Wanted::Catalog);
        permit.map_err(|_| AdminError::Denied("This user may see no repository."))
    }

    /// Refuses what may not be done in a repository, with the same permit as the API.
    pub(super) fn check(&self, action: Action, name: &RepositoryName) -> Result<(), AdminError> {
        let wanted = Wanted::Repository { name: name.clone(), action };
        let permit = self.access.permit(self.identity.clone(), &wanted);
        permit.map(drop).map_err(|_| match self.identity {
            Identity::Anonymous => AdminError::NeedsLogin,
            Identity::User(_) => AdminError::Denied("This user may not do this in this repository."),
        })
    }

    /// Whether something may be done that concerns all of the registry.
    pub(super) fn may(&self, wanted: &Wanted) -> bool {
        self.access.permit(self.identity.clone(), wanted).is_ok()
    }

    /// Reads the form, if it comes from a page of this host and carries the token of this visit.
    pub(super) async fn take_form(
        &mut self,
        mut body: RequestBody,
        is_login: bool,
    ) -> Result<(), AdminError> {
        let csrf = CsrfPolicy::new(&self.admin.locations);
        csrf.check_form(&self.headers, self.surroundings.peer, self.surroundings.tls)?;
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(AdminError::NotForm);
        }
        // Whoever is not known has nothing to send but a password.
        let is_known = !is_login && self.check_may_see().is_ok();
        let limit = if is_known { LARGEST_FORM } else { SMALL_FORM };
        if limit > SMALL_FORM && body.announced().is_none_or(|length| length > SMALL_FORM as u64) {
            // A client that sends slowly keeps its form in memory until the last byte has come.
            let place = self.admin.desk.forms.acquire(self.holder());
            let place = tokio::time::timeout(PATIENCE, place).await;
            self.form_place = Some(place.ok().and_then(Result::ok).ok_or(AdminError::Busy)?);
        }
        let bytes = body.collect(limit).await?;
        let form = Query::parse(std::str::from_utf8(&bytes).ok());
        if !self.admin.desk.sessions.is_form_token(&self.secret, form.get("token").unwrap_or_default()) {
            let gone = self.identity == Identity::Anonymous && self.check_may_see().is_err();
            return Err(if gone && !is_login {
                AdminError::NeedsLogin
            } else {
                AdminError::Forged("The form was too old. Go back, load the page again and repeat it.")
            });
        }
        self.form = form;
        Ok(())
    }

    /// The token for the forms of this visit.
    pub(super) fn token(&self) -> String {
        self.admin.desk.sessions.form_token(&self.secret)
    }

    /// From now on the browser has a session with this secret.
    pub(super) fn begin_session(&mut self, secret: &str) {
        self.cookies.push(Cookie::Session.set(self.secure, secret));
    }

    /// The browser has no session any more.
    pub(super) fn end_session(&mut self) {
        self.admin.desk.sessions.end(&self.secret);
        self.cookies.push(Cookie::Session.expire(self.secure));
    }

    /// A field of the form, without spaces around it.
    pub(super) fn field(&self, name: &str) -> &str {
        self.form.get(name).unwrap_or_default().trim()
    }

    /// The answer to a request that met an error: a page, or the way to the form for logging in.
    pub(super) fn fail(&self, error: &AdminError) -> Response {
        if let AdminError::NeedsLogin = error {
            let next = form_urlencoded::byte_serialize(self.path.as_bytes()).collect::<String>();
            // A form that was not carried out is no page to come back to.
            let has_next = self.reads && self.path != "/";
            return see_other(&if has_next { format!("/login?next={next}") } else { "/login".into() });
        }
        let mut response = pages::failure(self, error);
        error.set_headers(response.headers_mut());
        response
    }

    /// Sets the headers that every page has.
    pub(super) fn finish(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        pages::protect(headers);
        for cookie in &self.cookies {
            if let Ok(cookie) = HeaderValue::from_str(cookie) {
                headers.append(SET_COOKIE, cookie);
            }
        }
        response
    }
}

impl Cookie {
    fn name(self, secure: bool) -> String {
        let name = match self {
            Cookie::Session => "holdfast",
            Cookie::Visit => "holdfast-visit",
        };
        if secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    fn set(self, secure: bool, value: &str) -> String {
        let flag = if secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{flag}", self.name(secure))
    }

    fn expire(self, secure: bool) -> String {
        format!("{}; Max-Age=0", self.set(secure, ""))
    }
}

/// The way to another page, once a form is carried out.
pub(super) fn see_other(path: &str) -> Response {
    let mut response = empty(StatusCode::SEE_OTHER);
    let path = HeaderValue::from_str(path).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, path);
    response
}

/// The value of a cookie, if it is one of ours: 64 hexadecimal digits.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = pairs.flat_map(|text| text.split(';')).filter_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name).then_some(value)
    });
    let is_secret = |value: &&str| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    values.find(is_secret).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_cookie_among_others() {
        let secret = "0123456789abcdef".repeat(4);
        let find = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, text.parse().unwrap());
            cookie(&headers, "holdfast")
        };
        assert_eq!(find(&format!("a=b; holdfast={secret};c")), Some(secret.clone()));
        assert_eq!(find(&format!("holdfast=short; holdfast={secret}")), Some(secret.clone()));
        assert_eq!(find(&format!("xholdfast={secret}; holdfast-visit={secret}; holdfast")), None);
        assert_eq!(find(&format!("holdfast={secret}0")), None);
    }

    #[test]
    fn a_cookie_over_tls_has_the_prefix() {
        let set = Cookie::Session.set(true, "x");
        assert_eq!(set, "__Host-holdfast=x; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(Cookie::Visit.set(false, "x"), "holdfast-visit=x; Path=/; HttpOnly; SameSite=Strict");
    }
}
