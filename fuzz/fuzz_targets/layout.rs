//! Fuzzes the parsing of `index.json`, which an index is rebuilt from: any bytes are an error or entries, never a
//! panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = holdfast::store::names_in_layout(bytes);
});
