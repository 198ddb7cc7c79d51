//! `index.json`, from which the index is made again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = holdfast::store::names_in_layout(bytes);
});
