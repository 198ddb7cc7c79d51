//! Names that the admin page adds to the certificate: only by full rights, only the one of the request, at once.

use std::path::Path;
use std::process::Command;

use crate::support::unit::await_logged;
use crate::support::*;

const PASSWORD: &str = "a password";

/// A browser over TLS that reached the registry by a name. It trusts every certificate, as one whose user has confirmed the
/// warning.
struct Visitor<'a> {
    port: u16,
    name: &'a str,
    cookies: &'a Path,
}

impl Visitor<'_> {
    /// Returns the status, the text, and the address that the answer redirects to.
    fn curl(&self, path: &str, form: &[(&str, &str)]) -> (String, String) {
        let Visitor { port, name, cookies } = self;
        let mut command = Command::new("curl");
        command
            .args(["-skS", "-m", "20", "-w", "\n%{http_code} %{redirect_url}", "-c"])
            .arg(cookies)
            .arg("-b")
            .arg(cookies);
        command.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
        command.args(["-H", &format!("Origin: https://{name}:{port}")]);
        for (field, value) in form {
            command.args(["--data-urlencode", &format!("{field}={value}")]);
        }
        let text = run(command.arg(format!("https://{name}:{port}{path}")));
        let (page, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), page.to_owned())
    }

    fn post(&self, page: &str, path: &str, form: &[(&str, &str)]) -> (String, String) {
        let (_, page) = self.curl(page, &[]);
        let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        self.curl(path, &[form, &[("token", token)]].concat())
    }

    fn log_in(&self, user: &str) {
        let (status, page) =
            self.post("/login", "/login", &[("name", user), ("password", PASSWORD), ("next", "/push")]);
        assert!(status.starts_with("303"), "{status} {page}");
    }
}

fn accepts(ca: &Path, name: &str, port: u16) -> bool {
    let resolve = format!("{name}:{port}:127.0.0.1");
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "20", "--resolve", &resolve, "--cacert"]).arg(ca);
    command.arg(format!("https://{name}:{port}/v2/")).output().unwrap().status.success()
}

#[test]
fn administrator_adds_the_name_in_the_address_bar_and_removes_it() {
    let mut daemon = Daemon::start();
    let rules = "[[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n";
    for user in ["alice", "bob"] {
        add_user(&daemon.data, user, PASSWORD);
    }
    daemon.stop();
    std::fs::write(daemon.data.join("rules.toml"), rules).unwrap();
    let settings =
        [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", "pi.lan"), ("HOLDFAST_LOG_LEVEL", "info")];
    let log = daemon.start_again_with_log(&settings);
    let (directory, port) = (tempfile::tempdir().unwrap(), daemon.address.port());
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &daemon.get("/ca.crt").expect(200).body).unwrap();
    let cookies = ["bob", "alice"].map(|name| directory.path().join(name));
    let bob = Visitor { port, name: "hub.lan", cookies: &cookies[0] };
    bob.log_in("bob");
    let (_, page) = bob.curl("/push", &[]);
    assert!(page.contains("names-line") && !page.contains("id=\"add-name\""), "{page}");
    let (status, _) = bob.post("/push", "/push/name", &[("name", "hub.lan")]);
    assert!(status.starts_with("403"), "{status}");
    let alice = Visitor { port, name: "hub.lan", cookies: &cookies[1] };
    alice.log_in("alice");
    assert!(alice.curl("/push", &[]).1.contains("Add hub.lan to the certificate"));
    for (name, expected) in [("other.lan", "422"), ("*.lan", "422"), ("", "422")] {
        let (status, page) = alice.post("/push", "/push/name", &[("name", name)]);
        assert!(status.starts_with(expected), "{name} {status} {page}");
    }
    let (status, _) = alice.curl("/push/name", &[("name", "hub.lan")]);
    assert!(status.starts_with("403"), "without a token: {status}");
    assert!(!accepts(&ca, "hub.lan", port));
    let (status, page) = alice.post("/push", "/push/name", &[("name", "hub.lan")]);
    assert!(status.starts_with("303") && status.contains("/push?done=name-added"), "{status} {page}");
    assert!(accepts(&ca, "hub.lan", port) && accepts(&ca, "pi.lan", port));
    assert!(!alice.curl("/push", &[]).1.contains("missing-name"));
    assert!(alice.curl("/settings", &[]).1.contains("1 name added on the page Set up"));
    await_logged(&log, "added hub.lan to the certificate");
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("added hub.lan to the certificate").count(), 1, "{text}");
    daemon.stop();
    daemon.start_again_with_env(&settings);
    let port = daemon.address.port();
    assert!(accepts(&ca, "hub.lan", port), "the name outlives a restart");
    let alice = Visitor { port, name: "hub.lan", cookies: &cookies[1] };
    alice.log_in("alice");
    assert!(alice.curl("/settings?section=tls", &[]).1.contains("<code id=\"name-1\">hub.lan</code>"));
    let (status, _) = alice.post("/settings?section=tls", "/settings/name", &[("name", "pi.lan")]);
    assert!(status.starts_with("422"), "a name of the configuration: {status}");
    let (status, _) = alice.post("/settings?section=tls", "/settings/name", &[("name", "hub.lan")]);
    assert!(status.starts_with("303"), "{status}");
    assert!(!accepts(&ca, "hub.lan", port) && accepts(&ca, "pi.lan", port));
}

#[test]
fn task_of_the_commands_is_shown_and_remembered() {
    use crate::support::browser::Browser;
    let daemon = Daemon::with_user("alice", PASSWORD, &[]);
    let mut browser = Browser::of(&daemon, "alice", PASSWORD);
    let all = browser.page("/push");
    assert!(all.contains("docker-push") && all.contains("registry-mirrors"), "{all}");
    let mirror = browser.page("/push?task=mirror");
    assert!(
        mirror.contains("registry-mirrors")
            && !mirror.contains("docker-push")
            && !mirror.contains("id=\"helm\"")
    );
    assert!(mirror.contains("<a href=\"/push?task=mirror\" aria-current=\"page\">"), "{mirror}");
    assert!(!browser.page("/push").contains("docker-push"), "the task is remembered");
    assert!(browser.page("/push?task=all").contains("docker-push"));
    assert!(browser.page("/push").contains("docker-push"));
    assert!(browser.page("/push?task=nonsense").contains("docker-push"));
}
