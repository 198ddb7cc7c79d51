//! Attachment tags, which attach content to a manifest by their name: the fallback tag (`sha256-HEX`, distribution
//! specification, "Referrers Tag Schema") and the tags of cosign for signatures, attestations and SBOMs
//! (`sha256-HEX.sig`).

use super::{Algorithm, Digest, Tag};

/// The suffixes of attachment tags; the empty one is that of the fallback tag.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// The hexadecimal digits of the hash in an attachment tag: a longer hash is truncated to these.
const DIGITS: usize = 64;

/// The manifest to which an attachment tag attaches content: the algorithm and the first 32 bytes of its digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentTarget {
    /// The algorithm of the digest.
    pub algorithm: Algorithm,
    /// The first 32 bytes of the hash: all of a SHA-256, half of a SHA-512.
    pub hash: [u8; DIGITS / 2],
}

impl AttachmentTarget {
    /// Parses a tag; returns `None` if it is not an attachment tag.
    pub fn of(tag: &Tag) -> Option<Self> {
        let (algorithm, rest) = tag.as_str().split_once('-')?;
        let algorithm: Algorithm = algorithm.parse().ok()?;
        let (digits, suffix) = rest.split_at_checked(DIGITS)?;
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || !SUFFIXES.contains(&suffix) {
            return None;
        }
        let mut hash = [0; DIGITS / 2];
        hex::decode_to_slice(digits, &mut hash).ok()?;
        Some(AttachmentTarget { algorithm, hash })
    }

    /// Returns the target whose tags attach content to a manifest.
    pub fn to(digest: &Digest) -> Self {
        let mut hash = [0; DIGITS / 2];
        // No algorithm has a shorter hash.
        hash.copy_from_slice(&digest.bytes()[..DIGITS / 2]);
        AttachmentTarget { algorithm: digest.algorithm(), hash }
    }

    /// Returns true if the digest begins with the hash in the tag.
    pub fn matches(&self, digest: &Digest) -> bool {
        *self == AttachmentTarget::to(digest)
    }

    /// Returns all attachment tags of a manifest.
    pub fn tags_of(digest: &Digest) -> impl Iterator<Item = Tag> {
        let stem = format!("{}-{}", digest.algorithm(), hex::encode(&digest.bytes()[..DIGITS / 2]));
        SUFFIXES.into_iter().filter_map(move |suffix| format!("{stem}{suffix}").parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::Hasher;

    fn of(tag: &str) -> Option<AttachmentTarget> {
        AttachmentTarget::of(&tag.parse().unwrap())
    }

    #[test]
    fn attachment_tags_of_a_digest_match_only_that_digest() {
        for algorithm in Algorithm::ALL {
            let (digest, other) = (Hasher::digest(algorithm, b"x"), Hasher::digest(algorithm, b"y"));
            let tags: Vec<Tag> = AttachmentTarget::tags_of(&digest).collect();
            assert_eq!(tags.len(), SUFFIXES.len());
            assert_eq!(tags[0].as_str(), digest.fallback_tag());
            for tag in tags {
                let attached = AttachmentTarget::of(&tag).unwrap();
                assert!(attached.matches(&digest) && !attached.matches(&other), "{tag}");
            }
        }
    }

    #[test]
    fn ordinary_tags_are_not_attachment_tags() {
        let digits = "0".repeat(64);
        for tag in [
            "1.0".to_owned(),
            digits.clone(),
            format!("sha256-{}", &digits[1..]),
            format!("sha256-{digits}0"),
            format!("sha256-{digits}.imgpkg"),
            format!("sha256-{}", "A".repeat(64)),
            format!("md5-{digits}"),
            "sha256-".to_owned(),
        ] {
            assert_eq!(of(&tag), None, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(tag in "(sha256-|sha512-)?[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,100}") {
            if let Ok(tag) = tag.parse() {
                let _ = AttachmentTarget::of(&tag);
            }
        }
    }
}
