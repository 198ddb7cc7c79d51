//! Credentials in Docker's `config.json`. Credential helpers are programs, and are not run.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::Credentials;
use super::docker_hub;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// Returns the credentials for a registry, by its host with the port if that is not the default one; `None` if the file has
/// none.
///
/// # Errors
/// Returns the reason, in words without a secret, if the file is malformed.
pub fn stored_credentials(text: &[u8], host: &str) -> Result<Option<Credentials>, String> {
    let File { auths } = serde_json::from_slice(text)
        .map_err(|error| format!("it is malformed at line {}, column {}", error.line(), error.column()))?;
    let is_hub = docker_hub::is_hub(host);
    let is_key = |key: &str| {
        let name = key.split_once("://").map_or(key, |(_, rest)| rest);
        let name = name.split('/').next().unwrap_or_default();
        name == host || is_hub && docker_hub::is_hub(name)
    };
    // An exact name counts before one with a scheme or a path.
    let exact = auths.get(host).or_else(|| auths.get(docker_hub::CREDENTIALS_KEY).filter(|_| is_hub));
    let entry = exact.or_else(|| auths.iter().find(|(key, _)| is_key(key)).map(|(_, entry)| entry));
    entry.map_or(Ok(None), |entry| of_entry(entry).map_err(|reason| format!("its entry for {host} {reason}")))
}

fn of_entry(entry: &Entry) -> Result<Option<Credentials>, &'static str> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials::Identity(entry.identitytoken.clone())));
    }
    if entry.auth.is_empty() {
        // An empty entry belongs to a credential helper.
        let Entry { username: user, password, .. } = entry;
        let (user, password) = (user.clone(), password.clone());
        return Ok((!user.is_empty()).then_some(Credentials::Password { user, password }));
    }
    let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or("is not base64 text")?;
    let (user, password) = decoded.split_once(':').ok_or("has no password")?;
    let password = password.trim_end_matches('\0');
    Ok(Some(Credentials::Password { user: user.into(), password: password.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn entries_are_found_by_host_and_port() {
        let auth = STANDARD.encode("me:a:b");
        let text = format!(
            r#"{{"auths":{{"hub.lan:5000":{{"auth":"{auth}"}},"https://old.lan/v1/":{{"username":"u","password":"p"}},
                "https://index.docker.io/v1/":{{"identitytoken":"t"}},"helped.lan":{{}}}},"credsStore":"x"}}"#
        );
        let of = |host: &str| stored_credentials(text.as_bytes(), host).unwrap();
        assert_eq!(of("hub.lan:5000"), Some(password("me", "a:b")));
        assert_eq!(of("old.lan"), Some(password("u", "p")));
        for hub in ["docker.io", "registry-1.docker.io"] {
            assert_eq!(of(hub), Some(Credentials::Identity("t".into())));
        }
        for host in ["hub.lan", "hub.lan:5001", "lan:5000", "helped.lan", "other"] {
            assert_eq!(of(host), None, "{host}");
        }
    }

    #[test]
    fn malformed_files_are_errors_without_their_content() {
        for text in
            ["", "7", r#"{"auths":{"h":{"auth":"!secret"}}}"#, r#"{"auths":{"h":{"auth":"c2VjcmV0"}}}"#]
        {
            let error = stored_credentials(text.as_bytes(), "h").unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(stored_credentials(b"{}", "h"), Ok(None));
    }
}
