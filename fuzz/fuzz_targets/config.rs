//! Fuzzes the configuration file: no text panics, and `config show` of a valid one reads back as the same settings.
#![no_main]

use holdfast::config::{Overrides, from_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = from_text("file", text, [], &Overrides::default()) {
        let shown = from_text("shown", &config.show(), [], &Overrides::default());
        assert_eq!(shown.as_ref(), Ok(&config), "the shown configuration reads back");
    }
});
