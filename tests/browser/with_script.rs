//! What is more comfortable with script: copying, search while one types, selecting many, a tree that stays folded.

use super::chromium::{Chromium, Script};
use super::hands::{CONTROL, SHIFT, wait_for};
use super::lists::select;
use super::registry::{MANY_REPOSITORIES, Registry, push_many_repositories};
use super::tasks::log_in;

#[test]
fn pages_are_more_comfortable_with_script() {
    let registry = Registry::with(|daemon| {
        push_many_repositories(daemon);
        for tag in ["1", "2", "3", "10", "11", "x"] {
            daemon.push_image("team/app", tag, b"layer");
        }
    });
    let browser = Chromium::start(&registry, Script::On);
    log_in(&browser);
    copies(&browser);
    searches_while_one_types(&browser);
    stays_folded(&browser);
    selects_all_and_ranges(&browser);
    deletes_what_is_selected(&browser, &registry);
    browser.check_silence();
}

/// Clicks a button that copies, and pastes into the field of a search.
fn paste(browser: &Chromium, path: &str, button: &str) -> String {
    browser.open(path);
    browser.click(button);
    browser.expect(button, "Copied");
    browser.open("/activity");
    browser.click("#q");
    browser.holding(CONTROL, || browser.press("v"));
    wait_for("what was copied", || {
        let value = browser.property("#q", "value").as_str().unwrap().to_owned();
        if value.is_empty() { Err("the field is empty".into()) } else { Ok(value) }
    })
}

fn copies(browser: &Chromium) {
    let host = browser.origin.strip_prefix("https://").unwrap().to_owned();
    let login = "#docker-login + .copier";
    assert_eq!(paste(browser, "/push", login), format!("docker login {host}"));
    let digest = "#tags tbody tr:first-child td.digest .copier";
    let pasted = paste(browser, "/repository/team/app", digest);
    assert!(pasted.starts_with("sha256:") && pasted.len() == 71, "{pasted}");
    let pull = "#tags tbody tr:first-child th .copier";
    assert_eq!(paste(browser, "/repository/team/app", pull), format!("docker pull {host}/team/app:1"));
}

fn rows(browser: &Chromium) -> Vec<String> {
    browser.texts("#list .row a")
}

fn searches_while_one_types(browser: &Chromium) {
    browser.open("/repositories");
    browser.expect(".pager", "Page 1 of 2");
    // On the second page, which is asked for.
    let wanted = format!("r{}", MANY_REPOSITORIES - 1);
    browser.write("#q", &wanted);
    wait_for(&wanted, || {
        let rows = rows(browser);
        if rows == [format!("many/{wanted}")] { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    assert!(browser.address().contains(&format!("q={wanted}")), "the address can be kept");
    browser.open("/repository/team/app");
    browser.write("#q", "1");
    wait_for("tags with a 1", || {
        let tags = browser.texts("#tags tbody th a");
        if tags == ["1", "10", "11"] { Ok(()) } else { Err(format!("{tags:?}")) }
    });
}

fn stays_folded(browser: &Chromium) {
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

fn selects_all_and_ranges(browser: &Chromium) {
    browser.open("/repository/team/app");
    assert_eq!(browser.property("#delete-selected", "disabled"), true);
    browser.click("#select-all");
    assert_eq!(selected(browser).len(), 6);
    browser.expect("#delete-selected", "Delete 6 tags");
    browser.click("#select-all");
    assert!(selected(browser).is_empty());
    select(browser, "2");
    browser.holding(SHIFT, || select(browser, "11"));
    assert_eq!(selected(browser), ["2", "3", "10", "11"]);
    browser.holding(SHIFT, || select(browser, "10"));
    assert_eq!(selected(browser), ["2", "3"], "a range is taken away, too");
}

fn deletes_what_is_selected(browser: &Chromium, registry: &Registry) {
    browser.click("#delete-selected");
    assert_eq!(browser.texts("#doomed tbody th"), ["2", "3"]);
    browser.click("#confirm");
    browser.expect("#notice", "2 tags deleted.");
    assert_eq!(registry.tags("team/app"), ["1", "10", "11", "x"]);
}
