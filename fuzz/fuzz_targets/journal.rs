//! Fuzzes the parsing of the journal of names: any bytes are batches or damage, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = holdfast::store::journal_has_batches(bytes);
});
