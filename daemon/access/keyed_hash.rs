//! HMAC-SHA256 under a random key of this process, by which secrets are compared and looked up without being stored.

use ring::hmac;
use ring::rand::SystemRandom;

use super::htpasswd::HtpasswdError;

/// HMAC of a secret.
pub(super) type Tag = [u8; 32];

/// A key that lives as long as the daemon.
pub(super) struct KeyedHash(hmac::Key);

impl KeyedHash {
    /// Generates a key.
    ///
    /// # Errors
    /// Returns [`HtpasswdError::Random`].
    pub(super) fn random() -> Result<Self, HtpasswdError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(KeyedHash(key.map_err(|_| HtpasswdError::Random)?))
    }

    /// Returns the HMAC of a text. Callers prefix the text with its kind, such as `form` or `session`, so that the HMAC
    /// of one kind is never valid for another.
    pub(super) fn tag(&self, text: &str) -> Tag {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, text.as_bytes()).as_ref());
        tag
    }

    /// Returns true if `tag` is the HMAC of a text. Compares in constant time.
    pub(super) fn is_tag(&self, text: &str, tag: &[u8]) -> bool {
        hmac::verify(&self.0, text.as_bytes(), tag).is_ok()
    }
}
