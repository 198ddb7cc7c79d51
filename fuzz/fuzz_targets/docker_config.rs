//! Fuzzes Docker's `config.json`: no bytes panic, and the reason of an error shows nothing of them.
#![no_main]

use holdfast::client::stored_credentials;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for host in ["hub.lan:5000", "docker.io", "registry-1.docker.io"] {
        if let Err(reason) = stored_credentials(bytes, host) {
            assert!(reason.len() < 200 && reason.is_ascii(), "{reason}");
        }
    }
});
