//! Every task of the admin page, with and without script.

use super::chromium::{Chromium, Script};
use super::registry::Registry;
use crate::support::media::{Image, Media};

#[test]
fn every_task_with_script() {
    do_all(Script::On);
}

#[test]
fn every_task_without_script() {
    do_all(Script::Off);
}

fn do_all(script: Script) {
    let registry = Registry::start();
    let browser = Chromium::start(&registry, script);
    log_in(&browser);
    see_overview(&browser, &registry);
    see_how_to_push(&browser);
    import_and_download(&browser, &registry);
    choose_theme(&browser);
    search_everything(&browser);
    super::lists::all(&browser, &registry);
    super::maintenance::all(&browser, &registry);
    log_out(&browser);
    browser.assert_clean();
}

/// Fills in and submits the log-in form.
pub fn enter(browser: &Chromium, name: &str, password: &str) {
    browser.fill("#name", name);
    browser.fill("#password", password);
    browser.click("#submit");
}

pub fn log_in(browser: &Chromium) {
    browser.open("/activity?q=x");
    browser.wait_for_address("/login?next=%2Factivity%3Fq%3Dx");
    enter(browser, "alice", "wrong");
    browser.expect("#error", "password is wrong");
    assert_eq!(browser.property("#name", "value"), "alice", "the name is kept");
    enter(browser, "alice", "secret");
    browser.wait_for_address("/activity?q=x");
    browser.expect("#account summary", "alice");
}

fn see_overview(browser: &Chromium, registry: &Registry) {
    registry.start_upload("coming/soon");
    browser.click(".brand");
    browser.wait_for_address("/");
    browser.expect("#disk .legend", "Free for pushes");
    assert!(browser.count("svg.disk rect") >= 3, "the disk has no bar");
    browser.expect("#largest", "data/large");
    browser.expect("#uploads", "coming/soon");
    browser.expect("#collected", "none since the registry started");
    browser.expect("#certificate", "issued by the registry's own authority");
    browser.expect("#version", env!("CARGO_PKG_VERSION"));
    browser.expect("#uptime", "second");
    for fact in ["Repositories", "Tags", "Images", "Stored"] {
        browser.expect("#facts", fact);
    }
}

fn see_how_to_push(browser: &Chromium) {
    browser.click_link("Set up");
    browser.wait_for_address("/push");
    let host = browser.origin.strip_prefix("https://").unwrap().to_owned();
    browser.expect("#docker-login", &format!("docker login {host}"));
    browser.expect("#docker-tag", &format!("docker tag hello-world {host}/hello:1"));
    browser.expect("#docker-push", &format!("docker push {host}/hello:1"));
    for (client, part) in [
        ("podman", "podman push"),
        ("containerd", "hosts.toml"),
        ("k3s", "registries.yaml"),
        ("helm", "helm push app-1.0.0.tgz oci://"),
        ("oras", "oras push --ca-file ca.crt"),
        ("buildx", "docker buildx build"),
        ("windows", "Import-Certificate"),
        ("macos", "add-trusted-cert"),
        ("linux", "update-ca-certificates"),
    ] {
        browser.click(&format!("label[for=client-{client}]"));
        browser.expect(&format!("#{client}"), part);
        assert_eq!(browser.texts("#clients > .panel").len(), 1, "{client}");
    }
    browser.click("#tasks a[href=\"/push?task=mirror\"]");
    browser.expect("#docker", "registry-mirrors");
    assert_eq!((browser.count("#docker-push"), browser.count("#helm")), (0, 0));
    browser.click("#tasks a[href=\"/push?task=all\"]");
    browser.click("#trust summary");
    assert_eq!(browser.text("#fingerprint").split(':').count(), 32);
    // Copy buttons need script.
    assert_eq!(browser.count(".copier") > 5, browser.script == Script::On);
}

/// Chooses a theme, which the next pages keep.
fn choose_theme(browser: &Chromium) {
    let theme = || browser.run("return document.documentElement.getAttribute('data-theme')");
    browser.open("/repositories?q=team");
    for name in ["dark", "light", "system"] {
        browser.click("#account summary");
        browser.click(&format!("#theme [value={name}]"));
        browser.expect("h1", "Repositories");
        browser.wait_for_address("/repositories?q=team");
        super::interaction::wait_for(
            name,
            || if theme() == name { Ok(()) } else { Err(theme().to_string()) },
        );
        let pressed = format!("#theme [value={name}][aria-pressed=true]");
        assert_eq!(browser.count(&pressed), 1, "{pressed}");
    }
}

/// Finds repositories and tags from another page.
fn search_everything(browser: &Chromium) {
    browser.open("/activity");
    if browser.script == Script::On {
        browser.press("/rc.1");
        browser.press(&super::interaction::ENTER.to_string());
    } else {
        browser.write("#find", "rc.1");
        browser.write("#find", &super::interaction::ENTER.to_string());
    }
    browser.wait_for_address("/search?q=rc.1");
    browser.expect("#summary", "0 repositories, 1 tag");
    browser.click_link("2.0-rc.1");
    browser.wait_for_address("/image/team/app:2.0-rc.1");
    browser.open("/search?q=team/");
    browser.expect("#repositories", "team/web/front");
    browser.open("/search?q=nothing-like-it");
    browser.expect("#none", "Nothing matches");
}

/// Uploads an archive, and downloads an image of it.
fn import_and_download(browser: &Chromium, registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let image = Image::of(&[7; 500_000]);
    let mut media = Media::default();
    media.layout("", &[&image], &[image.descriptor(&[("io.containerd.image.name", "hub.lan/stick/app:1")])]);
    let archive = directory.path().join("stick.tar");
    media.write_tar(&archive);
    let broken = directory.path().join("broken.tar");
    std::fs::write(&broken, "no archive").unwrap();
    browser.open("/push");
    browser.click("#import-link");
    browser.wait_for_address("/import");
    browser.write("#import-file", broken.to_str().unwrap());
    browser.click("#import button.main");
    // With script the form stays, and says why.
    browser.expect(if browser.script == Script::On { "#import-error" } else { "#error" }, "archive");
    browser.open("/import");
    browser.write("#import-prefix", "site");
    browser.write("#import-file", archive.to_str().unwrap());
    browser.click("#import button.main");
    browser.expect("#summary", "stick.tar: 1 taken");
    browser.expect("#images", "taken");
    assert_eq!(registry.tags("site/stick/app"), ["1"]);
    browser.click_link("site/stick/app:1");
    browser.wait_for_address("/image/site/stick/app:1");
    assert_eq!(browser.property("#download", "download"), "");
    browser.expect("#download", "Download as a tar");
}

fn log_out(browser: &Chromium) {
    browser.click("#account summary");
    browser.click("#logout");
    browser.expect("#notice", "You are logged out.");
    browser.open("/");
    browser.wait_for_address("/login");
}
