//! Style sheet, scripts, icons and logo, compiled in.
//!
//! Each file name contains a hash of the content, so that browsers may cache the file forever. Comments and indentation are
//! removed, and browsers get the files compressed.

use std::io::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};

use super::error::AdminError;
use crate::oci::{Algorithm, Hasher};
use crate::wire::{Response, with_bytes};

/// A compiled-in file.
struct Asset {
    path: String,
    content_type: &'static str,
    content: Bytes,
    /// The content, compressed with gzip.
    compressed: Option<Bytes>,
}

impl Asset {
    fn new(name: &str, extension: &str, content_type: &'static str, source: &'static str) -> Self {
        let content = Bytes::from(shrink(source));
        let hash = Hasher::digest(Algorithm::Sha256, &content).hex();
        Asset {
            path: format!("{name}-{}.{extension}", &hash[..16]),
            content_type,
            compressed: compress(&content),
            content,
        }
    }

    /// Returns the content for a client, and true if it is compressed.
    fn for_client(&self, headers: &HeaderMap) -> (Bytes, bool) {
        match &self.compressed {
            Some(compressed) if accepts_gzip(headers) => (compressed.clone(), true),
            Some(_) | None => (self.content.clone(), false),
        }
    }
}

/// Removes block comments, comment lines and indentation.
fn shrink(source: &str) -> String {
    let mut short = String::with_capacity(source.len());
    let mut is_comment = false;
    for line in source.lines().map(str::trim) {
        is_comment |= line.starts_with("/*");
        if !is_comment && !line.is_empty() && !line.starts_with("//") {
            short.push_str(line);
            short.push('\n');
        }
        is_comment &= !line.ends_with("*/");
    }
    short
}

fn compress(content: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |weight: &str| weight.trim_start_matches("q=").parse() == Ok(0.0_f32);
        is_gzip && !parts.any(refused)
    })
}

static ASSETS: LazyLock<[Asset; 5]> = LazyLock::new(|| {
    [
        Asset::new("style", "css", "text/css; charset=utf-8", include_str!("style.css")),
        Asset::new("script", "js", "text/javascript; charset=utf-8", include_str!("script.js")),
        Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")),
        Asset::new("icons", "svg", "image/svg+xml", include_str!("icons.svg")),
        Asset::new("upload", "js", "text/javascript; charset=utf-8", include_str!("upload.js")),
    ]
});

/// Returns the paths of the files of every page below `/assets/`: style sheet, script, logo and icons.
pub(super) fn paths() -> [&'static str; 4] {
    let [style, script, icon, icons, _] = &*ASSETS;
    [&style.path, &script.path, &icon.path, &icons.path]
}

/// Returns the path of the script of the page that uploads archives.
pub(super) fn upload_script() -> &'static str {
    &ASSETS[4].path
}

/// Returns the length of the files of a page together as browsers load them, in bytes: all but the script for uploads, which
/// only one small page has.
#[cfg(test)]
pub(super) fn total_length() -> usize {
    ASSETS[..4].iter().map(|asset| asset.compressed.as_ref().unwrap().len()).sum()
}

/// Serves a file; 404 for one of another release.
pub(super) fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == name) else {
        return AdminError::NotFound("There is no such file.".into()).plain();
    };
    let (content, is_compressed) = asset.for_client(headers);
    let mut response = with_bytes(StatusCode::OK, asset.content_type, content);
    let headers = response.headers_mut();
    if is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An image is a document of its own when it is opened by its address.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_indentation_are_not_served() {
        let source =
            "/*\nlong\n*/\n/* short */\na {\n  color: red; /* why */\n}\n\n// note\nvar a = \"//x\";";
        assert_eq!(shrink(source), "a {\ncolor: red; /* why */\n}\nvar a = \"//x\";\n");
    }

    #[test]
    fn only_clients_that_accept_gzip_get_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(accepts("gzip") && accepts("br, GZIP;q=0.5") && !accepts("br") && !accepts("gzip;q=0"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn every_icon_of_the_templates_is_drawn() {
        let sprite = include_str!("icons.svg");
        let mut drawn = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/daemon/admin")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "html") {
                continue;
            }
            let template = std::fs::read_to_string(&path).unwrap();
            for rest in template.split("frame.draw(\"").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(sprite.contains(&format!("<symbol id=\"{name}\"")), "{name} in {}", path.display());
                drawn += 1;
            }
        }
        assert!(drawn > 8, "{drawn} icons were found");
    }
}
