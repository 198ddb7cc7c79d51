//! OCI layouts: directories, `oci-archive`, podman, buildah, containerd, and `docker save` since engine 25.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::catalog::{Catalog, ExportFile, ImageEntry, Refusal, Root};
use super::docker;
use super::error::SourceError;
use super::index_descriptor::{Index, IndexDescriptor};
use super::member::{MemberName, Role};
use super::name::ImageName;
use super::{Format, Members, limits};
use crate::oci::Digest;
use crate::oci::annotations::PUSHED;
use crate::transfer::content_list::{CONTENT_LIST, ContentList, SIGNATURE};

/// Files that a layout has besides its blobs.
const DOCUMENTS: [&str; 4] = ["index.json", "oci-layout", "manifest.json", "repositories"];

/// An OCI layout, at the top or in one folder below it.
pub struct OciLayout;

impl Format for OciLayout {
    fn name(&self) -> &'static str {
        "OCI layout"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        if let Some((top, digest)) = name.layout_blob() {
            return (!top.contains('/')).then_some(Role::Blob(digest));
        }
        if let Some((top, ["holdfast", "export.json" | "export.json.sig"])) = name.split_end() {
            return (!top.contains('/')).then_some(Role::Document);
        }
        let (top, [last]) = name.split_end()?;
        (!top.contains('/') && DOCUMENTS.contains(&last)).then_some(Role::Document)
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let Some(top) = top_of(members) else { return Ok(None) };
        let text = members.document(&format!("{top}index.json")).unwrap_or_default();
        let index: Index<'_> = serde_json::from_slice(&text)
            .map_err(|error| SourceError::json(format!("{top}index.json"), &error))?;
        let mut reading = Reading::new(members);
        reading.catalog.format = self.name();
        reading.index(&index, 0)?;
        let mut catalog = reading.catalog;
        catalog.export = export_file(members, &top)?;
        // The index of Holdfast's own exports names all images.
        if catalog.export.is_none() && members.document(&format!("{top}manifest.json")).is_some() {
            add_docker_images(members, &top, &mut catalog)?;
        }
        Ok(Some(catalog))
    }
}

/// Returns the folder of the layout with its slash, empty at the top.
fn top_of(members: &dyn Members) -> Option<String> {
    let documents = members.documents();
    let tops = documents.iter().filter_map(|name| name.strip_suffix("index.json"));
    let mut tops: Vec<&str> = tops.filter(|top| top.is_empty() || top.ends_with('/')).collect();
    tops.sort_by_key(|top| top.len());
    tops.first().map(|top| (*top).to_owned())
}

struct Reading<'a> {
    members: &'a mut dyn Members,
    catalog: Catalog,
    /// The entry of each root.
    roots: BTreeMap<Digest, usize>,
    /// The names of the entries.
    names: BTreeSet<(usize, ImageName)>,
    /// The nested indexes that have been read, and whether images in them have names.
    nested: BTreeMap<Digest, bool>,
}

impl<'a> Reading<'a> {
    fn new(members: &'a mut dyn Members) -> Self {
        Reading {
            catalog: Catalog::within(members.bounds()),
            members,
            roots: BTreeMap::new(),
            names: BTreeSet::new(),
            nested: BTreeMap::new(),
        }
    }

    fn index(&mut self, index: &Index<'_>, depth: usize) -> Result<(), SourceError> {
        for text in &index.manifests.items {
            if self.catalog.is_full() {
                return Ok(());
            }
            match serde_json::from_str(text.get()) {
                Ok(descriptor) => self.entry(&descriptor, depth)?,
                Err(error) => {
                    let reason = error.to_string();
                    self.catalog.refuse(Refusal { name: digest_text(text.get()), reason });
                }
            }
        }
        if index.manifests.is_cut {
            let reason = format!("an index lists more than {} manifests, which is the limit", limits::LISTED);
            self.catalog.refuse(Refusal { name: "(further images)".into(), reason });
        }
        Ok(())
    }

    fn entry(&mut self, descriptor: &IndexDescriptor, depth: usize) -> Result<(), SourceError> {
        let name = match descriptor.name() {
            Ok(name) => name,
            Err(refusal) => {
                self.catalog.refuse(refusal);
                return Ok(());
            }
        };
        if name.is_none() && descriptor.parsed_type().is_some_and(|kind| kind.is_index()) {
            // Some programs write the names of images only into an index within the index.
            match self.nested.get(&descriptor.digest) {
                Some(true) => return Ok(()),
                None if depth < limits::NESTING => {
                    let inner = self.named_within(descriptor)?;
                    self.nested.insert(descriptor.digest.clone(), inner.is_some());
                    if let Some(inner) = inner {
                        // It was parsed before.
                        let Ok(inner) = serde_json::from_slice(&inner) else { return Ok(()) };
                        return self.index(&inner, depth + 1);
                    }
                }
                Some(false) | None => {}
            }
        }
        let pushed = descriptor.annotation(PUSHED).and_then(|text| text.parse().ok());
        if let Some(shown) = name.as_ref().filter(|_| self.names.len() >= self.members.bounds().names()) {
            let limit = self.members.bounds().names();
            let reason = format!("the medium has more than {limit} names, which is the limit");
            self.catalog.refuse(Refusal { name: shown.to_string(), reason });
            return Ok(());
        }
        // Tags of one image have one entry each, and each its time.
        let known = self.roots.get(&descriptor.digest).copied();
        let known = known.and_then(|at| Some((at, self.catalog.images.get_mut(at)?)));
        if let Some((at, entry)) = known.filter(|(_, entry)| entry.pushed == pushed) {
            entry.names.extend(name.filter(|name| self.names.insert((at, name.clone()))));
            return Ok(());
        }
        let number = self.catalog.images.len();
        self.roots.insert(descriptor.digest.clone(), number);
        self.names.extend(name.clone().map(|name| (number, name)));
        let root = Root::Manifest { digest: descriptor.digest.clone(), media_type: descriptor.parsed_type() };
        self.catalog.add(ImageEntry { names: name.into_iter().collect(), root, pushed });
        Ok(())
    }

    /// Returns the text of the index of a descriptor if images in it have names.
    fn named_within(&mut self, descriptor: &IndexDescriptor) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(text) = readable(self.members, &descriptor.digest)? else { return Ok(None) };
        let Ok(index) = serde_json::from_slice::<Index<'_>>(&text) else { return Ok(None) };
        let is_named = |text: &RawValue| {
            let inner = serde_json::from_str::<IndexDescriptor>(text.get());
            inner.is_ok_and(|inner| !matches!(inner.name(), Ok(None)))
        };
        let has_names = index.manifests.items.iter().any(|text| is_named(text));
        Ok(has_names.then_some(text))
    }
}

/// Reads a manifest. The engine reports one that cannot be read; it must not hide the other images.
fn readable(members: &mut dyn Members, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
    match members.read(digest) {
        Err(SourceError::Stopped) => Err(SourceError::Stopped),
        read => Ok(read.ok().flatten()),
    }
}

/// Returns the digest of a descriptor that is not valid, for its refusal.
fn digest_text(text: &str) -> String {
    #[derive(Deserialize)]
    struct Named {
        digest: String,
    }
    let named = serde_json::from_str::<Named>(text);
    named.map_or_else(|_| "(a descriptor without a digest)".to_owned(), |named| named.digest)
}

fn export_file(members: &dyn Members, top: &str) -> Result<Option<ExportFile>, SourceError> {
    let Some(text) = members.document(&format!("{top}{CONTENT_LIST}")) else { return Ok(None) };
    // The error names the file.
    let list = ContentList::parse(&text).map_err(|error| SourceError::invalid("", error))?;
    let signature = members.document(&format!("{top}{SIGNATURE}"));
    Ok(Some(ExportFile {
        content: String::from_utf8_lossy(&text).into_owned(),
        signature: signature.and_then(|text| String::from_utf8(text.into()).ok()),
        content_digests: list.digests().cloned().collect(),
        registry: list.from.registry,
    }))
}

/// Adds the images of `manifest.json` that `index.json` does not have: untagged ones of `docker save`.
fn add_docker_images(members: &mut dyn Members, top: &str, catalog: &mut Catalog) -> Result<(), SourceError> {
    let Some(images) = docker::images(members, top)? else { return Ok(()) };
    let mut roots = Vec::new();
    for entry in &catalog.images {
        match &entry.root {
            Root::Manifest { digest, .. } => roots.push(digest.clone()),
            Root::Made(_) => {}
        }
    }
    let configs = configs_of(members, roots)?;
    for image in images.images {
        let is_known = match &image.root {
            Root::Made(made) => match &made.config {
                super::catalog::Config::Blob(config) => configs.contains(config),
                super::catalog::Config::Text(_) => false,
            },
            Root::Manifest { .. } => true,
        };
        if !is_known {
            catalog.add(image);
        }
    }
    for refusal in images.refused {
        catalog.refuse(refusal);
    }
    Ok(())
}

/// Returns the configs of all manifests below the roots.
fn configs_of(members: &mut dyn Members, roots: Vec<Digest>) -> Result<BTreeSet<Digest>, SourceError> {
    #[derive(Deserialize)]
    struct Links {
        config: Option<IndexDescriptor>,
        #[serde(default)]
        manifests: Vec<IndexDescriptor>,
    }
    let (mut configs, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), roots);
    open.retain(|digest| seen.insert(digest.clone()) && members.has(digest));
    while let Some(digest) = open.pop() {
        let Some(text) = readable(members, &digest)? else { continue };
        let Ok(links) = serde_json::from_slice::<Links>(&text) else { continue };
        configs.extend(links.config.map(|config| config.digest));
        for child in links.manifests {
            // A member for each, so that the list cannot outgrow the medium.
            if members.has(&child.digest) && seen.insert(child.digest.clone()) {
                open.push(child.digest);
            }
        }
    }
    Ok(configs)
}

#[cfg(test)]
#[path = "oci_layout_tests.rs"]
mod tests;
