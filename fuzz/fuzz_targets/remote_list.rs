//! Fuzzes the lists and errors of other registries: pages of tags and repositories, messages, and in the first line the link to the
//! next page.
#![no_main]

use holdfast::client::{error_text, names_in_page, next_page};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (link, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 1..]);
    let _ = names_in_page(body);
    if let Some(next) = next_page(&link) {
        assert!(next.starts_with("http"), "{next}");
    }
    assert!(!error_text(body).contains(char::is_control));
});
