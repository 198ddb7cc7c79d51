//! Fuzzes the parsing of manifests and of referrers indexes as clients push them.
#![no_main]

use holdfast::oci::{MediaType, Manifest, referrers_of_index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let image: MediaType = MediaType::OCI_MANIFEST.parse().expect("a media type");
    for media_type in [None, Some(&image), Some(&MediaType::oci_index())] {
        if let Ok(manifest) = Manifest::parse(bytes, media_type) {
            let mut digests: Vec<_> = manifest.references().iter().map(|reference| &reference.digest).collect();
            digests.dedup();
            assert_eq!(digests.len(), manifest.references().len(), "each digest once");
        }
    }
    let _ = referrers_of_index(bytes, 10);
});
