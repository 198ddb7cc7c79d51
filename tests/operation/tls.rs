//! TLS: the own authority, certificates from files, names, and replacement while the daemon runs.

use std::process::Command;

use crate::support::*;

#[test]
fn own_authority_is_served_and_plain_http_is_redirected() {
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.crt");
    let answer = daemon.get("/ca.crt").expect(200);
    std::fs::write(&ca, &answer.body).unwrap();
    let url = format!("https://localhost:{}", daemon.address.port());
    let text = run(Command::new("curl").args(["-sSf", "--cacert"]).arg(&ca).arg(format!("{url}/v2/")));
    assert_eq!(text, "{}");
    let untrusted = Command::new("curl").args(["-sSf", &format!("{url}/v2/")]).output().unwrap();
    assert!(!untrusted.status.success());
    let plain = daemon.get("/v2/").expect(308);
    assert_eq!(plain.required_header("location"), "https://registry/v2/");
}

#[test]
fn certificate_covers_the_address_that_a_client_connected_to() {
    // A loopback address that no interface lists, as in the sandbox of the service.
    let daemon = Daemon::on("127.0.0.9:0", &[("HOLDFAST_TLS_MODE", "auto")]);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &daemon.get("/ca.crt").expect(200).body).unwrap();
    let url = format!("https://{}/v2/", daemon.address);
    assert_eq!(run(Command::new("curl").args(["-sSf", "--cacert"]).arg(&ca).arg(url)), "{}");
}

#[test]
fn missing_san_is_logged_once_with_the_setting_that_adds_it() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let settings = [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", "pi.lan,*.box.lan")];
    let log = daemon.start_again_with_log(&settings);
    let port = daemon.address.port();
    let call = |name: &str, host: &str| {
        let url = format!("https://{name}:{port}/v2/");
        let resolve = format!("{name}:{port}:127.0.0.1");
        let header = format!("Host: {host}:{port}");
        let output = Command::new("curl")
            .args(["-skS", "-m", "20", "--resolve", &resolve, "-H", &header, &url])
            .output();
        assert!(output.unwrap().status.success(), "{name} {host}");
    };
    for _ in 0..3 {
        for name in ["localhost", "pi.lan", "PI.LAN", "a.box.lan", "127.0.0.1"] {
            call(name, name);
        }
        // By SNI, which is sent even by a client that then rejects the certificate, and by Host.
        call("hub.lan", "hub.lan");
        call("localhost", "reg.lan");
    }
    let refuses = format!("https://cafe.lan:{port}/v2/");
    let resolve = format!("cafe.lan:{port}:127.0.0.1");
    assert!(!Command::new("curl").args(["-sS", "--resolve", &resolve, &refuses]).status().unwrap().success());
    // The log has a thread of its own, which writes its last lines at the end.
    daemon.stop();
    let logged = std::fs::read_to_string(log.path()).unwrap();
    for name in ["hub.lan", "reg.lan", "cafe.lan"] {
        let line = format!(
            "WARN  a client has requested {name}, which is not in the certificate; to add it, set in [tls]: names = \
             [\"pi.lan\", \"*.box.lan\", \"{name}\"] (HOLDFAST_TLS_NAMES=pi.lan,*.box.lan,{name})\n"
        );
        assert_eq!(logged.matches(&line).count(), 1, "{name}: {logged}");
    }
    assert_eq!(logged.matches("has requested").count(), 3, "{logged}");
    // The number of names that are logged, and kept in memory, is bounded.
    let log = daemon.start_again_with_log(&settings);
    let script = format!(
        "for i in $(seq 60); do curl -sk -m 20 -o /dev/null --resolve n$i.lan:{port}:127.0.0.1 https://n$i.lan:{port}/v2/; done"
    );
    run(Command::new("sh").args(["-c", &script]));
    daemon.stop();
    let logged = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(logged.matches("has requested").count(), 32, "{logged}");
    assert_eq!(logged.matches("further ones are not logged for a day").count(), 1, "{logged}");
}

#[test]
fn startup_banner_lists_the_sans() {
    let environment = [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", "hub.lan")];
    let named = startup_line(&environment, "certificate for");
    for name in ["hub.lan", "localhost", "127.0.0.1", "::1"] {
        assert!(named.contains(name), "{named}");
    }
}

#[test]
fn certificate_of_openssl_and_users_of_htpasswd_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args(["req", "-newkey", "rsa:4096", "-nodes", "-sha256", "-x509", "-days", "365"])
        .args([
            "-keyout",
            &path("k"),
            "-out",
            &path("c"),
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ]));
    let users = run(Command::new("htpasswd").args(["-Bbn", "alice", "secret"]));
    std::fs::write(path("htpasswd"), users).unwrap();
    let daemon = Daemon::with_env(&[
        ("REGISTRY_HTTP_TLS_CERTIFICATE", &path("c")),
        ("REGISTRY_HTTP_TLS_KEY", &path("k")),
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", &path("htpasswd")),
    ]);
    let url = format!("https://localhost:{}/v2/_catalog", daemon.address.port());
    let curl = |user: &str| run(Command::new("curl").args(["-sS", "--cacert", &path("c"), "-u", user, &url]));
    assert_eq!(curl("alice:secret"), "{\"repositories\":[]}");
    assert!(curl("alice:wrong").contains("UNAUTHORIZED"));
}

#[test]
fn replaced_certificate_is_served_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let make = |name: &str| {
        let names = ["-addext", "subjectAltName=DNS:localhost", "-subj", &format!("/CN={name}")];
        let files = ["-keyout", &path("new.key"), "-out", &path("new.crt")];
        let new =
            ["req", "-x509", "-nodes", "-days", "9", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        run(Command::new("openssl").args([&new[..], &files, &names].concat()));
        std::fs::rename(path("new.key"), path("key")).unwrap();
        std::fs::rename(path("new.crt"), path("certificate")).unwrap();
    };
    make("first");
    let daemon = Daemon::with_env(&[
        ("HOLDFAST_TLS_CERTIFICATE", &path("certificate")),
        ("HOLDFAST_TLS_KEY", &path("key")),
    ]);
    let served = || {
        let connect = ["s_client", "-connect", &daemon.address.to_string(), "-alpn", "h2,http/1.1"];
        let output =
            Command::new("openssl").args(connect).stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(served().contains("CN = first") && served().contains("ALPN protocol: http/1.1"), "{}", served());
    make("second");
    run(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]));
    let begun = std::time::Instant::now();
    while !served().contains("CN = second") {
        assert!(begun.elapsed().as_secs() < 10, "{}", served());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // An unusable certificate is not served; the last usable one stays.
    std::fs::write(path("certificate"), "nonsense").unwrap();
    run(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(served().contains("CN = second"));
}
