//! Every page in light and dark, on a phone and a desktop: screenshots, and the findings of axe-core.

use std::collections::BTreeSet;

use super::chromium::{Chromium, Script};
use super::inspection::axe;
use super::registry::{Registry, push_app, push_every_kind};
use super::tasks::{enter, log_in};

/// The name of the screenshot and the path of each page.
const PAGES: [(&str, &str); 36] = [
    ("overview", "/"),
    ("repositories", "/repositories"),
    ("repositories-found", "/repositories?q=team"),
    ("repositories-none", "/repositories?q=nothing-like-it"),
    ("repository", "/repository/team/app"),
    ("repository-busy", "/repository/busy?sort=pushed"),
    ("image", "/image/team/app:1.10"),
    ("image-platforms", "/image/multi:1"),
    ("image-signed", "/image/signed:1"),
    ("image-chart", "/image/charts/app:1.0.0"),
    ("image-hostile", "/image/hostile:1"),
    ("image-layers", "/image/hostile:1?list=layers"),
    ("delete", "/delete?name=team/app&tag=1.9&tag=latest"),
    ("delete-repository", "/delete/repository?name=team/app"),
    ("search", "/search?q=e"),
    ("search-none", "/search?q=nothing-like-it"),
    ("set-up", "/push"),
    ("import", "/import"),
    ("activity", "/activity"),
    ("maintenance", "/maintenance"),
    ("users", "/users"),
    ("rights", "/users/rights?name=bob"),
    ("set-rule", "/users/rule?name=alice&repositories=*&allow=pull&allow=push&allow=delete"),
    ("set-up-mirror", "/push?task=mirror"),
    ("set-password", "/users/password?name=bob"),
    ("set-own-password", "/users/password?name=alice"),
    ("remove-user", "/users/remove?name=alice"),
    ("account", "/account"),
    ("repository-empty", "/repository/old/app"),
    ("repository-waiting", "/repository/old/app?tab=untagged"),
    ("search-empty", "/search?q=old"),
    ("repository-untagged", "/repository/team/app?tab=untagged"),
    ("compare", "/compare?name=team/app&a=1.2&b=1.10"),
    ("settings", "/settings"),
    ("api", "/docs"),
    ("failure", "/nothing"),
];
const SIZES: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desktop", 1280, 900)];

#[test]
fn every_page_is_accessible() {
    let registry = Registry::with(|daemon| {
        push_every_kind(daemon);
        daemon.push_image("old/app", "1", b"removed");
    });
    let browser = Chromium::start(&registry, Script::On);
    let axe = axe();
    let mut faults = BTreeSet::new();
    enter(&browser, "alice", "wrong");
    browser.find("#error");
    inspect(&browser, "login", &axe, &mut faults);
    log_in(&browser);
    fill(&browser, &registry);
    for (name, path) in PAGES {
        browser.open(path);
        inspect(&browser, name, &axe, &mut faults);
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.into_iter().collect::<Vec<_>>().join("\n")
    );
    browser.assert_clean();
}

/// Covers a registry without users, and anonymous readers.
#[test]
fn pages_of_anonymous_users_are_accessible_and_have_no_forms() {
    let axe = axe();
    let mut faults = BTreeSet::new();
    let registry = Registry::with_anonymous(|_| {}, "none", |_| {});
    let browser = Chromium::start(&registry, Script::On);
    browser.expect("#no-users", "has no users yet");
    inspect(&browser, "login-no-users", &axe, &mut faults);
    let registry = Registry::with_anonymous(push_app, "pull", |_| {});
    let browser = Chromium::start(&registry, Script::On);
    for (name, path) in [
        ("guest-overview", "/"),
        ("guest-repository", "/repository/team/app"),
        ("guest-image", "/image/team/app:1.10"),
        ("guest-refused", "/users"),
    ] {
        browser.open(path);
        assert_eq!(
            browser.count("#delete-selected, #delete-tags, input[name=tag], a[href^='/delete'], #users"),
            0,
            "{path}"
        );
        inspect(&browser, name, &axe, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
    browser.assert_clean();
}

#[test]
fn menu_fits_the_narrowest_phones() {
    let registry = Registry::with(|_| {});
    let browser = Chromium::start(&registry, Script::On);
    log_in(&browser);
    for width in [320, 360] {
        browser.emulate("light", width, 640);
        for path in ["/", "/repositories", "/users"] {
            browser.open(path);
            let outside = browser.run(
                "return Array.prototype.filter.call(document.querySelectorAll('#menu a, .who a.button, .who summary'), \
                 function (one) { var box = one.getBoundingClientRect(); \
                 return box.left < 0 || box.right > document.documentElement.clientWidth || !box.width || \
                 one.scrollWidth > one.clientWidth; }).map(function (one) { return one.textContent; })",
            );
            assert_eq!(outside.as_array().unwrap(), &Vec::<serde_json::Value>::new(), "{path} at {width}");
            assert_eq!(browser.count("#menu a"), 8);
            let wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{path} at {width} is {wide} pixels too wide");
        }
    }
    browser.assert_clean();
}

/// Gives overview, activity and maintenance something to show.
fn fill(browser: &Chromium, registry: &Registry) {
    registry.add_user("bob");
    registry.start_upload("coming/soon");
    registry.curl(&["-X", "DELETE"], "/v2/old/app/manifests/1");
    registry.curl(&[], "/v2/team/app/manifests/1.9");
    browser.open("/maintenance");
    browser.click("#check button");
    browser.find("#outcome");
}

fn inspect(browser: &Chromium, name: &str, axe: &str, faults: &mut BTreeSet<String>) {
    browser
        .run("document.querySelectorAll('details:not(.menu)').forEach(function (one) { one.open = true; })");
    for theme in ["light", "dark"] {
        for (size, width, height) in SIZES {
            browser.emulate(theme, width, height);
            browser.save_screenshot(&format!("{name}-{size}-{theme}"));
            let wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
            if wide.as_i64().unwrap() > 0 {
                faults.insert(format!("{name} on a {size}: {wide} pixels wider than the window"));
            }
            let found = browser.faults(axe);
            faults.extend(found.iter().map(|fault| format!("{name}, {theme}, {size}: {fault}")));
        }
    }
}
