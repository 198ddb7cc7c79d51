//! Behind a proxy: where answers say that things are.

use crate::support::*;

fn location(daemon: &Daemon) -> String {
    daemon
        .request("POST", "/v2/a/blobs/uploads/")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "hub.lan")
        .header("X-Forwarded-For", "192.168.7.7")
        .body(b"")
        .send()
        .expect(202)
        .named("location")
}

#[test]
fn locations_are_relative_unless_a_trusted_proxy_or_the_configuration_says_otherwise() {
    assert!(location(&Daemon::start()).starts_with("/v2/a/blobs/uploads/"));
    let trusting = Daemon::with(&[("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    assert!(location(&trusting).starts_with("https://hub.lan/v2/a/blobs/uploads/"));
    let told = Daemon::with(&[("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example/")]);
    assert!(location(&told).starts_with("https://registry.example/v2/a/blobs/uploads/"));
}
