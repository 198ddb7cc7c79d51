//! Links between the documents.

use std::fs;
use std::path::Path;

use crate::documents::{Page, blocks, pages, source};

/// Returns the targets of `[text](target)`, and of `src` and `srcset` in HTML.
fn targets(prose: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        let rests = prose.split(opening).skip(1);
        targets.extend(rests.filter_map(|rest| Some(rest.split_once(closing)?.0.to_owned())));
    }
    targets
}

/// Returns the anchors of a page: its headings, as a forge writes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = blocks::prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn assert_resolves(page: &Page, target: &str) {
    if target.contains("://") || target.starts_with("mailto:") {
        return;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() {
        source().join(&page.name)
    } else {
        source().join(Path::new(&page.name).parent().unwrap()).join(path)
    };
    // The pictures are made of the running admin page, and are not in a package.
    assert!(file.exists() || path.contains("pictures/"), "{}: {target} does not exist", page.name);
    if !anchor.is_empty() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(anchors(&text).iter().any(|a| a == anchor), "{}: {target}: no such heading", page.name);
    }
}

#[test]
fn links_and_anchors_resolve() {
    for page in pages() {
        for target in targets(&blocks::prose(&page.text)) {
            assert_resolves(&page, &target);
        }
    }
}

#[test]
fn the_table_of_contents_has_every_page() {
    let contents = fs::read_to_string(source().join("docs/README.md")).unwrap();
    for page in pages() {
        let Some(path) = page.name.strip_prefix("docs/") else { continue };
        let is_listed = contents.contains(&format!("]({path})")) || path.starts_with("decisions/0");
        assert!(is_listed || path == "README.md", "docs/README.md does not list {path}");
    }
}

#[test]
fn documents_named_by_the_program_exist() {
    let mut named = 0;
    for top in ["daemon", "packaging", "config", "tests", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md"]
    {
        let output = std::process::Command::new("grep")
            .args(["-rhoE", r"\bdocs/[a-z0-9/_-]+\.md", top])
            .current_dir(source())
            .output()
            .unwrap();
        for path in String::from_utf8(output.stdout).unwrap().lines() {
            assert!(source().join(path).exists(), "{top} names {path}");
            named += 1;
        }
    }
    assert!(named > 10);
}

#[test]
fn the_package_has_every_page() {
    let contents = fs::read_to_string(source().join("packaging/debian/contents")).unwrap();
    for page in pages() {
        let path = format!("/usr/share/doc/holdfast/{}", page.name);
        assert!(contents.lines().any(|line| line == path), "packaging/debian/contents lacks {path}");
    }
}
