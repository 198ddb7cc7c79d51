//! The pages operated by keyboard alone.

use super::chromium::{Chromium, Script};
use super::interaction::{ENTER, TAB, wait_for};
use super::registry::Registry;

/// More tab stops than any page has up to the wanted element.
const STOPS: usize = 60;

#[test]
fn keyboard_suffices_to_log_in_and_delete() {
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
        browser.assert_clean();
    }
}

fn delete(browser: &Chromium, tag: &str) {
    go_to(browser, &format!("Select {tag}"));
    browser.press(" ");
    wait_for("a checked box", || {
        if browser.count("#tags tbody input:checked") == 1 {
            Ok(())
        } else {
            Err("no checkbox is checked".into())
        }
    });
    go_to(browser, "delete-selected");
    browser.press(" ");
    browser.expect("h1", "Delete 1 tag of app?");
    go_to(browser, "confirm");
    browser.press(&ENTER.to_string());
    browser.expect("#notice", "1 tag deleted.");
}

/// Checks that the first tab stop skips to the content.
fn skip(browser: &Chromium) {
    browser.open("/repositories");
    browser.press(&TAB.to_string());
    assert_eq!(focused(browser), "Skip to content");
    browser.press(&ENTER.to_string());
    wait_for("the content", || if focused(browser) == "main" { Ok(()) } else { Err(focused(browser)) });
    go_to(browser, "q");
}

/// Presses Tab until the wanted element has the focus.
#[track_caller]
fn go_to(browser: &Chromium, wanted: &str) {
    let mut passed = Vec::new();
    while focused(browser) != wanted {
        passed.push(focused(browser));
        assert!(passed.len() < STOPS, "{wanted} was not reached: {passed:?}");
        browser.press(&TAB.to_string());
    }
    check_outline(browser);
}

/// Returns the id, label or text of the focused element.
fn focused(browser: &Chromium) -> String {
    let script = "var one = document.activeElement; \
        return one.id || one.getAttribute('aria-label') || (one === document.body ? '' : one.textContent)";
    browser.run(script).as_str().unwrap().to_owned()
}

/// Checks that the focused element has a visible outline.
fn check_outline(browser: &Chromium) {
    let style = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_ne!(style, "none", "{} does not show its focus", focused(browser));
}
