//! Fuzzes `Range` and `Content-Range`.
#![no_main]

use holdfast::wire::{ByteRange, ContentRange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = text.parse::<ByteRange>();
    if let Ok(range) = text.parse::<ContentRange>() {
        assert!(range.start <= range.end);
        // The length of the chunk has to fit into a u64.
        assert!((range.end - range.start).checked_add(1).is_some());
    }
});
