//! Hashing with the faster of two libraries for this processor.
//!
//! `sha2` uses the SHA instructions of the processor where there are any. Raspberry Pi 3 and 4 and all 32-bit ARM
//! processors lack them; there the assembly of ring is about twice as fast as portable Rust.

use sha2::Digest as _;

use super::digest::{Algorithm, Digest};

/// An incremental hash that ends in a [`Digest`].
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Box<sha2::Sha256>),
    Ring(Algorithm, Box<ring::digest::Context>),
}

impl Hasher {
    /// Begins a hash of this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 if has_sha256_instructions() => State::Sha256(Box::default()),
            Algorithm::Sha256 => ring_state(algorithm, &ring::digest::SHA256),
            Algorithm::Sha512 => ring_state(algorithm, &ring::digest::SHA512),
        })
    }

    /// Returns the algorithm of the hash.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Ring(algorithm, _) => *algorithm,
        }
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Ring(_, state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes that were added.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let digest = match self.0 {
            State::Sha256(state) => Digest::from_hash(algorithm, &state.finalize()),
            State::Ring(_, state) => Digest::from_hash(algorithm, state.finish().as_ref()),
        };
        match digest {
            Some(digest) => digest,
            None => unreachable!("a hash has the length of its algorithm"),
        }
    }

    /// Returns the digest of content in memory.
    pub fn digest(algorithm: Algorithm, content: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }
}

fn ring_state(algorithm: Algorithm, ring: &'static ring::digest::Algorithm) -> State {
    State::Ring(algorithm, Box::new(ring::digest::Context::new(ring)))
}

#[cfg(target_arch = "x86_64")]
fn has_sha256_instructions() -> bool {
    std::arch::is_x86_feature_detected!("sha")
}

#[cfg(target_arch = "aarch64")]
fn has_sha256_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("sha2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_sha256_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_libraries_produce_the_published_test_vectors() {
        let abc256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hasher::digest(Algorithm::Sha256, b"abc").to_string(), abc256);
        for state in [State::Sha256(Box::default()), ring_state(Algorithm::Sha256, &ring::digest::SHA256)] {
            let mut hasher = Hasher(state);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish().to_string(), abc256);
        }
        let abc512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(Hasher::digest(Algorithm::Sha512, b"abc").to_string(), abc512);
    }
}
