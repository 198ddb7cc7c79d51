//! Fuzzes the parsing of a record of the log of the index: any bytes are rows or damage, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = holdfast::store::rows_in_log(bytes);
});
