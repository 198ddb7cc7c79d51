//! Conveniences that need script: copy buttons, search as you type, selecting several tags, folding.

use super::chromium::{Chromium, Script};
use super::interaction::{CONTROL, SHIFT, wait_for};
use super::lists::select;
use super::registry::{MANY_REPOSITORIES, Registry, push_many_repositories};
use super::tasks::log_in;

#[test]
fn script_copies_searches_folds_and_selects() {
    let registry = Registry::with(|daemon| {
        push_many_repositories(daemon);
        for tag in ["1", "2", "3", "10", "11", "x"] {
            daemon.push_image("team/app", tag, b"layer");
        }
    });
    let browser = Chromium::start(&registry, Script::On);
    log_in(&browser);
    copy_buttons(&browser);
    search_as_you_type(&browser);
    folding_is_kept(&browser);
    select_all_and_ranges(&browser);
    delete_selection(&browser, &registry);
    browser.assert_clean();
}

/// Clicks a copy button, and returns the text that it copied: pastes it into a search field.
fn paste(browser: &Chromium, path: &str, button: &str) -> String {
    browser.open(path);
    browser.click(button);
    browser.expect(button, "Copied");
    browser.open("/activity");
    browser.click("#q");
    browser.holding(CONTROL, || browser.press("v"));
    wait_for("the copied text", || {
        let value = browser.property("#q", "value").as_str().unwrap().to_owned();
        if value.is_empty() { Err("the field is empty".into()) } else { Ok(value) }
    })
}

fn copy_buttons(browser: &Chromium) {
    let host = browser.origin.strip_prefix("https://").unwrap().to_owned();
    let login = "#docker-login + .copier";
    assert_eq!(paste(browser, "/push", login), format!("docker login {host}"));
    let digest = "#tags tbody tr:first-child td.digest .copier";
    let pasted = paste(browser, "/repository/team/app", digest);
    assert!(pasted.starts_with("sha256:") && pasted.len() == 71, "{pasted}");
    let pull = "#tags tbody tr:first-child th .copier";
    let pasted = paste(browser, "/repository/team/app", pull);
    browser.open("/repository/team/app");
    let tag = browser.texts("#tags tbody tr:first-child th a").remove(0);
    assert_eq!(pasted, format!("docker pull {host}/team/app:{tag}"));
}

fn rows(browser: &Chromium) -> Vec<String> {
    browser.texts("#list .row a")
}

fn search_as_you_type(browser: &Chromium) {
    browser.open("/repositories");
    browser.expect(".pager", "3");
    // A repository on the last page, whose row has to be loaded.
    let wanted = format!("r{}", MANY_REPOSITORIES - 1);
    browser.write("#q", &wanted);
    wait_for(&wanted, || {
        let rows = rows(browser);
        if rows == [format!("many/{wanted}")] { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    assert!(browser.address().contains(&format!("q={wanted}")), "the address has the search");
    browser.open("/repository/team/app");
    browser.write("#q", "1");
    wait_for("tags with a 1", || {
        let tags = browser.texts("#tags tbody th a");
        if tags == ["11", "10", "1"] { Ok(()) } else { Err(format!("{tags:?}")) }
    });
}

fn folding_is_kept(browser: &Chromium) {
    browser.open("/repositories");
    let many = "details[data-fold=\"many/\"]";
    browser.click(&format!("{many} > summary"));
    wait_for("folding", || if browser.property(many, "open") == false { Ok(()) } else { Err("open".into()) });
    browser.open("/");
    browser.open("/repositories");
    assert_eq!(browser.property(many, "open"), false);
    browser.click(&format!("{many} > summary"));
}

fn selected(browser: &Chromium) -> Vec<String> {
    let boxes = browser.try_all("#tags tbody input:checked").unwrap();
    let value = |id: &String| {
        let path = format!("/element/{id}/property/value");
        browser.session.call("GET", &path, &serde_json::Value::Null).as_str().unwrap().to_owned()
    };
    boxes.iter().map(value).collect()
}

fn select_all_and_ranges(browser: &Chromium) {
    browser.open("/repository/team/app");
    assert_eq!(browser.property("#delete-selected", "disabled"), true);
    browser.click("#select-all");
    assert_eq!(selected(browser).len(), 6);
    browser.expect("#delete-selected", "Delete 6 tags");
    browser.click("#select-all");
    assert!(selected(browser).is_empty());
    select(browser, "2");
    browser.holding(SHIFT, || select(browser, "11"));
    assert_eq!(selected(browser), ["11", "10", "3", "2"]);
    browser.holding(SHIFT, || select(browser, "10"));
    assert_eq!(selected(browser), ["3", "2"], "a range is deselected, too");
}

fn delete_selection(browser: &Chromium, registry: &Registry) {
    browser.click("#delete-selected");
    assert_eq!(browser.texts("#selected tbody th"), ["2", "3"]);
    browser.click("#confirm");
    browser.expect("#notice", "2 tags deleted.");
    assert_eq!(registry.tags("team/app"), ["1", "10", "11", "x"]);
}
