//! Sums over the rows of two tables, which are equal if both have the same rows, in whatever order.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The sums of all pairs of tables that are compared.
#[derive(Default)]
pub(super) struct Sums {
    /// `manifests` and `manifest_repositories`.
    pub(super) manifests: Difference,
    /// `repository_blobs` and `blob_repositories`.
    pub(super) blobs: Difference,
    /// `children` and `parents`.
    pub(super) edges: Difference,
}

/// The difference between two sums of hashes with a random key: tables that differ have the same sum with a probability
/// of one in 2^64.
#[derive(Default)]
pub(super) struct Difference {
    key: RandomState,
    sum: u64,
    rows: i64,
}

impl Difference {
    /// Adds a row of the first table.
    pub(super) fn forward(&mut self, parts: &[&[u8]], size: u64) {
        self.sum = self.sum.wrapping_add(self.hash(parts, size));
        self.rows += 1;
    }

    /// Adds a row of the second table.
    pub(super) fn backward(&mut self, parts: &[&[u8]], size: u64) {
        self.sum = self.sum.wrapping_sub(self.hash(parts, size));
        self.rows -= 1;
    }

    /// Returns true if both tables have the same rows.
    pub(super) fn agree(&self) -> bool {
        (self.sum, self.rows) == (0, 0)
    }

    fn hash(&self, parts: &[&[u8]], size: u64) -> u64 {
        let mut hasher = self.key.build_hasher();
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.write_u64(size);
        hasher.finish()
    }
}
