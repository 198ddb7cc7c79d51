//! Names and roles of members.

use std::fmt;

use super::limits;
use crate::oci::{Algorithm, Digest};

/// The name of a member, with `/` between its components. Only compared, never used as a path: it has no `.`, `..` or
/// empty component, and no control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(String);

impl MemberName {
    /// Parses a name; drops `./` and empty components. Returns `None` for a name that is not usable.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > limits::NAME {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        if text.chars().any(char::is_control) {
            return None;
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        (!parts.is_empty() && !parts.contains(&"..")).then(|| MemberName(parts.join("/")))
    }

    /// Returns the target of a link in this member, within the list of members. Returns `None` if it leads out of it.
    pub fn link_target(&self, target: &[u8]) -> Option<Self> {
        let target = std::str::from_utf8(target).ok().filter(|target| !target.starts_with('/'))?;
        let mut parts: Vec<&str> = self.0.split('/').collect();
        parts.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                part => parts.push(part),
            }
        }
        Self::parse(parts.join("/").as_bytes())
    }

    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits off the last components: the part before them (empty at the top), and the `COUNT` components.
    pub fn split_end<const COUNT: usize>(&self) -> Option<(&str, [&str; COUNT])> {
        let mut rest = Some(self.0.as_str());
        let mut parts = [""; COUNT];
        for part in parts.iter_mut().rev() {
            let text = rest?;
            (rest, *part) = match text.rsplit_once('/') {
                Some((before, last)) => (Some(before), last),
                None => (None, text),
            };
        }
        Some((rest.unwrap_or_default(), parts))
    }

    /// Returns the digest in a name that ends in `blobs/ALGORITHM/HEX`, with the part before `blobs`.
    pub fn layout_blob(&self) -> Option<(&str, Digest)> {
        let (before, [blobs, algorithm, hex]) = self.split_end()?;
        (blobs == "blobs").then_some(())?;
        Some((before, digest(algorithm, hex)?))
    }

    /// Returns the blob of a layout of which this is a part, `blobs/ALGORITHM/HEX.001` and so on, and the number of the part.
    pub fn layout_part(&self) -> Option<(Self, usize)> {
        let (blob, number) = self.0.rsplit_once('.')?;
        let is_number = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        let blob = MemberName(blob.to_owned());
        (is_number && blob.layout_blob().is_some()).then_some(())?;
        Some((blob, number.parse().ok()?))
    }
}

/// Makes a digest from the name of an algorithm and a hash.
fn digest(algorithm: &str, hex: &str) -> Option<Digest> {
    let algorithm: Algorithm = algorithm.parse().ok()?;
    format!("{algorithm}:{hex}").parse().ok()
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The role of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A small file that the catalog needs. It is kept in memory, at most [`limits::Bounds::document`] bytes.
    Document,
    /// Content whose name states its digest.
    Blob(Digest),
    /// A layer whose digest is not known before it has been read.
    Layer,
    /// A member that belongs to the format and is not needed.
    Ignored,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_normalised_and_hostile_ones_refused() {
        assert_eq!(name("./a//b/./c").as_str(), "a/b/c");
        assert_eq!(name("/etc/passwd").as_str(), "etc/passwd");
        for text in ["", "/", "./", "..", "a/../b", "a\nb", "a\0"] {
            assert_eq!(MemberName::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(MemberName::parse(b"\xff"), None);
        assert_eq!(MemberName::parse("a".repeat(5000).as_bytes()), None);
    }

    #[test]
    fn links_stay_within_the_members() {
        let from = name("a/layer.tar");
        assert_eq!(from.link_target(b"../b/layer.tar"), Some(name("b/layer.tar")));
        assert_eq!(from.link_target(b"../../b"), None);
        assert_eq!(from.link_target(b"/b"), None);
    }

    #[test]
    fn layout_blobs_are_found_at_any_depth() {
        let hex = "a".repeat(64);
        for top in ["", "top/", "./images/"] {
            let (before, digest) = name(&format!("{top}blobs/sha256/{hex}"))
                .layout_blob()
                .map(|(before, digest)| (before.to_owned(), digest))
                .unwrap();
            assert_eq!(before, top.trim_start_matches("./").trim_end_matches('/'));
            assert_eq!(digest.hex(), hex);
        }
        assert_eq!(name("blobs/sha256/short").layout_blob(), None);
        let part = name(&format!("blobs/sha256/{hex}.002"));
        assert_eq!(part.layout_part(), Some((name(&format!("blobs/sha256/{hex}")), 2)));
        assert_eq!((name("a.002").layout_part(), part.layout_blob()), (None, None));
        assert_eq!(name("sha256/x").layout_blob(), None);
        assert_eq!(name("a/b").split_end(), Some(("a", ["b"])));
        assert_eq!(name("a").split_end::<2>(), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), target in ".*") {
            if let Some(name) = MemberName::parse(&bytes) {
                let _ = name.layout_blob();
                if let Some(target) = name.link_target(target.as_bytes()) {
                    prop_assert!(!target.as_str().split('/').any(|part| part == ".."));
                }
            }
        }
    }
}
