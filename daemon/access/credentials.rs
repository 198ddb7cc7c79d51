//! Credentials of the `Authorization` header: a user name and a password (RFC 7617), or a bearer token (RFC 6750).

use base64::Engine;

/// A user name and a password, not verified.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// The content of an `Authorization` header.
pub(super) enum Authorization<'a> {
    /// A user name and a password.
    Basic(Credentials),
    /// A bearer token.
    Bearer(&'a str),
    /// Another scheme, or malformed.
    Malformed,
}

impl<'a> Authorization<'a> {
    pub(super) fn parse(header: &'a str) -> Self {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return Authorization::Bearer(rest.trim());
        }
        let basic = basic(rest).filter(|_| scheme.eq_ignore_ascii_case("basic"));
        basic.map_or(Authorization::Malformed, Authorization::Basic)
    }
}

fn basic(encoded: &str) -> Option<Credentials> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(Credentials { name: name.to_owned(), password: password.to_owned() })
}

/// Returns the user name of an `Authorization` header, for the log. It is not verified.
pub fn claimed_name(authorization: &str) -> Option<String> {
    match Authorization::parse(authorization) {
        Authorization::Basic(credentials) => Some(credentials.name),
        Authorization::Bearer(_) | Authorization::Malformed => None,
    }
}
