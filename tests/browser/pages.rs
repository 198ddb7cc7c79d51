//! Every page in light and dark, on a phone and on a desk: pictures to look at, and what axe-core says.

use std::collections::BTreeSet;

use super::chromium::{Chromium, Script};
use super::registry::{Registry, push_app};
use super::tasks::{enter, log_in};
use super::watch::axe;

/// Each page, and what its picture is called.
const PAGES: [(&str, &str); 21] = [
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
    ("delete", "/delete?name=team/app&tag=1.9&tag=latest"),
    ("push", "/push"),
    ("activity", "/activity"),
    ("upkeep", "/upkeep"),
    ("users", "/users"),
    ("set-password", "/users/password?name=bob"),
    ("set-own-password", "/users/password?name=alice"),
    ("remove-user", "/users/remove?name=alice"),
    ("account", "/account"),
    ("failure", "/nothing"),
];
const SIZES: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desk", 1280, 900)];

#[test]
fn every_page_is_for_everybody() {
    let registry = Registry::start();
    let browser = Chromium::start(&registry, Script::On);
    let axe = axe();
    let mut faults = BTreeSet::new();
    enter(&browser, "alice", "wrong");
    browser.find("#error");
    look(&browser, "login", &axe, &mut faults);
    log_in(&browser);
    make_news(&browser, &registry);
    for (name, path) in PAGES {
        browser.open(path);
        look(&browser, name, &axe, &mut faults);
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.into_iter().collect::<Vec<_>>().join("\n")
    );
    browser.check_silence();
}

/// What those see who have no user, and those who may only read.
#[test]
fn a_guest_sees_what_a_guest_may() {
    let axe = axe();
    let mut faults = BTreeSet::new();
    let registry = Registry::for_guests(|_| {}, "none", |_| {});
    let browser = Chromium::start(&registry, Script::On);
    browser.expect("#no-users", "has no users yet");
    look(&browser, "login-no-users", &axe, &mut faults);
    let registry = Registry::for_guests(push_app, "pull", |_| {});
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
        look(&browser, name, &axe, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
    browser.check_silence();
}

/// On the narrowest phones, too.
#[test]
fn the_menu_is_whole_on_a_phone() {
    let registry = Registry::with(|_| {});
    let browser = Chromium::start(&registry, Script::On);
    log_in(&browser);
    for width in [320, 360] {
        browser.emulate("light", width, 640);
        for path in ["/", "/repositories", "/users"] {
            browser.open(path);
            let outside = browser.run(
                "return Array.prototype.filter.call(document.querySelectorAll('#menu a, .who a, .who button'), \
                 function (one) { var box = one.getBoundingClientRect(); \
                 return box.left < 0 || box.right > document.documentElement.clientWidth || !box.width || \
                 one.scrollWidth > one.clientWidth; }).map(function (one) { return one.textContent; })",
            );
            assert_eq!(outside.as_array().unwrap(), &Vec::<serde_json::Value>::new(), "{path} at {width}");
            assert_eq!(browser.count("#menu a"), 6);
            let wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{path} at {width} is {wide} pixels too wide");
        }
    }
    browser.check_silence();
}

/// Something for overview, activity and upkeep to show.
fn make_news(browser: &Chromium, registry: &Registry) {
    registry.add_user("bob");
    registry.begin_upload("coming/soon");
    registry.curl(&[], "/v2/team/app/manifests/1.9");
    browser.open("/upkeep");
    browser.click("#check button");
    browser.find("#outcome");
}

fn look(browser: &Chromium, name: &str, axe: &str, faults: &mut BTreeSet<String>) {
    browser.run("document.querySelectorAll('details').forEach(function (one) { one.open = true; })");
    for theme in ["light", "dark"] {
        for (size, width, height) in SIZES {
            browser.emulate(theme, width, height);
            browser.take_picture(&format!("{name}-{size}-{theme}"));
            let wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
            if wide.as_i64().unwrap() > 0 {
                faults.insert(format!("{name} on a {size}: {wide} pixels wider than the window"));
            }
            let found = browser.faults(axe);
            faults.extend(found.iter().map(|fault| format!("{name}, {theme}, {size}: {fault}")));
        }
    }
}
