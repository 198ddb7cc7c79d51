//! Fuzzes the reader of the structure of the index: any bytes are sound or not, never a panic, and no file takes long.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = holdfast::store::is_sound_index(bytes);
});
