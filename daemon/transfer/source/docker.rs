//! Archives of `docker save` before engine 25, of podman's `docker-archive`, and bundles of k3s and RKE2.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::catalog::{Catalog, Config, ContentKey, ImageEntry, MadeImage, Refusal, Root};
use super::error::SourceError;
use super::listing::Capped;
use super::member::{MemberName, Role};
use super::name::ImageName;
use super::{Format, Members, limits};
use crate::oci::Digest;

/// An archive with `manifest.json`, configs and layers, at the top or in one folder below it.
pub struct DockerArchive;

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Capped<String>>,
    #[serde(default)]
    layers: Option<Capped<String>>,
}

impl Format for DockerArchive {
    fn name(&self) -> &'static str {
        "Docker archive"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        let (_, [last]) = name.split_end()?;
        let depth = name.as_str().split('/').count();
        match last {
            "layer.tar" if depth <= 3 => return Some(Role::Layer),
            "json" | "VERSION" if depth <= 3 => return Some(Role::Ignored),
            _ if depth > 2 => return None,
            _ => {}
        }
        let stem = last.strip_prefix("sha256:").unwrap_or(last);
        let (stem, end) = stem.split_once('.').unwrap_or((stem, ""));
        let digest: Option<Digest> = format!("sha256:{stem}").parse().ok();
        match (digest, end) {
            (Some(digest), "json") => Some(Role::Blob(digest)),
            (Some(digest), "") if last.starts_with("sha256:") => Some(Role::Blob(digest)),
            (Some(_), "tar" | "tar.gz" | "tgz" | "tar.zst") => Some(Role::Layer),
            // Some programs give the config a name of their own.
            (None, "json") => Some(Role::Document),
            _ => None,
        }
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let documents = members.documents();
        let tops = documents.iter().filter_map(|name| name.strip_suffix("manifest.json"));
        let Some(top) = tops.filter(|top| top.is_empty() || top.ends_with('/')).min_by_key(|top| top.len())
        else {
            return Ok(None);
        };
        let images = images(members, top)?;
        Ok(images.map(|catalog| Catalog { format: self.name(), ..catalog }))
    }
}

/// Returns the images of `manifest.json`; `None` if it is no list of images.
///
/// # Errors
/// Fails if it is not JSON.
pub fn images(members: &dyn Members, top: &str) -> Result<Option<Catalog>, SourceError> {
    let place = format!("{top}manifest.json");
    let Some(text) = members.document(&place) else { return Ok(None) };
    // A directory of skopeo has a manifest under this name.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(None);
    }
    let list: Capped<&RawValue> =
        serde_json::from_slice(&text).map_err(|error| SourceError::json(place, &error))?;
    let mut reading = Reading::new(members, top);
    for text in &list.items {
        if reading.catalog.is_full() {
            break;
        }
        match serde_json::from_str(text.get()) {
            Ok(listed) => reading.add(listed),
            Err(error) => {
                let reason = error.to_string();
                reading.catalog.refuse(Refusal { name: config_name(text.get()), reason });
            }
        }
    }
    if list.is_cut {
        let reason = format!("manifest.json lists more than {} images, which is the limit", limits::LISTED);
        reading.catalog.refuse(Refusal { name: "(further images)".into(), reason });
    }
    Ok(Some(reading.catalog))
}

/// Returns the config of an element that is not valid, for its refusal.
fn config_name(text: &str) -> String {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "Config")]
        config: String,
    }
    let named = serde_json::from_str::<Named>(text);
    named.map_or_else(|_| "(an image without a config)".to_owned(), |named| named.config)
}

/// The identity of an image: the config by its digest or by its path, and the layers.
type ImageKey = (Option<Digest>, String, Arc<[ContentKey]>);

/// The state of reading `manifest.json`.
struct Reading<'a> {
    members: &'a dyn Members,
    top: &'a str,
    catalog: Catalog,
    /// The number of each image.
    known: BTreeMap<ImageKey, usize>,
    /// Configs that are documents, by their paths. Images share them.
    texts: BTreeMap<String, Arc<[u8]>>,
    /// Names and layers that may still be added.
    rest: usize,
}

impl<'a> Reading<'a> {
    fn new(members: &'a dyn Members, top: &'a str) -> Self {
        Reading {
            members,
            top,
            catalog: Catalog::within(members.bounds()),
            known: BTreeMap::new(),
            texts: BTreeMap::new(),
            rest: members.bounds().names(),
        }
    }

    fn add(&mut self, listed: Listed) {
        let mut names = Vec::new();
        for text in listed.repo_tags.unwrap_or_default().items {
            match ImageName::parse(&text) {
                Ok(name) => names.push(name),
                Err(error) => self.catalog.refuse(Refusal { name: text, reason: error.to_string() }),
            }
        }
        let shown = names.first().map_or_else(|| listed.config.clone(), ToString::to_string);
        let layers = listed.layers.unwrap_or_default().items;
        if let Err(reason) = self.add_image(names, &listed.config, &layers) {
            self.catalog.refuse(Refusal { name: shown, reason });
        }
    }

    fn add_image(&mut self, names: Vec<ImageName>, config: &str, listed: &[String]) -> Result<(), String> {
        if listed.len() > limits::LAYERS {
            return Err(format!("it has {} layers; the limit is {}", listed.len(), limits::LAYERS));
        }
        self.rest = self.rest.checked_sub(names.len() + listed.len()).ok_or_else(|| {
            let limit = self.members.bounds().names();
            format!("the archive has more than {limit} names and layers, which is the limit")
        })?;
        let path = format!("{}{config}", self.top);
        let config = self.config(&path)?;
        let mut layers = Vec::with_capacity(listed.len());
        for layer in listed {
            let key = self.members.content(&format!("{}{layer}", self.top));
            layers.push(key.ok_or_else(|| format!("its layer {layer} is missing in the archive"))?);
        }
        let layers: Arc<[ContentKey]> = layers.into();
        let key = match &config {
            Config::Blob(digest) => (Some(digest.clone()), String::new(), layers.clone()),
            Config::Text(_) => (None, path, layers.clone()),
        };
        if let Some(entry) = self.known.get(&key).and_then(|at| self.catalog.images.get_mut(*at)) {
            entry.names.extend(names);
        } else {
            self.known.insert(key, self.catalog.images.len());
            let root = Root::Made(MadeImage { config, layers });
            self.catalog.add(ImageEntry { names, root, pushed: None });
        }
        Ok(())
    }

    /// Returns the config of an image by its path.
    fn config(&mut self, path: &str) -> Result<Config, String> {
        if let Some(ContentKey::Digest(digest)) = self.members.content(path) {
            return Ok(Config::Blob(digest));
        }
        if let Some(text) = self.texts.get(path) {
            return Ok(Config::Text(text.clone()));
        }
        let text = self.members.document(path);
        let text = text.ok_or_else(|| format!("its config {path} is missing in the archive"))?;
        if text.len() as u64 > limits::MANIFEST {
            return Err(format!("its config {path} has {} bytes; the limit is 4 MiB", text.len()));
        }
        let text: Arc<[u8]> = Arc::from(&*text);
        self.texts.insert(path.to_owned(), text.clone());
        Ok(Config::Text(text))
    }
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
