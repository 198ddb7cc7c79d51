//! Markup in names, labels and annotations is shown as text.

use super::chromium::{Chromium, Script};
use super::registry::{MARKUP, Registry, push_hostile};
use super::tasks::log_in;

#[test]
fn markup_in_images_is_text() {
    check_all(Script::On);
}

#[test]
fn markup_in_images_is_text_without_script() {
    check_all(Script::Off);
}

fn check_all(script: Script) {
    let registry = Registry::with(push_hostile);
    let browser = Chromium::start(&registry, script);
    log_in(&browser);
    registry.curl(&[], "/v2/hostile/manifests/_-.1");
    browser.open("/image/hostile:1");
    for place in ["#platform", "#config", "#labels", "#annotations", "#referrers", "#history"] {
        browser.expect(place, MARKUP);
        check(&browser);
    }
    browser.expect("#labels", "</dd></dl><h1>heading");
    browser.click("#referrers tbody th a");
    browser.expect("#facts", MARKUP);
    check(&browser);
    for path in ["/repository/hostile", "/activity", "/repositories", "/"] {
        browser.open(path);
        browser.expect("main", "hostile");
        check(&browser);
    }
    for path in ["/repositories?q=", "/repository/hostile?q=", "/activity?q=", "/login?next="] {
        let query = percent_encoding::utf8_percent_encode(MARKUP, percent_encoding::NON_ALPHANUMERIC);
        browser.open(&format!("{path}{query}"));
        check(&browser);
    }
    browser.assert_clean();
}

/// Checks that no markup became an element, and that no script ran.
#[track_caller]
fn check(browser: &Chromium) {
    assert_eq!(browser.count("main img, main script, main h1 ~ h1, [onerror], [onload]"), 0);
    assert_eq!(browser.count("a[href^=javascript]"), 0);
    if browser.script == Script::On {
        assert_ne!(browser.run("return document.title"), "taken");
    }
}
