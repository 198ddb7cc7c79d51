//! Fuzzes image configs and manifests as the page shows them: settings, labels, and the history as lines of a Dockerfile.
#![no_main]

use holdfast::oci::{ImageConfig, ManifestView, dockerfile_step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config = ImageConfig::parse(bytes);
    let _ = (config.platform(), config.settings(), config.labels());
    for step in config.layer_history() {
        if let Some(text) = &step.created_by {
            let _ = dockerfile_step(text);
        }
    }
    let view = ManifestView::parse(bytes);
    let _ = view.kind();
    if let Ok(text) = std::str::from_utf8(bytes) {
        let step = dockerfile_step(text);
        // A page shows the step: it must not grow without bound.
        assert!(step.len() <= 8 * text.len() + 64, "{} of {}", step.len(), text.len());
    }
});
