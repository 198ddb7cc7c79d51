//! Fuzzes inventories: no text panics, and every line is a digest or content that is wanted.
#![no_main]

use holdfast::transfer::inventory::Inventory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Inventory::parse(text);
    let whole = format!("# holdfast inventory 1 id=x\n{text}");
    if let Ok(inventory) = Inventory::parse(&whole) {
        assert!(inventory.digests.len() + inventory.wanted.len() <= text.lines().count());
    }
});
