//! The key `listen`, and the keys of `[tls]`, `[http]` and `[service]`.

use rustls::pki_types::ServerName;

use crate::config::format::{Choice, List, ListOrText, Optional, OrOff};
use crate::config::given::Given;
use crate::config::headers::Headers;
use crate::config::key::{Initial, Key, Section, key};
use crate::config::problem::Problem;
use crate::config::settings::{Config, TlsMode, WrittenTlsMode};
use crate::config::text_formats::{ADDRESS, DURATION_ABOVE_ZERO, FILE, NETWORK, PATH, TEXT, URL};

pub(in crate::config) const TOP: Section<Config> = Section { name: "", doc: "", keys: TOP_KEYS };

const TOP_KEYS: &[Key<Config>] = &[key!(
    "listen",
    Initial::Value("[\"127.0.0.1:5000\"]"),
    listen,
    ListOrText(List(ADDRESS, 1)),
    "The addresses to listen on, unless systemd passes sockets: ADDRESS:PORT, or \":5000\" for all addresses, IPv4 and IPv6.",
    restart: true
)];

pub(in crate::config) const TLS: Section<Config> = Section { name: "tls", doc: "", keys: TLS_KEYS };

const TLS_KEYS: &[Key<Config>] = &[
    key!(
        "tls.mode",
        Initial::Value("\"off\""),
        tls.written_mode,
        Choice(&[
            ("off", WrittenTlsMode::Off),
            ("auto", WrittenTlsMode::Auto),
            ("files", WrittenTlsMode::Files)
        ]),
        "\"off\": plain HTTP. \"auto\": a certificate from the registry's own authority, whose CA certificate is \
         available at /ca.crt. \"files\": the two files below."
    ),
    key!(
        "tls.certificate",
        Initial::Unset("\"/etc/holdfast/tls.crt\""),
        tls.certificate,
        Optional(PATH),
        "The certificate chain for mode \"files\", in PEM. The user that the daemon runs as must be able to read it."
    ),
    key!(
        "tls.key",
        Initial::Unset("\"/etc/holdfast/tls.key\""),
        tls.key,
        Optional(PATH),
        "The private key for mode \"files\", in PEM. The user that the daemon runs as must be able to read it."
    ),
    key!(
        "tls.names",
        Initial::Value("[]"),
        tls.names,
        List(TEXT, 0),
        "Additional names and addresses (SANs) for the certificate of mode \"auto\". The names and addresses of this \
         machine are always included."
    ),
    key!(
        "tls.client_ca",
        Initial::Value("[]"),
        tls.clients.authorities,
        List(FILE, 0),
        "PEM files with CA certificates. If any are set, a client without a certificate issued by one of them is refused \
         (mutual TLS)."
    ),
    key!(
        "tls.minimum",
        Initial::Value("\"1.2\""),
        tls.clients.only_tls_1_3,
        Choice(&[("1.2", false), ("1.3", true)]),
        "The lowest version of TLS that is accepted: \"1.2\" or \"1.3\"."
    ),
];

/// Combines the keys of `[tls]`: two files without a mode mean the mode "files".
pub(in crate::config) fn finish_tls(config: &mut Config, given: &Given, problems: &mut Vec<Problem>) {
    let tls = &mut config.tls;
    if !given.has("tls.mode") && (tls.certificate.is_some() || tls.key.is_some()) {
        tls.written_mode = WrittenTlsMode::Files;
    }
    let mut conflict = |key: &str, reason| {
        let place = given.place(key).or_else(|| given.place("tls.mode"));
        problems.push(Problem::Conflict { place, reason });
    };
    tls.mode = match (tls.written_mode, &tls.certificate, &tls.key) {
        (WrittenTlsMode::Off, ..) => TlsMode::Off,
        (WrittenTlsMode::Auto, ..) => TlsMode::Auto,
        (WrittenTlsMode::Files, Some(certificate), Some(key)) => {
            TlsMode::Files { certificate: certificate.clone(), key: key.clone() }
        }
        (WrittenTlsMode::Files, None, key) => {
            let written = if key.is_some() { "tls.key" } else { "tls.mode" };
            return conflict(
                written,
                "tls.certificate is missing; the mode \"files\" needs tls.certificate and tls.key",
            );
        }
        (WrittenTlsMode::Files, Some(_), None) => {
            let reason = "tls.key is missing; the mode \"files\" needs tls.certificate and tls.key";
            return conflict("tls.certificate", reason);
        }
    };
    if tls.mode == TlsMode::Off && !tls.clients.authorities.is_empty() {
        conflict(
            "tls.client_ca",
            "tls.client_ca requires certificates from clients, which needs TLS; set tls.mode to \"auto\" or \"files\"",
        );
    }
    if tls.mode == TlsMode::Auto {
        check_names(given, problems);
    }
}

/// Refuses names that a certificate cannot have. Only the mode "auto" uses them.
fn check_names(given: &Given, problems: &mut Vec<Problem>) {
    let Some(item) = given.get("tls.names") else { return };
    let is_certifiable = |name: &str| ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok();
    for (_, item) in item.texts().filter(|(name, _)| !is_certifiable(name)) {
        let allowed =
            "a DNS name or an address without a port; write a name with other letters in its xn-- form";
        problems.push(Problem::value("tls.names", item, allowed));
    }
}

pub(in crate::config) const HTTP: Section<Config> = Section { name: "http", doc: "", keys: HTTP_KEYS };

const HTTP_KEYS: &[Key<Config>] = &[
    key!(
        "http.external_url",
        Initial::Unset("\"https://registry.lan\""),
        http.addresses.external_url,
        Optional(URL),
        "The URL of the registry as clients see it, for the Location header of responses, which is relative otherwise. \
         With an https URL browsers get cookies for TLS only."
    ),
    key!(
        "http.trusted_proxies",
        Initial::Value("[]"),
        http.addresses.trusted_proxies,
        List(NETWORK, 0),
        "The proxies whose X-Forwarded-For, -Proto, -Host and -Port or Forwarded (RFC 7239) headers are believed: \
         addresses or networks. Name a proxy that terminates TLS here or in external_url, so that a page loaded by plain \
         HTTP cannot make changes. docs/how-to/proxies.md has configurations for nginx, HAProxy and Caddy."
    ),
    key!(
        "http.headers",
        Initial::Unset(
            "Access-Control-Allow-Origin = [\"http://ui.lan\"]\nAccess-Control-Allow-Credentials = [\"true\"]"
        ),
        http.headers,
        Headers,
        "Headers of every response; a page of the admin page keeps its own header of the same name. The CORS headers let \
         a web page of another origin use the registry; pages of all other origins cannot make changes, even if no log-in \
         is needed. \"*\" allows every origin, except for changes that need a log-in: list the origins that log in by \
         name. Responses other than pages keep their own Content-Security-Policy and X-Content-Type-Options, so that no \
         stored content runs in a browser."
    ),
];

pub(in crate::config) const SERVICE: Section<Config> =
    Section { name: "service", doc: "", keys: SERVICE_KEYS };

const SERVICE_KEYS: &[Key<Config>] = &[
    key!(
        "service.idle",
        Initial::Value("\"5m\""),
        service.idle,
        OrOff(DURATION_ABOVE_ZERO),
        "The time after which the daemon exits if systemd activates it by socket and there is no connection, no \
         unfinished upload and no log-in on the admin page; the next connection starts it again. \"off\" keeps it \
         running."
    ),
    key!(
        "service.control",
        Initial::Unset("\"/run/holdfast/control.sock\""),
        service.control,
        Optional(PATH),
        "The Unix socket through which the command line reaches a running daemon. If not set, it is \
         /run/holdfast/control.sock where systemd holds that, and otherwise control.sock in the data directory. Users who \
         may write to the socket, root and the group of the daemon, have full rights.",
        restart: true
    ),
];
