//! The largest values that can be stored, for unit tests of the size of each page.

use askama::Template;

use super::assets;
use super::pages::Frame;
use super::theme::Theme;
use crate::oci::{Digest, RepositoryName, Tag};

/// The bound of a page with its style sheet, script and icons, in bytes.
const LARGEST: usize = 60 << 10;

/// Returns the texts that take the most bytes: characters that are escaped, and those of four bytes.
pub(super) fn texts() -> [String; 2] {
    ["\"".repeat(1000), "\u{1f980}".repeat(1000)]
}

/// Returns the longest repository name, of the deepest namespaces, with a number of up to three digits in the end.
pub(super) fn name(number: usize) -> RepositoryName {
    format!("{}{number:03}", "a/".repeat(126)).parse().unwrap()
}

/// Returns the longest tag, with a number of up to three digits in the end.
pub(super) fn tag(number: usize) -> Tag {
    format!("{}{number:03}", "x".repeat(125)).parse().unwrap()
}

/// Returns the longest digest.
pub(super) fn digest() -> Digest {
    format!("sha512:{}", "a".repeat(128)).parse().unwrap()
}

/// Returns the frame with every entry, the longest title and user name, and the longest notice.
pub(super) fn frame() -> Frame {
    let [style, script, mark, icons] = assets::paths();
    Frame {
        title: "\"".repeat(64),
        here: "overview",
        user: Some("u".repeat(64)),
        token: "t".repeat(64),
        sees_menu: true,
        users: true,
        maintenance: true,
        refresh: Some(2),
        notice: Some("n".repeat(160)),
        style,
        script,
        mark,
        icons,
        theme: Theme::System,
        searched: "\"".repeat(128),
        now: 1_800_000_000,
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// Renders a page and checks the bound.
#[track_caller]
pub(super) fn assert_small(page: &impl Template) {
    let (html, assets) = (page.render().unwrap().len(), assets::total_length());
    println!("{html} bytes of HTML, {assets} of assets");
    assert!(html + assets < LARGEST, "{html} bytes of HTML, {assets} of assets");
}
