//! Challenges: the values of `WWW-Authenticate` (RFC 9110, section 11.6.1).

/// A way to log in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password in each request.
    Basic,
    /// A token of a token server.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The name of the registry at the token server.
        service: Option<String>,
    },
}

/// Parses all challenges of a header; those of other schemes, and a Bearer challenge without a realm, are left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    let mut open: Option<(String, Vec<(String, String)>)> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else { break };
        let behind = after.trim_start_matches([' ', '\t']);
        match behind.strip_prefix('=').filter(|_| open.is_some()) {
            // A parameter of the open challenge.
            Some(value) if !value.starts_with('=') => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                if let Some((_, parameters)) = &mut open {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            // The next challenge begins, or one with a token instead of parameters, which is passed over.
            Some(_) | None => {
                found.extend(open.take().and_then(finish));
                open = Some((word.to_ascii_lowercase(), Vec::new()));
                rest = behind.trim_start_matches('=');
            }
        }
    }
    found.extend(open.and_then(finish));
    found
}

fn finish((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: value("realm")?, service: value("service") }),
        _ => None,
    }
}

/// Returns the token at the start of a text, and what follows.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Returns the value at the start of a text, a token or a quoted string, and what follows.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers send URLs without quotes.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) }
    }

    #[test]
    fn challenges_have_any_case_and_quotes() {
        let realm = "https://auth.example/token";
        for header in [
            r#"Bearer realm="https://auth.example/token",service="hub",scope="repository:a:pull,push""#,
            r#"bearer  Realm = "https://auth.example/token" ,  SERVICE=hub"#,
            "BEARER service=hub,realm=https://auth.example/token",
        ] {
            assert_eq!(parse(header), [bearer(realm, Some("hub"))], "{header}");
        }
        assert_eq!(parse(r#"Basic realm="Registry, \"the\" one""#), [Challenge::Basic]);
        assert_eq!(parse(r#"Bearer realm="https://x/a,b\"c""#), [bearer("https://x/a,b\"c", None)]);
    }

    #[test]
    fn several_challenges_stand_in_one_header() {
        let header = r#"Negotiate, Digest qop="auth, int", Basic realm="x", Bearer realm="https://y/",service=z, Other abc=="#;
        assert_eq!(parse(header), [Challenge::Basic, bearer("https://y/", Some("z"))]);
        assert_eq!(parse("Basic"), [Challenge::Basic]);
        for header in ["", ",,", "Bearer", r#"Bearer realm="open"#, "=", "Bearer service=x", "\u{e4}"] {
            assert_eq!(parse(header), [], "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header in "([a-zA-Z]{1,6}|[ ,=\"\\\\]|realm|Bearer|\u{e4}){0,30}") {
            let _ = parse(&header);
        }
    }
}
