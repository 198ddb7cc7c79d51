//! Descriptors in `index.json`, in an index, and in archives in their manner.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::catalog::Refusal;
use super::listing::{Annotations, Capped};
use super::name::ImageName;
use crate::oci::annotations::{BASE_NAME, CONTAINERD_NAME, REF_NAME, REPOSITORY};
use crate::oci::{Digest, MediaType};

/// A descriptor in `index.json` or in an index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexDescriptor {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its media type.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<Annotations>,
}

/// An index, whose descriptors are parsed one by one.
#[derive(Deserialize)]
pub struct Index<'a> {
    /// The descriptors, as parts of the text of the index.
    #[serde(default, borrow)]
    pub manifests: Capped<&'a RawValue>,
}

impl IndexDescriptor {
    /// Returns an annotation that is not empty.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }

    /// Returns the media type.
    pub fn parsed_type(&self) -> Option<MediaType> {
        self.media_type.as_deref().and_then(|text| text.parse().ok())
    }

    /// Refuses the image of this descriptor.
    pub fn refuse(&self, reason: &impl ToString) -> Refusal {
        let name = [CONTAINERD_NAME, BASE_NAME, REF_NAME].into_iter().find_map(|key| self.annotation(key));
        let name = name.map_or_else(|| self.digest.to_string(), str::to_owned);
        Refusal { name, reason: reason.to_string() }
    }

    /// Returns the name in the annotations, `None` without one.
    ///
    /// # Errors
    /// Returns the text of a name that is not valid, and the reason.
    pub fn name(&self) -> Result<Option<ImageName>, Refusal> {
        let tag = self.annotation(REF_NAME);
        let refused = |name: &str, reason: String| Refusal { name: name.to_owned(), reason };
        if let Some(repository) = self.annotation(REPOSITORY) {
            let name = ImageName {
                repository: Some(
                    repository.parse().map_err(|error| refused(repository, format!("{error}")))?,
                ),
                tag: tag.and_then(|tag| tag.parse().ok()),
                ..ImageName::default()
            };
            return Ok(Some(name));
        }
        if let Some(text) = self.annotation(CONTAINERD_NAME).or_else(|| self.annotation(BASE_NAME)) {
            return ImageName::parse(text).map(Some).map_err(|error| refused(text, error.to_string()));
        }
        let Some(text) = tag else { return Ok(None) };
        if let Ok(tag) = text.parse() {
            return Ok(Some(ImageName::of_tag(tag)));
        }
        ImageName::parse(text).map(Some).map_err(|error| refused(text, error.to_string()))
    }
}
