//! Order of cipher suites: ChaCha20-Poly1305 first where the processor has no instructions for AES.
//!
//! A client on a PC offers AES-128-GCM first. A Raspberry Pi 1 to 4 and most 32-bit gateways would compute it in software,
//! although ChaCha20-Poly1305 is several times cheaper there, and cheap on the client too.

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

/// The side whose order of cipher suites decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CipherOrder {
    /// The client's order: this processor has instructions for AES.
    Client,
    /// ChaCha20-Poly1305 if the client offers it.
    ChaCha20First,
}

impl CipherOrder {
    /// Returns the order for the processor of this machine.
    pub(super) fn of_this_processor() -> Self {
        if has_aes_instructions() { CipherOrder::Client } else { CipherOrder::ChaCha20First }
    }

    /// Sorts the provider's suites so that the first suite that both sides support is the one to use. The order within
    /// each kind stays as it is.
    pub(super) fn sort(self, provider: &mut CryptoProvider) {
        match self {
            CipherOrder::Client => {}
            CipherOrder::ChaCha20First => provider.cipher_suites.sort_by_key(|suite| !is_chacha20(*suite)),
        }
    }

    /// Returns the value for [`rustls::ServerConfig::ignore_client_order`].
    pub(super) fn ignores_the_client(self) -> bool {
        match self {
            CipherOrder::Client => false,
            CipherOrder::ChaCha20First => true,
        }
    }
}

fn is_chacha20(suite: SupportedCipherSuite) -> bool {
    matches!(
        suite.suite(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

/// Processors of 32-bit ARM that have them are rare, and other architectures are not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests;
