//! Real reverse proxies: nginx, `HAProxy`, Caddy and Traefik with the configurations of `docs/how-to/proxies.md`, and with common mistakes.
//!
//! Needs the packages nginx, haproxy and caddy, Traefik, which `tests/run` downloads, curl, openssl, skopeo and a Docker engine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engines::Engine;
use crate::support::unit::await_logged;
use crate::support::*;

const MANUAL: &str = include_str!("../../docs/how-to/proxies.md");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    HAProxy,
    Caddy,
    Traefik,
}

const KINDS: [Kind; 4] = [Kind::Nginx, Kind::HAProxy, Kind::Caddy, Kind::Traefik];

/// Mistake in a configuration: a text of the manual, and the wrong text in its place.
type Mistake = (&'static str, &'static str);

/// Proxy with TLS in front of a daemon; dropping it ends the process.
struct Proxy {
    child: Child,
    address: SocketAddr,
    log: tempfile::NamedTempFile,
    directory: tempfile::TempDir,
}

impl Proxy {
    fn start(kind: Kind, daemon: &Daemon, mistakes: &[Mistake]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        make_certificate(directory.path());
        let address = unused_address();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let mut block = configuration_in_manual(kind);
        for (right, wrong) in mistakes {
            assert!(block.contains(right), "{right}");
            block = block.replace(right, wrong);
        }
        let port = address.port();
        let mut replace = |from: &str, to: &str| {
            assert!(block.contains(from), "{from}");
            block = block.replace(from, to);
        };
        replace("127.0.0.1:5000", &daemon.address.to_string());
        match kind {
            Kind::Nginx => {
                replace("listen 443 ssl", &format!("listen {address} ssl"));
                replace("/etc/nginx/registry", &at("registry"));
            }
            Kind::HAProxy => {
                replace("bind :443", &format!("bind {address}"));
                replace("/etc/haproxy/registry", &at("registry"));
            }
            Kind::Caddy => {
                replace(
                    "registry.example.com",
                    &format!("https://127.0.0.1:{port}, https://localhost:{port}"),
                );
                replace("/etc/caddy/registry", &at("registry"));
            }
            Kind::Traefik => {
                replace("Host(`registry.example.com`)", "Host(`127.0.0.1`) || Host(`localhost`)");
                replace("/etc/traefik/registry", &at("registry"));
            }
        }
        let traefik = || tools::client("traefik").to_str().unwrap().to_owned();
        let (program, text, arguments) = match kind {
            Kind::Nginx => (
                "nginx".to_owned(),
                format!(
                    "user root; daemon off; pid {}; error_log stderr; worker_processes 1;\nevents {{}}\n\
                     http {{ access_log off; client_body_temp_path {}; proxy_temp_path {};\n{block}}}\n",
                    at("pid"),
                    at("bodies"),
                    at("temporary")
                ),
                vec!["-e".to_owned(), "stderr".to_owned(), "-c".to_owned(), at("configuration")],
            ),
            Kind::HAProxy => {
                ("haproxy".to_owned(), block, vec!["-db".to_owned(), "-f".to_owned(), at("configuration")])
            }
            Kind::Caddy => (
                "caddy".to_owned(),
                format!("{{\n admin off\n auto_https disable_redirects\n}}\n{block}"),
                ["run", "--adapter", "caddyfile", "--config", &at("configuration")].map(str::to_owned).into(),
            ),
            Kind::Traefik => {
                fs::write(at("registry.yaml"), &block).unwrap();
                let text = static_configuration_of_traefik()
                    .replace("\":443\"", &address.to_string())
                    .replace("/etc/traefik/registry.yaml", &at("registry.yaml"));
                let file = at("traefik.yaml");
                fs::write(&file, &text).unwrap();
                (traefik(), text, vec!["--configFile".to_owned(), file])
            }
        };
        fs::write(at("configuration"), &text).unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(&program)
            .args(arguments)
            .env("HOME", directory.path())
            .env("XDG_DATA_HOME", directory.path())
            .env("XDG_CONFIG_HOME", directory.path())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("the package {program} has to be installed: {error}"));
        let proxy = Proxy { child, address, log, directory };
        let begun = Instant::now();
        // HAProxy forwards requests only after its first health check succeeded.
        while proxy.curl(&["-f"], "/healthz").0 != "ok" {
            assert!(begun.elapsed() < Duration::from_secs(30), "{kind:?}: {text}\n{}", proxy.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        proxy
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Sends a request with curl, and returns the body and the status.
    fn curl(&self, arguments: &[&str], path: &str) -> (String, u16) {
        let url = format!("https://{}{path}", self.address);
        let output = Command::new("curl")
            .args(["-skS", "-m", "60", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (body.to_owned(), status.parse().unwrap_or(0))
    }

    /// Starts an upload like a page of the registry in a browser.
    fn post_from_page(&self, headers: &[&str]) -> (String, u16) {
        let origin = format!("Origin: https://{}", self.address);
        let mut arguments = vec!["-X", "POST", "-d", "", "-H", &origin];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        self.curl(&arguments, "/v2/page/blobs/uploads/")
    }

    /// Pushes a blob with POST, PATCH and PUT, each to the `Location` of the response before, as the standard says.
    #[track_caller]
    fn push_in_chunks(&self) {
        let file = self.directory.path().join("blob");
        let content = vec![5; 3 << 20];
        fs::write(&file, &content).unwrap();
        let location = |arguments: &[&str], path: &str| {
            let headers = self.curl(&[&["-D", "-", "-o", "/dev/null"], arguments].concat(), path).0;
            let line = headers.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
            });
            line.unwrap_or_else(|| panic!("no location: {headers}"))
        };
        let upload = location(&["-X", "POST", "-d", ""], "/v2/curl/blobs/uploads/");
        assert!(upload.starts_with("/v2/curl/blobs/uploads/"), "{upload}");
        let data = format!("@{}", file.display());
        let binary = ["-H", "Content-Type: application/octet-stream", "--data-binary", &data];
        let chunked = [&["-X", "PATCH", "-H", "Transfer-Encoding: chunked"], &binary[..]].concat();
        let upload = location(&chunked, &upload);
        let end = format!("{upload}?digest={}", digest(&content));
        let blob = location(&["-X", "PUT", "-d", ""], &end);
        assert_eq!(blob, format!("/v2/curl/blobs/{}", digest(&content)));
        let (length, status) = self.curl(&["-o", "/dev/null", "-w", "%{size_download}\n%{http_code}"], &blob);
        assert_eq!((length.trim(), status), (content.len().to_string().as_str(), 200));
    }

    /// Copies an image from the daemon through the proxy to it, and back, with skopeo.
    #[track_caller]
    fn copy_with_skopeo(&self, daemon: &Daemon) {
        daemon.push_image("seed", "1", &[9; 3 << 20]);
        let from = format!("docker://{}/seed:1", daemon.address);
        let image = format!("docker://{}/skopeo:1", self.address);
        let directory = format!("dir:{}", self.directory.path().join("image").display());
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        for (from, to) in [(&from, &directory), (&directory, &image), (&image, &directory)] {
            let mut skopeo = Command::new("timeout");
            skopeo.args(["100", "skopeo", "copy"]).args(plain).args([from, to]);
            run(skopeo.env("HOME", self.directory.path()));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGTERM, since SIGKILL would leave nginx's worker process behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration_in_manual(kind: Kind) -> String {
    let fence = match kind {
        Kind::Nginx => "```nginx\n",
        Kind::HAProxy => "```haproxy\n",
        Kind::Caddy => "```caddy\n",
        Kind::Traefik => "```yaml\n",
    };
    MANUAL.split_once(fence).unwrap().1.split_once("```").unwrap().0.to_owned()
}

/// Returns the second of the manual's blocks for Traefik; without a look for newer versions.
fn static_configuration_of_traefik() -> String {
    let block = MANUAL.split("```yaml\n").nth(2).unwrap().split_once("```").unwrap().0;
    format!("{block}global:\n  checkNewVersion: false\n")
}

fn make_certificate(directory: &Path) {
    let at = |name: &str| directory.join(name);
    run(Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "9", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(at("registry.key"))
        .arg("-out")
        .arg(at("registry.crt")));
    let both = [fs::read(at("registry.crt")).unwrap(), fs::read(at("registry.key")).unwrap()].concat();
    fs::write(at("registry.pem"), both).unwrap();
}

/// Starts a daemon that trusts proxies on this machine and is open to anonymous users.
fn daemon_with_trusted_proxy() -> Daemon {
    let settings = [("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1"), ("HOLDFAST_AUTH_ANONYMOUS", "full")];
    Daemon::with_env(&settings)
}

#[test]
fn the_configurations_in_the_manual_work_with_every_client() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let layer = directory.path().join("layer");
    fs::write(&layer, vec![3; 2 << 20]).unwrap();
    let tar = directory.path().join("layer.tar");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(directory.path()).arg("layer"));
    for kind in KINDS {
        let daemon = daemon_with_trusted_proxy();
        let proxy = Proxy::start(kind, &daemon, &[]);
        proxy.push_in_chunks();
        proxy.copy_with_skopeo(&daemon);
        let image = format!("{}/docker:1", proxy.address);
        engine.docker(&["import", tar.to_str().unwrap(), &image]);
        engine.docker(&["push", &image]);
        engine.docker(&["rmi", &image]);
        engine.docker(&["pull", &image]);
        engine.docker(&["rmi", &image]);
        // The registry knows the host that the browser called, and that it called over TLS.
        let (page, _) = proxy.curl(&["-H", "Accept: text/html"], "/push");
        assert!(page.contains(&format!("docker push {}/hello:1", proxy.address)), "{kind:?}: {page}");
        assert_eq!(proxy.post_from_page(&[]).1, 202, "{kind:?}");
        let plain = format!("Origin: http://{}", proxy.address);
        let refused = proxy.curl(&["-X", "POST", "-d", "", "-H", &plain], "/v2/page/blobs/uploads/");
        assert_eq!(refused.1, 403, "{kind:?}: {refused:?}");
        // Forwarding headers that the client sends itself are ignored.
        for header in ["Forwarded: proto=http;host=evil.example", "X-Forwarded-Host: evil.example"] {
            assert_eq!(proxy.post_from_page(&[header]).1, 202, "{kind:?}: {header}");
        }
        assert_eq!(proxy.curl(&["-H", "Host: localhost"], "/metrics").1, 403, "{kind:?}");
    }
}

#[test]
fn a_proxy_that_changes_the_host_breaks_no_push_and_the_403_of_a_page_names_the_remedy() {
    let nginx = ("proxy_set_header Host $http_host;", "");
    let without_port = ("proxy_set_header Host $http_host;", "proxy_set_header Host $host;");
    let haproxy = ("option forwardfor", "http-request set-header Host 127.0.0.1");
    let caddy = ("header_up -Forwarded", "header_up Host {upstream_hostport}\n header_up -X-Forwarded-Host");
    for (kind, mistake) in
        [(Kind::Nginx, nginx), (Kind::Nginx, without_port), (Kind::HAProxy, haproxy), (Kind::Caddy, caddy)]
    {
        let daemon = daemon_with_trusted_proxy();
        let proxy = Proxy::start(kind, &daemon, &[mistake]);
        proxy.push_in_chunks();
        proxy.copy_with_skopeo(&daemon);
        let (message, status) = proxy.post_from_page(&[]);
        assert_eq!(status, 403, "{mistake:?}");
        assert!(message.contains("Host with its port") && message.contains("http.external_url"), "{message}");
        // Browsers that send Sec-Fetch-Site compare the origins themselves, so that these requests work anyway.
        assert_eq!(proxy.post_from_page(&["Sec-Fetch-Site: same-origin"]).1, 202, "{mistake:?}");
        drop(proxy);
        // The second remedy: http.external_url is the URL in the browser's address bar.
        let daemon = Daemon::with_env(&[
            ("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example"),
            ("HOLDFAST_AUTH_ANONYMOUS", "full"),
        ]);
        let proxy = Proxy::start(kind, &daemon, &[mistake]);
        let origin = ["-X", "POST", "-d", "", "-H", "Origin: https://registry.example"];
        assert_eq!(proxy.curl(&origin, "/v2/page/blobs/uploads/").1, 202, "{mistake:?}");
    }
}

#[test]
fn an_unnamed_proxy_in_front_of_an_open_registry_is_warned_about() {
    for kind in KINDS {
        let mut daemon = Daemon::start();
        daemon.stop();
        let log = daemon.start_again_with_log(&[]);
        let proxy = Proxy::start(kind, &daemon, &[]);
        proxy.push_in_chunks();
        proxy.copy_with_skopeo(&daemon);
        await_logged(&log, "it is open to everyone who can reach the proxy");
        let logged = fs::read_to_string(log.path()).unwrap();
        assert_eq!(logged.matches("it is open to everyone who can reach the proxy").count(), 1, "{logged}");
        let (page, _) = proxy.curl(&["-H", "Accept: text/html"], "/");
        assert!(page.contains("open to everyone who can reach the proxy on this machine"), "{page}");
    }
}
