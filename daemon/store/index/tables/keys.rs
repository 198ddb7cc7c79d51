//! The keys of the tables: their byte order is the order of lists in the distribution specification.
//!
//! A repository's name ends with a zero byte, which no name contains, so that the rows of a repository are
//! contiguous. A digest is one byte for its algorithm and the hash.

use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

/// Encodes a digest: one byte for the algorithm, then the hash.
pub(in crate::store) fn digest_key(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    push_digest(&mut key, digest);
    key
}

fn push_digest(key: &mut Vec<u8>, digest: &Digest) {
    key.push(code_of(digest.algorithm()));
    key.extend_from_slice(digest.bytes());
}

/// Returns the byte by which a key begins a digest of this algorithm.
pub(in crate::store) fn code_of(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

fn algorithm_of(code: u8) -> Option<Algorithm> {
    match code {
        1 => Some(Algorithm::Sha256),
        2 => Some(Algorithm::Sha512),
        _ => None,
    }
}

/// Returns the length of the digest that a key begins with.
pub(in crate::store) fn digest_length(key: &[u8]) -> Option<usize> {
    let length = 1 + algorithm_of(*key.first()?)?.hash_len();
    (length <= key.len()).then_some(length)
}

/// Splits a key after the digest that it begins with.
pub(in crate::store) fn split_digest(key: &[u8]) -> Option<(Digest, &[u8])> {
    let (&code, rest) = key.split_first()?;
    let algorithm = algorithm_of(code)?;
    let (hash, rest) = rest.split_at_checked(algorithm.hash_len())?;
    Some((Digest::from_hash(algorithm, hash)?, rest))
}

/// Returns the digests that stand one after the other, up to the first bytes that are none.
pub(in crate::store) fn digests(mut rest: &[u8]) -> impl Iterator<Item = Digest> {
    std::iter::from_fn(move || {
        let (digest, behind) = split_digest(rest)?;
        rest = behind;
        Some(digest)
    })
}

/// Returns the prefix of all keys of a repository.
pub(in crate::store) fn repository_prefix(repository: &RepositoryName) -> Vec<u8> {
    let mut key = Vec::with_capacity(repository.as_str().len() + 66);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    key
}

/// Returns a key behind all keys of a repository, and before those of the next one.
pub(in crate::store) fn repository_end(repository: &RepositoryName) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    // No name has this byte.
    *key.last_mut().unwrap_or(&mut 0) = 1;
    key
}

/// Returns the key of a tag.
pub(in crate::store) fn tag_key(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.extend_from_slice(tag.as_str().as_bytes());
    key
}

/// Splits the key of a tag.
pub(in crate::store) fn split_tag(key: &[u8]) -> Option<(RepositoryName, Tag)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    Some((text_after(&key[..end], 0)?.parse().ok()?, text_after(key, end + 1)?.parse().ok()?))
}

/// Returns the key of a manifest or a blob in a repository.
pub(in crate::store) fn content_key(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    push_digest(&mut key, digest);
    key
}

/// Splits the key of a manifest or a blob in a repository.
pub(in crate::store) fn split_content(key: &[u8]) -> Option<(RepositoryName, Digest)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let repository = text_after(&key[..end], 0)?.parse().ok()?;
    let (digest, _) = split_digest(&key[end + 1..])?;
    Some((repository, digest))
}

/// Returns the key of a tag under the digest that it names, which is encoded already.
pub(in crate::store) fn digest_tag_key(repository: &RepositoryName, digest: &[u8], tag: &str) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.extend_from_slice(digest);
    key.extend_from_slice(tag.as_bytes());
    key
}

/// The length of the time in a key of `tags_by_time`.
pub(in crate::store) const TIME: usize = 5 + 8;

/// Returns the time of a key of `tags_by_time`, by the seconds since 1970 and the sequence number of a tag. Both are inverted,
/// so that the newest tag is the first. The seconds have five bytes, which suffice for 30,000 years.
pub(in crate::store) fn inverted_time(pushed: u64, order: u64) -> [u8; TIME] {
    let mut time = [0; TIME];
    time[..5].copy_from_slice(&(!pushed.min((1 << 40) - 1)).to_be_bytes()[3..]);
    time[5..].copy_from_slice(&(!order).to_be_bytes());
    time
}

/// Returns the key of a tag under the time at which it was set.
pub(in crate::store) fn time_tag_key(
    repository: &RepositoryName,
    (pushed, order): (u64, u64),
    tag: &str,
) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.extend_from_slice(&inverted_time(pushed, order));
    key.extend_from_slice(tag.as_bytes());
    key
}

/// Returns the prefix of the keys of manifests or blobs in a repository whose hash begins with these bytes.
pub(in crate::store) fn content_key_prefix(
    repository: &RepositoryName,
    algorithm: Algorithm,
    hash: &[u8],
) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.push(code_of(algorithm));
    key.extend_from_slice(hash);
    key
}

/// Returns the key of the reverse tables, which map a digest to the repositories that have it.
pub(in crate::store) fn repository_key(digest: &Digest, repository: &RepositoryName) -> Vec<u8> {
    let mut key = digest_key(digest);
    key.extend_from_slice(repository.as_str().as_bytes());
    key
}

/// Returns the key of a referrer, or, without `referrer`, the prefix of the keys of all referrers of a subject.
pub(in crate::store) fn referrer_key(
    repository: &RepositoryName,
    subject: &Digest,
    referrer: Option<&Digest>,
) -> Vec<u8> {
    let mut key = content_key(repository, subject);
    if let Some(referrer) = referrer {
        push_digest(&mut key, referrer);
    }
    key
}

/// Returns the key of the reverse edge from a digest to a manifest that references it.
pub(in crate::store) fn edge_key(child: &Digest, parent: &Digest) -> Vec<u8> {
    let mut key = digest_key(child);
    push_digest(&mut key, parent);
    key
}

/// Returns the text of a key after a prefix, if it is UTF-8.
pub(in crate::store) fn text_after(key: &[u8], prefix: usize) -> Option<&str> {
    std::str::from_utf8(key.get(prefix..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Hasher;

    #[test]
    fn longest_keys_fit_into_lmdb() {
        let repository: RepositoryName = "a".repeat(255).parse().unwrap();
        let digest = Hasher::digest(Algorithm::Sha512, b"");
        let tag: Tag = "t".repeat(128).parse().unwrap();
        assert!(referrer_key(&repository, &digest, Some(&digest)).len() <= 511);
        assert!(tag_key(&repository, &tag).len() <= 511);
        assert!(digest_tag_key(&repository, &digest_key(&digest), tag.as_str()).len() <= 511);
        assert!(time_tag_key(&repository, (0, 0), tag.as_str()).len() <= 511);
    }

    #[test]
    fn the_newest_tag_is_the_first() {
        let key = |pushed, order| time_tag_key(&"a".parse().unwrap(), (pushed, order), "1");
        let times = [(u64::MAX, 1), (1 << 33, 9), (7, 9), (7, 8), (6, 9), (0, 0)];
        assert!(times.windows(2).all(|pair| { key(pair[0].0, pair[0].1) < key(pair[1].0, pair[1].1) }));
        assert_eq!(key(7, 8).len(), b"a\0".len() + TIME + 1);
    }

    #[test]
    fn digest_round_trips_through_its_key() {
        for algorithm in Algorithm::ALL {
            let digest = Hasher::digest(algorithm, b"x");
            let mut key = digest_key(&digest);
            key.extend_from_slice(b"rest");
            assert_eq!(split_digest(&key), Some((digest, &b"rest"[..])));
        }
        assert_eq!(split_digest(&[1, 2, 3]), None);
        assert_eq!(split_digest(&[9; 40]), None);
    }
}
