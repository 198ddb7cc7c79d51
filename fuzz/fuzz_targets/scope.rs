//! Fuzzes scopes of tokens, which have to read back after formatting, and `Authorization` headers.
#![no_main]

use holdfast::access::{Scope, claimed_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = claimed_name(text);
    let Ok(scopes) = Scope::parse_all([text]) else { return };
    assert!(scopes.len() <= 64);
    for scope in scopes {
        assert_eq!(Scope::parse_all([scope.to_string().as_str()]), Ok(vec![scope]));
    }
});
