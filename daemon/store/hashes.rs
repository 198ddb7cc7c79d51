//! The hashes of an upload in the making.
//!
//! A hash covers the beginning of the file up to its position. It is current while that position is the length of the
//! upload. A write extends every hash that is current, so that an upload is read again at most once for each algorithm:
//! after that both hashes go on together.

use crate::oci::{Algorithm, Digest, Hasher};

/// The hashes of one upload, at most one for each algorithm.
#[derive(Clone, Default)]
pub(super) struct Hashes(Vec<Partial>);

#[derive(Clone)]
struct Partial {
    hasher: Hasher,
    /// How many bytes, from the beginning of the file, it covers.
    position: u64,
}

impl Hashes {
    /// The hash of an empty upload.
    pub(super) fn of_nothing(algorithm: Algorithm) -> Self {
        Hashes(vec![Partial { hasher: Hasher::new(algorithm), position: 0 }])
    }

    /// Returns the algorithm whose hash covers the most bytes.
    pub(super) fn furthest(&self) -> Option<Algorithm> {
        self.0.iter().max_by_key(|partial| partial.position).map(|partial| partial.hasher.algorithm())
    }

    /// Returns how many bytes the hash of this algorithm covers. An algorithm without one gets it here; the hashes of
    /// an empty upload are given up for it.
    pub(super) fn begin(&mut self, algorithm: Algorithm, length: u64) -> u64 {
        if let Some(partial) = self.find(algorithm) {
            return partial.position;
        }
        if length == 0 {
            self.0.clear();
        }
        self.0.push(Partial { hasher: Hasher::new(algorithm), position: 0 });
        0
    }

    /// Extends the hash of one algorithm with bytes that were read again.
    pub(super) fn catch_up(&mut self, algorithm: Algorithm, bytes: &[u8]) {
        let lagging = self.0.iter_mut().filter(|partial| partial.hasher.algorithm() == algorithm);
        lagging.for_each(|partial| partial.extend(bytes));
    }

    /// Returns the hashes after these bytes were appended to an upload of this length.
    pub(super) fn extended(&self, length: u64, bytes: &[u8]) -> Self {
        let mut extended = self.clone();
        let current = extended.0.iter_mut().filter(|partial| partial.position == length);
        current.for_each(|partial| partial.extend(bytes));
        extended
    }

    /// Returns the digest of an upload of this length, if the hash of this algorithm is current.
    pub(super) fn digest(&self, algorithm: Algorithm, length: u64) -> Option<Digest> {
        let current = self.find(algorithm).filter(|partial| partial.position == length);
        current.map(|partial| partial.hasher.clone().finish())
    }

    fn find(&self, algorithm: Algorithm) -> Option<&Partial> {
        self.0.iter().find(|partial| partial.hasher.algorithm() == algorithm)
    }
}

impl Partial {
    fn extend(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    #[test]
    fn both_hashes_go_on_after_the_second_has_caught_up() {
        let mut hashes = Hashes::of_nothing(Algorithm::Sha256).extended(0, b"abc");
        assert_eq!(hashes.begin(Algorithm::Sha512, 3), 0);
        assert_eq!(hashes.digest(Algorithm::Sha512, 3), None);
        hashes.catch_up(Algorithm::Sha512, b"ab");
        assert_eq!(hashes.begin(Algorithm::Sha512, 3), 2);
        hashes.catch_up(Algorithm::Sha512, b"c");
        let hashes = hashes.extended(3, b"def");
        for algorithm in BOTH {
            assert_eq!(hashes.digest(algorithm, 6), Some(Hasher::digest(algorithm, b"abcdef")));
            assert_eq!(hashes.clone().begin(algorithm, 6), 6, "nothing is read again");
        }
    }

    #[test]
    fn a_hash_that_lags_is_not_extended_and_gives_no_digest() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.begin(Algorithm::Sha256, 3), 0);
        let hashes = hashes.extended(3, b"def");
        assert_eq!(hashes.digest(Algorithm::Sha256, 6), None);
        assert_eq!(hashes.clone().begin(Algorithm::Sha256, 6), 0);
    }

    #[test]
    fn an_empty_upload_changes_its_algorithm_for_free() {
        let mut hashes = Hashes::of_nothing(Algorithm::Sha256);
        assert_eq!(hashes.begin(Algorithm::Sha512, 0), 0);
        assert_eq!(hashes.furthest(), Some(Algorithm::Sha512));
        assert!(hashes.find(Algorithm::Sha256).is_none());
    }
}
