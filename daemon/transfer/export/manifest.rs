//! The parts of a manifest that an export needs, in their order.

use super::super::links::{Child, Link, Links};
use crate::oci::Digest;

/// The content that a manifest lists, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The config; `None` for an index.
    pub(super) config: Option<Digest>,
    /// The layers, or the files of an artifact.
    pub(super) layers: Vec<Layer>,
    /// The manifests of an index.
    pub(super) children: Vec<Child>,
    /// The subject of a referrer.
    pub(super) subject: Option<Digest>,
    /// True if containers are made of it.
    pub(super) is_image: bool,
    /// The artifact type.
    pub(super) artifact_type: Option<String>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    /// True if its bytes are not expected in a registry.
    pub(super) is_foreign: bool,
}

impl Shape {
    /// Parses a manifest that the registry has accepted.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let links = Links::parse(bytes).map_err(|error| error.to_string())?;
        let artifact_type = links.artifact_type.clone().filter(|text| !text.is_empty());
        let is_image = links.has_image_config() && artifact_type.is_none();
        let config_type = links.config.as_ref().and_then(|config| config.media_type.clone());
        Ok(Shape {
            artifact_type: artifact_type.or(config_type.filter(|_| !is_image)),
            is_image,
            layers: links.files().map(Layer::from).collect(),
            children: links.children(),
            config: links.config.map(|config| config.digest),
            subject: links.subject.map(|subject| subject.digest),
        })
    }

    /// Returns the blobs: the config, then the layers.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Layer> {
        let config = self.config.clone().map(|digest| Layer { digest, is_foreign: false });
        config.into_iter().chain(self.layers.iter().cloned())
    }
}

impl From<&Link> for Layer {
    fn from(link: &Link) -> Self {
        Layer { digest: link.digest.clone(), is_foreign: link.is_foreign() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[test]
    fn image_keeps_the_order_of_its_layers() {
        let (a, b, c) = (digest('a'), digest('b'), digest('c'));
        let text = format!(
            r#"{{"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{c}"}},
                "layers":[{{"digest":"{b}"}},{{"digest":"{a}","urls":["http://x"]}}]}}"#
        );
        let shape = Shape::parse(text.as_bytes()).unwrap();
        assert!(shape.is_image && shape.artifact_type.is_none());
        let blobs: Vec<_> = shape.blobs().map(|one| (one.digest.to_string(), one.is_foreign)).collect();
        assert_eq!(blobs, [(c, false), (b, false), (a, true)]);
    }

    #[test]
    fn attestation_of_an_index_is_attached_to_its_image() {
        let (a, b) = (digest('a'), digest('b'));
        let text = format!(
            r#"{{"manifests":[{{"digest":"{a}","platform":{{"os":"linux","architecture":"arm64"}}}},
               {{"digest":"{b}","platform":{{"os":"unknown","architecture":"unknown"}},
                 "annotations":{{"vnd.docker.reference.digest":"{a}"}}}}]}}"#
        );
        let children = Shape::parse(text.as_bytes()).unwrap().children;
        assert_eq!(children[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
        assert_eq!((&children[1].platform, &children[1].attached_to), (&None, &Some(a.parse().unwrap())));
    }
}
