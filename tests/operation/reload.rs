//! Reload on SIGHUP: new settings apply to new requests, invalid ones change nothing, and running transfers continue.

use std::fs::Permissions;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::unit::{Process, Unit, await_logged, signal};
use crate::support::*;

#[test]
fn reload_applies_new_settings_and_refuses_invalid_ones() {
    let unit = Unit::new("");
    let child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(200);
    // A push that goes on through both reloads.
    let content = vec![5; 1 << 20];
    let location = Request::new(unit.address, "POST", "/v2/a/blobs/uploads/")
        .send()
        .expect(202)
        .required_header("location");
    let request = format!(
        "PUT {location}?digest={} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        digest(&content),
        content.len()
    );
    let mut push = TcpStream::connect(unit.address).unwrap();
    push.write_all(request.as_bytes()).unwrap();
    push.write_all(&content[..1000]).unwrap();
    unit.configure("auth.anonymous = \"none\"\n");
    signal(&child.0, "-HUP");
    let reloading = unit.await_notification("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(401);
    unit.configure("auth.anonymous = \"perhaps\"\n");
    signal(&child.0, "-HUP");
    unit.await_notification("RELOADING=1");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(401);
    // The anonymous user has no rights at its end.
    push.write_all(&content[1000..]).unwrap();
    Response::read(&mut push, false).expect(403);
    unit.configure("storage.delete = false\n");
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(200);
    Request::new(unit.address, "DELETE", &format!("/v2/a/blobs/{}", digest(&content))).send().expect(405);
}

#[test]
fn reload_keeps_the_data_directory_with_users_and_authority() {
    let unit = Unit::new("tls.mode = \"auto\"\n");
    add_user(&unit.path("data"), "alice", "secret");
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Process(unit.start_with(&[], log.reopen().unwrap().into()));
    unit.await_notification("READY=1");
    let authority = unit.get("/ca.crt").expect(200).body;
    let elsewhere = format!("storage.path = {:?}\nlisten = [\":1\"]\n", unit.path("elsewhere"));
    unit.configure(&format!("{elsewhere}tls.mode = \"auto\"\ntls.names = [\"pi.lan\"]\n"));
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    assert!(unit.get("/ca.crt").expect(200).body == authority, "the authority changed");
    assert!(!unit.path("elsewhere").exists());
    // Without its users it would be open, since it listens on loopback.
    unit.configure(&elsewhere);
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(401);
    await_logged(&log, "storage.path has changed; restart the daemon to apply it");
    await_logged(&log, "holdfast.socket has the port");
}

#[test]
fn reload_refuses_an_unwritable_new_data_directory_but_tolerates_a_failing_current_one() {
    let unit = Unit::new("");
    std::fs::set_permissions(unit.path(""), Permissions::from_mode(0o755)).unwrap();
    for name in ["data", "disk"] {
        std::fs::create_dir(unit.path(name)).unwrap();
    }
    run(Command::new("chown")
        .arg("65534:65534")
        .args(["data", "notify", "holdfast.toml"].map(|name| unit.path(name))));
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Process(unit.start_by(
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        &[],
        log.reopen().unwrap().into(),
    ));
    unit.await_notification("READY=1");
    unit.configure(&format!("storage.path = {:?}\nauth.anonymous = \"none\"\n", unit.path("disk")));
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(200);
    std::fs::set_permissions(unit.path("data"), Permissions::from_mode(0o555)).unwrap();
    unit.configure("auth.anonymous = \"none\"\n");
    run(unit.command().args(["config", "check"]));
    signal(&child.0, "-HUP");
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(401);
    await_logged(&log, "cannot write to");
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("cannot write to").count(), 1, "{text}");
}
