//! The page without a mouse.

use super::chromium::{Chromium, Script};
use super::hands::{ENTER, TAB, wait_for};
use super::registry::Registry;

/// More stops than any way here has.
const STOPS: usize = 60;

#[test]
fn one_logs_in_and_deletes_by_keyboard() {
    for script in [Script::On, Script::Off] {
        let registry = Registry::with(|daemon| {
            for tag in ["1", "2"] {
                daemon.push_image("app", tag, b"layer");
            }
        });
        let browser = Chromium::start(&registry, script);
        browser.open("/login?next=%2Frepository%2Fapp");
        go_to(&browser, "name");
        browser.press("alice");
        browser.press(&format!("{TAB}secret{ENTER}"));
        browser.wait_for_address("/repository/app");
        delete(&browser, "2");
        assert_eq!(registry.tags("app"), ["1"]);
        skip(&browser);
        browser.check_silence();
    }
}

fn delete(browser: &Chromium, tag: &str) {
    go_to(browser, &format!("Select {tag}"));
    browser.press(" ");
    wait_for("a tick", || {
        if browser.count("#tags tbody input:checked") == 1 { Ok(()) } else { Err("none".into()) }
    });
    go_to(browser, "delete-selected");
    browser.press(" ");
    browser.expect("h1", "Delete 1 tag of app?");
    go_to(browser, "confirm");
    browser.press(&ENTER.to_string());
    browser.expect("#notice", "1 tag deleted.");
}

/// The first stop of a page leads to its content.
fn skip(browser: &Chromium) {
    browser.open("/repositories");
    browser.press(&TAB.to_string());
    assert_eq!(focused(browser), "Skip to the content");
    browser.press(&ENTER.to_string());
    wait_for("the content", || if focused(browser) == "main" { Ok(()) } else { Err(focused(browser)) });
    go_to(browser, "q");
}

/// Presses the tabulator until the focus is there.
#[track_caller]
fn go_to(browser: &Chromium, wanted: &str) {
    let mut passed = Vec::new();
    while focused(browser) != wanted {
        passed.push(focused(browser));
        assert!(passed.len() < STOPS, "{wanted} is not reached: {passed:?}");
        browser.press(&TAB.to_string());
    }
    check_outline(browser);
}

/// The id, label or text of what has the focus.
fn focused(browser: &Chromium) -> String {
    let script = "var one = document.activeElement; \
        return one.id || one.getAttribute('aria-label') || (one === document.body ? '' : one.textContent)";
    browser.run(script).as_str().unwrap().to_owned()
}

/// What has the focus shows it.
fn check_outline(browser: &Chromium) {
    let style = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_ne!(style, "none", "{} does not show its focus", focused(browser));
}
