//! Credentials that a client sends: a user name and a password, or a bearer token.

use base64::Engine;

/// A user name and a password, right or wrong.
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
    /// Neither, or malformed.
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

/// Returns the name that a client gives in its `Authorization` header, right or wrong.
pub fn claimed_name(authorization: &str) -> Option<String> {
    match Authorization::parse(authorization) {
        Authorization::Basic(credentials) => Some(credentials.name),
        Authorization::Bearer(_) | Authorization::Malformed => None,
    }
}
