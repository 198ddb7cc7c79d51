//! Digests: content identifiers (image specification, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash algorithm that this registry can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`, the default of all clients.
    Sha256,
    /// `sha512`, which clients announce with `digest-algorithm=sha512`.
    Sha512,
}

impl Algorithm {
    /// All supported algorithms, in order of preference.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// Returns the name that stands before the colon of a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Returns the length of a hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(ParseDigestError::Algorithm),
        }
    }
}

/// The reason why a string is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// The colon between algorithm and hash is missing.
    #[error("a digest is written ALGORITHM:HEX, for example sha256:9f86d0…")]
    Form,
    /// The algorithm is not supported.
    #[error("the digest algorithm is not supported; use sha256 or sha512")]
    Algorithm,
    /// The hash has the wrong length or is not lower-case hexadecimal.
    #[error("the hash of a digest is lower-case hexadecimal, 64 characters for sha256 and 128 for sha512")]
    Hash,
}

/// A digest such as `sha256:9f86…`: an algorithm and a hash of exactly its length.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Hash);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hash {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Hash::Sha256(_) => Algorithm::Sha256,
            Hash::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Returns the raw hash, 32 or 64 bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Hash::Sha256(hash) => hash,
            Hash::Sha512(hash) => hash,
        }
    }

    /// Returns the hash as lower-case hexadecimal, the part after the colon.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes())
    }

    /// Makes a digest from a raw hash; `None` if the length is not that of the algorithm.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => hash.try_into().ok().map(|hash| Digest(Hash::Sha256(hash))),
            Algorithm::Sha512 => hash.try_into().ok().map(|hash| Digest(Hash::Sha512(hash))),
        }
    }

    /// Returns the tag under which clients list the referrers of this digest where a registry has no referrers API
    /// (distribution specification, "Referrers Tag Schema").
    pub fn fallback_tag(&self) -> String {
        let hex = self.hex();
        // A tag has at most 128 characters, so that the schema truncates longer hashes.
        format!("{}-{}", self.algorithm(), &hex[..64])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0_u8; 128];
        let hex = &mut hex[..2 * self.bytes().len()];
        hex::encode_to_slice(self.bytes(), hex).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm().as_str())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Parses `ALGORITHM:HEX` (image specification, "Digests"). Upper-case digits are invalid there.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hash) = text.split_once(':').ok_or(ParseDigestError::Form)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let lower = hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hash.len() != 2 * algorithm.hash_len() {
            return Err(ParseDigestError::Hash);
        }
        let mut bytes = [0_u8; 64];
        let bytes = &mut bytes[..algorithm.hash_len()];
        hex::decode_to_slice(hash, bytes).map_err(|_| ParseDigestError::Hash)?;
        Digest::from_hash(algorithm, bytes).ok_or(ParseDigestError::Hash)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parsing_reports_the_malformed_part() {
        for (text, why) in [
            ("", ParseDigestError::Form),
            ("sha256", ParseDigestError::Form),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", ParseDigestError::Algorithm),
            ("sha256:", ParseDigestError::Hash),
            ("sha256:../../etc/passwd", ParseDigestError::Hash),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert_eq!(upper.parse::<Digest>(), Err(ParseDigestError::Hash));
        let short = format!("sha512:{}", "a".repeat(64));
        assert_eq!(short.parse::<Digest>(), Err(ParseDigestError::Hash));
    }

    #[test]
    fn referrers_tag_of_a_sha512_is_truncated() {
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(long.fallback_tag(), format!("sha512-{}", "a".repeat(64)));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Digest>();
        }

        #[test]
        fn parsing_reverses_formatting(hash in prop::array::uniform32(any::<u8>()), long: bool) {
            let digest = if long {
                Digest::from_hash(Algorithm::Sha512, &[hash, hash].concat()).unwrap()
            } else {
                Digest::from_hash(Algorithm::Sha256, &hash).unwrap()
            };
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }
    }
}
