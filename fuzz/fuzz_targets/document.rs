//! Fuzzes the documents that are attached to images (SPDX, CycloneDX, in-toto, signatures), as the page shows them.
#![no_main]

use holdfast::oci::{Bill, Document, PackageFilter};
use libfuzzer_sys::fuzz_target;

fn check(bill: &Bill, filter: &PackageFilter) {
    assert!(bill.packages.len() <= filter.limit && bill.matching <= bill.total);
    assert!(bill.packages.len() <= bill.matching.saturating_sub(filter.skip));
}

fuzz_target!(|bytes: &[u8]| {
    let filters = [
        PackageFilter { search: String::new(), skip: 0, limit: 50 },
        PackageFilter { search: "a".into(), skip: 1, limit: 2 },
    ];
    for filter in filters {
        match Document::parse(bytes, &filter) {
            Some(Document::Bill(bill)) => check(&bill, &filter),
            Some(Document::Statement(statement)) => statement.bill.iter().for_each(|bill| check(bill, &filter)),
            Some(Document::Signed(_)) | None => {}
        }
    }
});
