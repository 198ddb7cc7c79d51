//! The description of a repository: the annotations of its newest image, or the labels of that image.

use super::error::AdminError;
use super::limits::{NAME, TEXT, shorten};
use super::request::AdminRequest;
use crate::oci::{Digest, ImageConfig, ManifestView, Reference, RepositoryName};
use crate::store::ManifestEntry;

/// The longest address that becomes a link, in bytes of HTML.
const LONGEST_ADDRESS: usize = 200;
/// The longest description.
const DESCRIPTION: usize = 2 * TEXT;

/// The description of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) licences: Option<String>,
    /// Addresses with `http` or `https`.
    pub(super) source: Option<String>,
    pub(super) documentation: Option<String>,
}

impl About {
    /// Takes the values that `get` returns for the keys of the image specification.
    fn of<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Self {
        let value = |key: &str| {
            get(&format!("org.opencontainers.image.{key}")).map(str::trim).filter(|text| !text.is_empty())
        };
        About {
            title: value("title").map(|text| shorten(text, NAME)),
            description: value("description").map(|text| shorten(text, DESCRIPTION)),
            licences: value("licenses").map(|text| shorten(text, NAME)),
            source: value("source").or_else(|| value("url")).and_then(web_address),
            documentation: value("documentation").and_then(web_address),
        }
    }

    /// Returns true if there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        *self == About::default()
    }

    fn or(self, other: About) -> About {
        About {
            title: self.title.or(other.title),
            description: self.description.or(other.description),
            licences: self.licences.or(other.licences),
            source: self.source.or(other.source),
            documentation: self.documentation.or(other.documentation),
        }
    }
}

/// Returns an address if it is one of the web. Others, such as `javascript:`, never become links.
fn web_address(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let is_valid = shorten(text, LONGEST_ADDRESS) == text
        && rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'\\'));
    is_valid.then(|| text.to_owned())
}

/// Reads the description from an image, or from the first image of an index. What cannot be read is left out.
pub(super) async fn about(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    entry: &ManifestEntry,
) -> Result<About, AdminError> {
    let store = &request.admin.store;
    let _permit = store.acquire_read_permit().await?;
    let mut contents = view(request, entry).await;
    let mut about = About::of(|key| contents.annotations.get(key));
    if let Some(first) = contents.manifests.items.iter().find(|part| part.reference_type().is_none())
        && let Ok(child) = store.manifest(name, &Reference::Digest(first.digest.clone()))
    {
        contents = view(request, &child).await;
        about = about.or(About::of(|key| contents.annotations.get(key)));
    }
    let config: Option<Digest> =
        contents.config.filter(|_| about.description.is_none()).map(|part| part.digest);
    if let Some(config) = config {
        let bytes = store.read_config(name, &config).await.unwrap_or_default().unwrap_or_default();
        let config = ImageConfig::parse(&bytes);
        let labels = config.labels().0;
        let label = |key: &str| labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        about = about.or(About::of(label));
    }
    Ok(about)
}

async fn view(request: &AdminRequest<'_>, entry: &ManifestEntry) -> ManifestView {
    let bytes = request.admin.store.read_manifest_for_page(entry).await;
    ManifestView::parse(&bytes.unwrap_or_default().unwrap_or_default())
}

#[cfg(test)]
impl About {
    /// Returns the longest description.
    pub(super) fn longest(text: &str) -> Self {
        let address = || Some(format!("https://{}", "a".repeat(LONGEST_ADDRESS - 8)));
        About {
            title: Some(shorten(text, NAME)),
            description: Some(shorten(text, DESCRIPTION)),
            licences: Some(shorten(text, NAME)),
            source: address(),
            documentation: address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_become_links() {
        for good in ["https://forge.example/app", "http://[::1]:80/x?y=1&z#a"] {
            assert_eq!(web_address(good).as_deref(), Some(good));
        }
        let long = format!("https://{}", "a".repeat(LONGEST_ADDRESS));
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//x",
            "https://",
            "https:// a",
            "https://a\"b",
            "https://\u{1f980}",
            "HTTPS://a",
            "https:///a",
            &long,
        ] {
            assert_eq!(web_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn annotations_come_before_labels() {
        let of = |pairs: &'static [(&str, &str)]| {
            About::of(move |key| {
                let key = key.strip_prefix("org.opencontainers.image.").unwrap();
                pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
            })
        };
        let about =
            of(&[("title", "One"), ("licenses", " ")]).or(of(&[("title", "Two"), ("licenses", "MIT")]));
        assert_eq!((about.title.as_deref(), about.licences.as_deref()), (Some("One"), Some("MIT")));
        assert!(About::default().is_empty());
    }
}
