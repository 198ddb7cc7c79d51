//! Fuzzes the parsing of htpasswd files: no text panics, and every name is one field of one line.
#![no_main]

use holdfast::access::Htpasswd;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in Htpasswd::parse(text).names() {
        assert!(!name.as_str().is_empty() && !name.as_str().contains([':', '\n']));
    }
});
