//! The cookies of the admin page.
//!
//! Over TLS their names have the prefix `__Host-`, so that neither another host of the domain nor plain HTTP can set them.
//! The value is a secret of 64 hexadecimal digits, or the name of a theme or task.

use http::HeaderMap;
use http::header::COOKIE;

/// A cookie of the admin page.
#[derive(Clone, Copy)]
pub(super) enum Cookie {
    /// Identifies the session of a logged-in user.
    Session,
    /// Binds the CSRF token of a client that is not logged in.
    PreSession,
    /// Remembers the theme; not a secret.
    Theme,
    /// Remembers the task whose steps the page of commands shows; not a secret.
    Task,
}

impl Cookie {
    fn name(self, secure: bool) -> String {
        let name = match self {
            Cookie::Session => "holdfast",
            Cookie::PreSession => "holdfast-form",
            Cookie::Theme => "holdfast-theme",
            Cookie::Task => "holdfast-task",
        };
        if secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// Returns the value in the headers of a request, if it has the form of a secret.
    pub(super) fn value(self, secure: bool, headers: &HeaderMap) -> Option<String> {
        let is_secret =
            |value: &&str| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.find(secure, headers, is_secret)
    }

    /// Returns the first value in the headers of a request that `is_valid`.
    pub(super) fn find(
        self,
        secure: bool,
        headers: &HeaderMap,
        is_valid: impl FnMut(&&str) -> bool,
    ) -> Option<String> {
        let name = self.name(secure);
        let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut values = pairs.flat_map(|text| text.split(';')).filter_map(|pair| {
            let (known, value) = pair.trim().split_once('=')?;
            (known == name).then_some(value)
        });
        values.find(is_valid).map(str::to_owned)
    }

    /// Formats the `Set-Cookie` that stores a value.
    pub(super) fn set(self, secure: bool, value: &str) -> String {
        let flag = if secure { "; Secure" } else { "" };
        let age = match self {
            Cookie::Session | Cookie::PreSession => "",
            // The longest time that browsers keep a cookie.
            Cookie::Theme | Cookie::Task => "; Max-Age=34560000",
        };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{age}{flag}", self.name(secure))
    }

    /// Formats the `Set-Cookie` that deletes the cookie.
    pub(super) fn expire(self, secure: bool) -> String {
        format!("{}; Max-Age=0", self.set(secure, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_cookie_is_found_among_others() {
        let secret = "0123456789abcdef".repeat(4);
        let find = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, text.parse().unwrap());
            Cookie::Session.value(false, &headers)
        };
        assert_eq!(find(&format!("a=b; holdfast={secret};c")), Some(secret.clone()));
        assert_eq!(find(&format!("holdfast=short; holdfast={secret}")), Some(secret.clone()));
        assert_eq!(find(&format!("xholdfast={secret}; holdfast-form={secret}; holdfast")), None);
        assert_eq!(find(&format!("holdfast={secret}0")), None);
    }

    #[test]
    fn cookies_over_tls_have_the_host_prefix() {
        let set = Cookie::Session.set(true, "x");
        assert_eq!(set, "__Host-holdfast=x; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(Cookie::PreSession.set(false, "x"), "holdfast-form=x; Path=/; HttpOnly; SameSite=Strict");
    }
}
