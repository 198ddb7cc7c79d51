//! Users, maintenance and activity.

use super::chromium::Chromium;
use super::registry::Registry;
use super::tasks::enter;

pub fn all(browser: &Chromium, registry: &Registry) {
    keep_the_last_user(browser);
    add_users(browser, registry);
    edit_rights(browser);
    set_a_password(browser, registry);
    remove_a_user(browser, registry);
    change_own_password(browser, registry);
    collect(browser);
    check(browser);
    see_activity(browser);
}

fn keep_the_last_user(browser: &Chromium) {
    browser.click_link("Users");
    browser.expect("#users", "last user, cannot be removed");
    assert_eq!(browser.count("#users a"), 1, "only its rights");
    browser.open("/users/remove?name=alice");
    browser.expect("main", "This is your own account");
    browser.click("#confirm");
    browser.expect("#error", "the last user who can log in");
}

fn fill_in(browser: &Chromium, form: &str, new: &str, again: &str) {
    browser.fill(&format!("#{form} [name=new]"), new);
    browser.fill(&format!("#{form} [name=again]"), again);
    browser.click(&format!("#{form} button"));
}

fn add_users(browser: &Chromium, registry: &Registry) {
    browser.open("/users");
    browser.fill("#add-name", "bob");
    fill_in(browser, "add", "password one", "other");
    browser.expect("#error", "The two passwords differ");
    assert_eq!(browser.property("#add-name", "value"), "bob", "the name is kept");
    fill_in(browser, "add", "password one", "password one");
    browser.expect("#notice", "added");
    browser.expect("#users", "bob");
    assert!(registry.accepts("bob", "password one"));
}

/// Gives alice full rights and bob some by rules of the page, changes the latter, and removes both.
fn edit_rights(browser: &Chromium) {
    let fill = |name: &str, pattern: &str, allow: &[&str]| {
        browser.open("/users/rights");
        browser.fill("#rule-name", name);
        browser.fill("#rule-pattern", pattern);
        for action in allow {
            browser.click(&format!("label[for=allow-{action}]"));
        }
        browser.click("#set-rule button");
    };
    browser.open("/users");
    browser.click("#users a[href=\"/users/rights?name=bob\"]");
    browser.expect("#now", "full rights");
    fill("bob", "team/*", &["pull"]);
    browser.expect("#error", "own full rights away");
    assert_eq!(browser.property("#rule-pattern", "value"), "team/*", "the pattern is kept");
    fill("alice", "*", &["pull", "push", "delete"]);
    browser.expect("main", "This is the first rule that names users");
    browser.expect("#changes", "no rights");
    browser.click("#confirm");
    browser.expect("#notice", "Rule saved");
    fill("bob", "team/*", &["pull", "push"]);
    browser.expect("#changes", "pull and push in team/*");
    browser.click("#confirm");
    browser.expect("#notice", "Rule saved");
    browser.open("/users");
    browser.expect("#users", "pull and push in team/*");
    browser.open("/users/rights");
    browser.click("#rules a[href^=\"/users/rights?edit=1\"]");
    browser.expect("#rule-heading", "Change the rule");
    browser.click("label[for=allow-push]");
    browser.click("#set-rule button");
    browser.expect("#rule", "pull in team/*");
    browser.click("#confirm");
    browser.expect("#rules", "pull in team/*");
    for number in [1, 0] {
        browser.open("/users/rights");
        browser.click(&format!("#rules a[href=\"/users/rule?remove={number}\"]"));
        browser.expect("h1", "Remove this rule?");
        browser.click("#confirm");
        browser.expect("#notice", "Rule removed");
    }
    browser.open("/users");
    browser.expect("#rules", "every user has full rights");
}

fn set_a_password(browser: &Chromium, registry: &Registry) {
    browser.open("/users");
    assert_eq!(
        browser.count("#users a[href^=\"/users/password\"]"),
        1,
        "users cannot set their own password here"
    );
    browser.click("#users a[href=\"/users/password?name=bob\"]");
    browser.expect("h1", "Set password of bob");
    browser.click("#cancel");
    browser.click("#users a[href=\"/users/password?name=bob\"]");
    fill_in(browser, "set", "password two", "other");
    browser.expect("#error", "The two passwords differ");
    assert_eq!(browser.property("#set-name", "value"), "bob", "the name is kept");
    fill_in(browser, "set", "password two", "password two");
    browser.expect("#notice", "Password changed.");
    assert!(registry.accepts("bob", "password two") && !registry.accepts("bob", "password one"));
}

fn remove_a_user(browser: &Chromium, registry: &Registry) {
    browser.open("/users");
    browser.click("#users a[href=\"/users/remove?name=bob\"]");
    browser.expect("h1", "Remove user bob?");
    browser.click("#cancel");
    browser.click("#users a[href=\"/users/remove?name=bob\"]");
    browser.click("#confirm");
    browser.expect("#notice", "removed");
    assert!(!browser.text("#users").contains("bob"));
    assert!(!registry.accepts("bob", "password two"));
}

/// Changes the password of alice, twice.
fn change_own_password(browser: &Chromium, registry: &Registry) {
    let change = |old: &str, new: &str| {
        browser.open("/account");
        browser.fill("#old", old);
        fill_in(browser, "own", new, new);
    };
    change("wrong", "a new one");
    browser.expect("#error", "The old password is wrong");
    change("secret", "a new one");
    browser.expect("#notice", "Your password is changed");
    assert!(registry.accepts("alice", "a new one"));
    browser.click("#account summary");
    browser.click("#logout");
    enter(browser, "alice", "a new one");
    browser.wait_for_address("/");
    change("a new one", "a secret");
    browser.expect("#notice", "Your password is changed");
}

fn collect(browser: &Chromium) {
    browser.open("/maintenance");
    browser.click("#collect button");
    browser.expect("#job", "Collection");
    browser.expect("#job", "by alice");
    browser.find("#outcome");
    browser.click(".brand");
    browser.expect("#collected", "nothing due yet");
}

/// Follows a check of a few seconds: the page shows its progress and its end without a reload.
fn check(browser: &Chromium) {
    browser.open("/maintenance");
    browser.click("#check input[name=gently]");
    browser.click("#check button");
    browser.expect("#job h2", "Check running");
    browser.expect("#progress", "read");
    assert_eq!(browser.count("main button[disabled]"), 3, "one job at a time");
    browser.find("#outcome");
    browser.expect("#outcome", "No faults found");
    browser.expect("#job h2", "Check");
    // Both buttons are enabled again.
    browser.find("#check button:not([disabled])");
}

fn see_activity(browser: &Chromium) {
    browser.click_link("Activity");
    browser.wait_for_address("/activity");
    for part in ["alice", "deleted", "team/app", "latest", "127.0.0.1"] {
        browser.expect("#events", part);
    }
    browser.fill("#q", "back");
    browser.click("#search button");
    browser.expect("#results", "3 events");
    browser.expect("#events", "team/web/back");
}
