use std::process::Command;

use crate::support::*;

#[test]
fn auto_offers_its_authority_and_redirects_plain_http() {
    let daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", "auto")]);
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
    assert_eq!(plain.named("location"), "https://registry/v2/");
}

#[test]
fn the_exercise_with_openssl_and_htpasswd() {
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
    let daemon = Daemon::with(&[
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
