//! Lists of repositories, tags and images, and deletes.

use super::chromium::{Chromium, Script};
use super::interaction::wait_for;
use super::registry::{MANY_TAGS, Registry};

/// The tags on a page.
const PAGE: usize = 16;

pub fn all(browser: &Chromium, registry: &Registry) {
    find_a_repository(browser);
    fold_namespaces(browser);
    order_repositories(browser);
    find_a_tag(browser);
    page_through_tags(browser);
    view_image(browser);
    view_platforms(browser);
    view_artifacts(browser);
    cancel_a_delete(browser, registry);
    delete_several(browser, registry);
    delete_an_image_by_its_tags(browser, registry);
    delete_a_repository(browser, registry);
}

fn find_a_repository(browser: &Chromium) {
    browser.click_link("Repositories");
    browser.wait_for_address("/repositories");
    browser.fill("#q", "front");
    browser.click("#search button");
    wait_for("a search", || {
        let rows = browser.texts("#list .row a");
        if rows == ["team/web/front"] { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    assert!(browser.address().contains("q=front"));
    browser.fill("#q", "nothing-like-it");
    browser.click("#search button");
    browser.expect("#none", "No repository matches.");
}

/// Checks that namespaces fold and show their number of repositories.
fn fold_namespaces(browser: &Chromium) {
    browser.open("/repositories");
    browser.expect("details[data-fold=\"team/\"] > summary", "3 repositories");
    let front = "a[href=\"/repository/team/web/front\"]";
    assert_eq!(browser.text(front), "front");
    browser.click("details[data-fold=\"team/\"] > summary");
    wait_for(
        "folding",
        || if browser.text(front).is_empty() { Ok(()) } else { Err("it is still open".into()) },
    );
    browser.click("details[data-fold=\"team/\"] > summary");
    browser.expect(front, "front");
    browser.expect("a[href=\"/repository/team/app\"] + span", "5 tags");
}

fn order_repositories(browser: &Chromium) {
    let first = |link: &str, wanted: &str| {
        browser.open("/repositories");
        browser.click_link(link);
        browser.expect(".sortings a[aria-current]", link);
        let rows = browser.texts("#list .row a");
        assert_eq!(rows[0], wanted, "by {link}: {rows:?}");
    };
    let links = browser.texts(".sortings a");
    assert_eq!(links.len(), 4, "{links:?}");
    first("Size", "data/large");
    first("Tags", "busy");
}

fn find_a_tag(browser: &Chromium) {
    browser.open("/repositories");
    browser.click("a[href=\"/repository/team/app\"]");
    browser.wait_for_address("/repository/team/app");
    let tags = browser.texts("#tags tbody th a");
    assert_eq!(tags.len(), 5, "{tags:?}");
    browser.click("#tags thead a");
    wait_for("natural order", || {
        let tags = browser.texts("#tags tbody th a");
        if tags == ["1.2", "1.9", "1.10", "2.0-rc.1", "latest"] { Ok(()) } else { Err(format!("{tags:?}")) }
    });
    browser.expect("#tags", "linux/arm/v7");
    browser.expect("#tags", "2 more tags");
    let digest = browser.property("#tags td.digest code", "dataset")["copy"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), "sha256:".len() + 64, "{digest}");
    browser.fill("#q", "1.1");
    browser.click("#search button");
    wait_for("a filter", || {
        let rows = browser.texts("#tags tbody th a");
        if rows == ["1.10"] { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}

fn page_through_tags(browser: &Chromium) {
    browser.open("/repository/busy");
    assert_eq!(browser.count("#tags tbody tr"), PAGE);
    browser.click("#next");
    browser.expect(".pager [aria-current]", "2");
    assert_eq!(browser.count("#tags tbody tr"), PAGE);
    browser.click("#next");
    browser.expect(".pager [aria-current]", "3");
    assert_eq!(browser.count("#tags tbody tr"), MANY_TAGS - 2 * PAGE);
    browser.open("/repository/busy?page=2");
    browser.click("#previous");
    browser.expect(".pager [aria-current]", "1");
}

fn view_image(browser: &Chromium) {
    browser.open("/repository/team/app");
    browser.click_link("1.10");
    browser.wait_for_address("/image/team/app:1.10");
    browser.expect("#pull", "/team/app:1.10");
    browser.expect("#platform", "linux/arm/v7");
    browser.expect("#same", "1.9");
    browser.expect("#same", "latest");
    browser.expect("#history", "COPY app /bin/app");
    browser.expect("#layers", "72 B");
    for part in ["/bin/app --all", "COLOUR=green", "8080/tcp", "app:app", "/data"] {
        browser.expect("#config", part);
    }
    browser.expect("#labels", "vendor");
    browser.expect("#annotations", "hand-made");
    browser.expect("#history", "ENV COLOUR=green");
    browser.click("#raw summary");
    browser.expect("#raw pre", "schemaVersion");
    browser.click("#raw a");
    browser.expect("body", "\"schemaVersion\":2");
}

fn view_platforms(browser: &Chromium) {
    browser.open("/image/multi:1");
    assert_eq!(browser.texts("#platforms tbody th"), ["linux/arm64", "linux/amd64", "linux/riscv64"]);
    browser.expect("#platforms", "not in this repository");
    browser.expect("#annotations", "two");
    for (platform, command) in [("linux/amd64", "COPY app-amd64"), ("linux/arm64", "COPY app-arm64")] {
        browser.open("/image/multi:1");
        browser.click_link(platform);
        browser.expect("#history", command);
        browser.expect("#platform", platform);
    }
}

fn view_artifacts(browser: &Chromium) {
    browser.open("/image/signed:1");
    let kinds = browser.texts("#referrers tbody th");
    assert!(kinds.iter().any(|kind| kind.contains("SBOM")), "{kinds:?}");
    assert!(kinds.iter().any(|kind| kind.to_lowercase().contains("signature")), "{kinds:?}");
    browser.click("#referrers tbody th a");
    browser.expect("#facts", "Attached to");
    browser.click("#facts a[href^=\"/image/signed@\"]");
    browser.expect("#referrers", "application/spdx+json");
    browser.open("/image/charts/app:1.0.0");
    browser.expect("h1", "Helm chart");
}

fn cancel_a_delete(browser: &Chromium, registry: &Registry) {
    browser.open("/repository/team/app");
    select(browser, "1.9");
    browser.click("#delete-selected");
    browser.expect("#selected", "2 other tags of the same image stay");
    browser.click("#cancel");
    browser.wait_for_address("/repository/team/app");
    assert_eq!(registry.tags("team/app").len(), 5);
}

pub fn select(browser: &Chromium, tag: &str) {
    browser.click(&format!("#tags input[value=\"{tag}\"]"));
}

/// Deletes two of three tags of an image: the third stays.
fn delete_several(browser: &Chromium, registry: &Registry) {
    browser.open("/repository/team/app");
    select(browser, "1.9");
    select(browser, "latest");
    let button = browser.text("#delete-selected");
    assert_eq!(button.contains("2 tags"), browser.script == Script::On, "{button}");
    browser.click("#delete-selected");
    browser.expect("h1", "Delete 2 tags of team/app?");
    assert_eq!(browser.texts("#selected tbody th"), ["1.9", "latest"]);
    browser.expect("#selected", "1 other tag of the same image stays");
    browser.click("#confirm");
    browser.expect("#notice", "2 tags deleted.");
    assert_eq!(registry.tags("team/app"), ["1.10", "1.2", "2.0-rc.1"]);
    assert_eq!(browser.texts("#tags tbody th a"), ["2.0-rc.1", "1.2", "1.10"]);
}

fn delete_an_image_by_its_tags(browser: &Chromium, registry: &Registry) {
    browser.open("/image/team/web/back:1");
    browser.click("#delete-tags button");
    browser.expect("h1", "Delete 1 tag of team/web/back?");
    browser.click("#confirm");
    browser.expect("#none", "The manifests that wait for a collection are listed under Untagged.");
    assert!(registry.tags("team/web/back").is_empty());
}

fn delete_a_repository(browser: &Chromium, registry: &Registry) {
    browser.open("/delete/repository?name=multi");
    browser.expect("h1", "Delete the repository multi?");
    browser.expect("#content", "1 tag and 3 manifests");
    browser.click("#cancel");
    browser.wait_for_address("/repository/multi");
    assert_eq!(registry.tags("multi"), ["1"]);
    browser.open("/delete/repository?name=multi");
    browser.click("#confirm");
    browser.expect("#notice", "Repository deleted.");
    assert!(browser.address().starts_with("/repositories?done=repository-deleted"), "{}", browser.address());
    assert_eq!(browser.count("a[href=\"/repository/multi\"]"), 0);
}
