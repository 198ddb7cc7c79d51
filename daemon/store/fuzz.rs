//! Entry points of the fuzzer into private parsers.

use super::layout_format::Entry;
use super::layout_reader::parse;

/// Returns the number of manifests that the bytes of an `index.json` name.
pub fn names_in_layout(bytes: &[u8]) -> usize {
    let mut names = 0;
    // A truncated file still yields the names before the damage.
    let _ = parse(bytes, &mut |entry| {
        names += usize::from(matches!(entry, Entry::Name(_)));
        Ok(())
    });
    names
}
