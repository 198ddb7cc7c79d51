//! Fuzzes `holdfast/export.json`: a list that is read is formatted as one that reads back.
#![no_main]

use holdfast::transfer::content_list::ContentList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = ContentList::parse(bytes) {
        assert_eq!(ContentList::parse(&list.to_bytes()), Ok(list));
    }
});
