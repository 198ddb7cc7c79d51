//! The running hashes of an unfinished upload.
//!
//! A hash covers the beginning of the file up to its position. It is current while that position is the length of the
//! upload. A write extends every current hash; a hash that lags behind (after a restart, or for a second algorithm) is
//! caught up by reading the file again. After that both are current, so that the file is read again at most once per
//! algorithm.

use crate::oci::{Algorithm, Digest, Hasher};

/// The hashes of one upload, at most one per algorithm.
#[derive(Clone, Default)]
pub(super) struct Hashes(Vec<Partial>);

#[derive(Clone)]
struct Partial {
    hasher: Hasher,
    /// The number of bytes from the beginning of the file that it covers.
    position: u64,
}

impl Hashes {
    /// Returns the hash of an empty upload.
    pub(super) fn of_empty(algorithm: Algorithm) -> Self {
        Hashes(vec![Partial { hasher: Hasher::new(algorithm), position: 0 }])
    }

    /// Returns the algorithm whose hash covers the most bytes.
    pub(super) fn furthest(&self) -> Option<Algorithm> {
        self.0.iter().max_by_key(|partial| partial.position).map(|partial| partial.hasher.algorithm())
    }

    /// Returns the number of bytes that the hash of this algorithm covers; starts a hash if it does not exist. The
    /// first hash of an empty upload replaces the others, so that a client that changes the algorithm pays for one hash
    /// only.
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

    /// Extends the lagging hash of one algorithm with bytes that were read from the file.
    pub(super) fn catch_up(&mut self, algorithm: Algorithm, bytes: &[u8]) {
        let lagging = self.0.iter_mut().filter(|partial| partial.hasher.algorithm() == algorithm);
        lagging.for_each(|partial| partial.extend(bytes));
    }

    /// Returns the hashes as they are after these bytes are appended to an upload of this length.
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
    fn both_hashes_stay_current_after_the_second_has_caught_up() {
        let mut hashes = Hashes::of_empty(Algorithm::Sha256).extended(0, b"abc");
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
    fn a_lagging_hash_is_not_extended_and_has_no_digest() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.begin(Algorithm::Sha256, 3), 0);
        let hashes = hashes.extended(3, b"def");
        assert_eq!(hashes.digest(Algorithm::Sha256, 6), None);
        assert_eq!(hashes.clone().begin(Algorithm::Sha256, 6), 0);
    }

    #[test]
    fn an_empty_upload_drops_the_hash_of_the_other_algorithm() {
        let mut hashes = Hashes::of_empty(Algorithm::Sha256);
        assert_eq!(hashes.begin(Algorithm::Sha512, 0), 0);
        assert_eq!(hashes.furthest(), Some(Algorithm::Sha512));
        assert!(hashes.find(Algorithm::Sha256).is_none());
    }
}
