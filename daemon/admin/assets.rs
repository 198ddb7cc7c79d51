//! Style sheet, scripts and icon, compiled in.
//!
//! Each file name contains a hash of the content, so that browsers may cache the file forever.

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use super::error::AdminError;
use crate::oci::{Algorithm, Hasher};
use crate::wire::{Response, with_bytes};

/// A compiled-in file.
struct Asset {
    path: String,
    content_type: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn new(name: &str, extension: &str, content_type: &'static str, content: &'static [u8]) -> Self {
        let hash = Hasher::digest(Algorithm::Sha256, content).hex();
        Asset { path: format!("{name}-{}.{extension}", &hash[..16]), content_type, content }
    }
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        Asset::new("style", "css", "text/css; charset=utf-8", include_bytes!("style.css")),
        Asset::new("script", "js", "text/javascript; charset=utf-8", include_bytes!("script.js")),
        Asset::new("icon", "svg", "image/svg+xml", include_bytes!("icon.svg")),
        Asset::new("upload", "js", "text/javascript; charset=utf-8", include_bytes!("upload.js")),
    ]
});

/// Returns the paths of the files of every page below `/assets/`: style sheet, script and icon.
pub(super) fn paths() -> [&'static str; 3] {
    let [style, script, icon, _] = &*ASSETS;
    [&style.path, &script.path, &icon.path]
}

/// Returns the path of the script of the page that uploads archives.
pub(super) fn upload_script() -> &'static str {
    &ASSETS[3].path
}

/// Returns the length of the files of a page together, in bytes: all but the script for uploads, which only one small page has.
#[cfg(test)]
pub(super) fn total_length() -> usize {
    ASSETS[..3].iter().map(|asset| asset.content.len()).sum()
}

/// Serves a file; 404 for one of another release.
pub(super) fn answer(name: &str) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == name) else {
        return AdminError::NotFound("There is no such file.".into()).plain();
    };
    let mut response = with_bytes(StatusCode::OK, asset.content_type, Bytes::from_static(asset.content));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The icon is a document of its own when it is opened by its address.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}
