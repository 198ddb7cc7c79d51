//! Another registry as the other end of an import or an export: its options, and its client.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::user::password_of_stdin;
use crate::client::{ClientError, Credentials, RegistryClient, Settings, docker_hub, stored_credentials};
use crate::egress::{
    AddressPolicy, Connector, HostName, HttpClient, Origin, Proxies, Remedy, Scheme, Target, trusted_roots,
};

/// The heading of the options in the help.
pub(super) const HEADING: &str = "Another registry";
/// Maximum length of Docker's configuration, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// The connection to another registry.
#[derive(Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct RemoteOptions {
    /// User of the other registry [default: as docker login has stored it in config.json]
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password of the user from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Authority to trust besides those of the system, in PEM form, such as the ca.crt of another Holdfast
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP without TLS; everyone on the network can read the password
    #[arg(long)]
    plain_http: bool,
    /// Host of a token server that may see the password, if it is not that of the registry
    #[arg(long, value_name = "HOST[:PORT]")]
    token_host: Vec<HostName>,
    /// Host on a private network to which the registry may redirect
    #[arg(long, value_name = "HOST[:PORT]")]
    allow_host: Vec<HostName>,
}

/// Another registry.
pub(super) struct Remote {
    pub(super) client: RegistryClient,
    /// Its host in image names.
    pub(super) host: String,
    /// True if standard input had its password.
    pub(super) has_read_stdin: bool,
}

/// Describes an error, with the option that may help.
pub(super) fn explain(error: &ClientError) -> String {
    let remedy = match error.remedy() {
        None => return error.to_string(),
        Some(Remedy::AllowHost(host)) => {
            format!("if the host belongs to the registry, add --allow-host {host}")
        }
        Some(Remedy::TrustAuthority) => "name that authority with --ca FILE".into(),
        Some(Remedy::PlainHttp) => "--plain-http is for registries without it".into(),
        Some(Remedy::LogIn(host)) => format!("use --username USER --password-stdin, or docker login {host}"),
        Some(Remedy::TokenHost(place)) => format!("if it belongs to the registry, add --token-host {place}"),
    };
    format!("{error}; {remedy}")
}

impl RemoteOptions {
    /// Returns the registry of a URL; `None` without one, when no other option may be given.
    pub(super) fn open(
        &self,
        (option, url): (&str, Option<&str>),
        environment: &[(String, String)],
    ) -> Result<Option<Remote>, Failure> {
        let Some(url) = url else {
            return match self.first_given() {
                Some(given) => {
                    Err(Failure::misuse(format!("{given} is for another registry; name that with {option}")))
                }
                None => Ok(None),
            };
        };
        let (origin, host) =
            self.origin(url).map_err(|reason| Failure::misuse(format!("{option}: {reason}")))?;
        let credentials = self.credentials(&host, environment)?;
        let named = [HostName::from(&origin)];
        let named = named.iter().chain(&self.token_host).chain(&self.allow_host).cloned().collect();
        let roots = trusted_roots(environment, self.ca.as_deref()).map_err(Failure::failed)?;
        let proxies = Proxies::of(environment).map_err(Failure::misuse)?;
        let connector = Connector::new(AddressPolicy::new(named), proxies, roots).map_err(Failure::failed)?;
        let settings = Settings { origin, credentials, token_hosts: self.token_host.clone() };
        let client = RegistryClient::new(HttpClient::new(connector), settings);
        Ok(Some(Remote { client, host, has_read_stdin: self.password_stdin }))
    }

    fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--username", self.username.is_some()),
            ("--ca", self.ca.is_some()),
            ("--plain-http", self.plain_http),
            ("--token-host", !self.token_host.is_empty()),
            ("--allow-host", !self.allow_host.is_empty()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// Parses `HOST[:PORT]` or a URL of a registry; returns its host in image names too.
    fn origin(&self, url: &str) -> Result<(Origin, String), String> {
        let text = match (url.split_once("://"), self.plain_http) {
            (None, false) => format!("https://{url}"),
            (None, true) => format!("http://{url}"),
            (Some(("http", _)), false) => {
                return Err("HTTP without TLS has to be permitted with --plain-http".into());
            }
            (Some(("https", _)), true) => {
                return Err("--plain-http and https:// contradict each other".into());
            }
            (Some(_), _) => url.to_owned(),
        };
        let Target { mut origin, path } = Target::parse(&text).map_err(|reason| match reason {
            "it has a user name" => "a user is named with --username".to_owned(),
            reason => format!("{url:?}: {reason}"),
        })?;
        if path != "/" {
            return Err(format!(
                "{url:?} has a path; a registry is a host, and repositories are named apart"
            ));
        }
        let is_hub = docker_hub::is_alias(&origin.host) && origin.scheme == Scheme::Https;
        let shown = if is_hub { docker_hub::NAME.to_owned() } else { origin.authority() };
        if is_hub {
            docker_hub::REGISTRY.clone_into(&mut origin.host);
        }
        Ok((origin, shown))
    }

    /// Returns the credentials of the options, else those of `docker login`.
    fn credentials(
        &self,
        host: &str,
        environment: &[(String, String)],
    ) -> Result<Option<Credentials>, Failure> {
        if let Some(user) = &self.username {
            let (user, password) = (user.clone(), password_of_stdin()?);
            return Ok(Some(Credentials::Password { user, password }));
        }
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| Path::new(value))
        };
        let of_docker = variable("DOCKER_CONFIG").map(|folder| folder.join("config.json"));
        let file = of_docker.or_else(|| variable("HOME").map(|home| home.join(".docker/config.json")));
        let Some(file) = file else { return Ok(None) };
        let failed =
            |reason: &dyn std::fmt::Display| Failure::failed(format!("{}: {reason}", file.display()));
        let text = match read(&file) {
            Ok(text) => text,
            // The home of a service account may be /dev/null.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        stored_credentials(&text, host).map_err(|reason| failed(&reason))
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_CONFIG).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(plain_http: bool) -> RemoteOptions {
        let (token_host, allow_host) = (Vec::new(), Vec::new());
        RemoteOptions { username: None, password_stdin: false, ca: None, plain_http, token_host, allow_host }
    }

    fn origin(url: &str, plain_http: bool) -> Result<(String, String), String> {
        options(plain_http).origin(url).map(|(origin, host)| (origin.to_string(), host))
    }

    #[test]
    fn registries_are_hosts_or_urls() {
        let is = |text: &str, host: &str| Ok((text.to_owned(), host.to_owned()));
        assert_eq!(origin("hub.lan:5000", false), is("https://hub.lan:5000", "hub.lan:5000"));
        assert_eq!(origin("https://hub.lan/", false), is("https://hub.lan", "hub.lan"));
        assert_eq!(origin("hub.lan:5000", true), is("http://hub.lan:5000", "hub.lan:5000"));
        assert_eq!(origin("http://hub.lan", true), is("http://hub.lan", "hub.lan"));
        assert_eq!(origin("docker.io", false), is("https://registry-1.docker.io", "docker.io"));
        for (url, plain_http) in [
            ("http://hub.lan", false),
            ("https://hub.lan", true),
            ("hub.lan/team", false),
            ("me@hub.lan", false),
            ("ftp://hub.lan", false),
            ("", false),
        ] {
            assert!(origin(url, plain_http).is_err(), "{url}");
        }
    }

    #[test]
    fn options_of_another_registry_need_one() {
        let Err(refused) = options(true).open(("--to", None), &[]) else { panic!("it was accepted") };
        assert_eq!((refused.code, refused.line.contains("--plain-http")), (2, true));
        assert!(matches!(options(false).open(("--to", None), &[]), Ok(None)));
    }
}
