//! Transfers through proxies that make tunnels: Debian's tinyproxy and squid. Only the proxies know the name of the registry.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::time::{Duration, Instant};

use super::*;

const NAME: &str = "registry.test";
/// The user of the proxies, and the user in a URL.
const PROXY_USER: (&str, &str) = ("proxyuser", "secret123");

/// A running proxy, killed on drop.
struct Proxy {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    _directory: TempDir,
}

impl Proxy {
    fn start(kind: &str, has_user: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        // Both give up root.
        std::fs::set_permissions(place, Permissions::from_mode(0o777)).unwrap();
        std::fs::write(place.join("hosts"), format!("127.0.0.1 localhost {NAME}\n")).unwrap();
        let (address, log) = (unused_address(), place.join("access.log"));
        let configuration = match kind {
            "tinyproxy" => tinyproxy(address, &log, has_user),
            _ => squid(address, place, has_user),
        };
        std::fs::write(place.join("proxy.conf"), configuration).unwrap();
        let mut command = Command::new("sh");
        command.current_dir(place).arg("-c").arg(match kind {
            // Its names come from the file of the system.
            "tinyproxy" => {
                "exec unshare -m sh -c 'mount --bind hosts /etc/hosts && exec tinyproxy -d -c proxy.conf'"
            }
            _ => "exec squid -N -n \"holdfast$$\" -f proxy.conf",
        });
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let proxy = Proxy { child, address, log, _directory: directory };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "{kind} does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy
    }

    /// Returns the variable of the environment that names it.
    fn url(&self, user: Option<(&str, &str)>) -> String {
        let user = user.map(|(name, password)| format!("{name}:{password}@")).unwrap_or_default();
        format!("http://{user}{}", self.address)
    }

    /// Returns the number of tunnels to a place.
    fn tunnels(&self, place: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("CONNECT ") && line.contains(place)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tinyproxy(address: SocketAddr, log: &Path, has_user: bool) -> String {
    let user =
        if has_user { format!("BasicAuth {} {}\n", PROXY_USER.0, PROXY_USER.1) } else { String::new() };
    format!(
        "Port {}\nListen 127.0.0.1\nTimeout 60\nLogFile {log:?}\nLogLevel Connect\nMaxClients 20\nAllow 127.0.0.1\n{user}",
        address.port()
    )
}

fn squid(address: SocketAddr, place: &Path, has_user: bool) -> String {
    let users = place.join("users");
    let (user, access) = if has_user {
        let line = run(Command::new("htpasswd").args(["-nbm", PROXY_USER.0, PROXY_USER.1]));
        std::fs::write(&users, line).unwrap();
        let program = format!("auth_param basic program /usr/lib/squid/basic_ncsa_auth {}", users.display());
        (format!("{program}\nacl known proxy_auth REQUIRED\n"), "known")
    } else {
        (String::new(), "all")
    };
    let place = place.display();
    format!(
        "http_port {address}\npid_filename none\naccess_log stdio:{place}/access.log\ncache_log {place}/cache.log\n\
         cache deny all\nhosts_file {place}/hosts\ncoredump_dir {place}\nshutdown_lifetime 0 seconds\n\
         visible_hostname proxy\nnetdb_filename none\npinger_enable off\n{user}\
         http_access allow {access}\nhttp_access deny all\n"
    )
}

/// A registry with TLS under the name that only the proxies know, and its authority.
fn registry(directory: &TempDir) -> (Daemon, String, String) {
    let settings = [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", NAME)];
    let daemon = Daemon::with_user(USER.0, USER.1, &settings);
    let ca = path(directory, "ca.crt");
    std::fs::write(&ca, &daemon.get("/ca.crt").expect(200).body).unwrap();
    let place = format!("{NAME}:{}", daemon.address.port());
    (daemon, place, ca)
}

fn round_trip(kind: &str, has_user: bool) {
    let proxy = Proxy::start(kind, has_user);
    let directory = tempfile::tempdir().unwrap();
    let (_daemon, place, ca) = registry(&directory);
    let image = Image::of_layers(&[&noise(1, 3 << 20), b"x"]);
    let medium = tempfile::tempdir().unwrap();
    layout(medium.path(), &[("team/app:1", &image)]);
    let back = path(&directory, "back");
    let login = ["--ca", &ca, "--username", USER.0, "--password-stdin"];
    let to = [&["import", "--to", &place][..], &login, &[medium.path().to_str().unwrap()]].concat();
    let from = [&["export", "team/app:1", "--from", &place][..], &login, &["-o", &back]].concat();
    let through = |user: Option<(&str, &str)>, arguments: &[&str]| {
        holdfast_in(&[("HTTPS_PROXY", &proxy.url(user))], arguments, USER.1.as_bytes())
    };
    let user = has_user.then_some(PROXY_USER);
    if has_user {
        for wrong in [None, Some((PROXY_USER.0, "wrong"))] {
            let refused = through(wrong, &to);
            fails(&refused, 1, "it answered HTTP/1.");
            assert!(text(&refused).contains("http://USER:PASSWORD@HOST:PORT"), "{}", text(&refused));
            assert!(!text(&refused).contains("wrong@"), "{}", text(&refused));
        }
    }
    let before = proxy.tunnels(&place);
    done(&through(user, &to));
    assert!(proxy.tunnels(&place) > before);
    done(&through(user, &from));
    for (digest, content) in &image.content {
        let blob = std::fs::read(format!("{back}/blobs/{}", digest.replace(':', "/"))).unwrap();
        assert!(blob == *content, "{digest}");
    }
}

#[test]
fn images_go_through_tinyproxy() {
    round_trip("tinyproxy", false);
    round_trip("tinyproxy", true);
}

#[test]
fn images_go_through_squid() {
    round_trip("squid", false);
    round_trip("squid", true);
}
