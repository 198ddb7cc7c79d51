//! Data directories of registry:2, also in an archive, as oc-mirror v2 writes it, at any depth of the medium.

use std::collections::{BTreeMap, BTreeSet};

use super::layout_index;
use crate::oci::{Digest, ManifestError, MediaType, RepositoryName};
use crate::transfer::registry2::{Link, ROOT, RepositoryLinks, blob_at};
use crate::transfer::source::{
    Catalog, Format, ImageEntry, ImageName, MemberName, Members, Refusal, Role, Root, SourceError, limits,
};

/// The format of registry:2's data directories.
pub struct RegistryTree;

/// The facts of a manifest.
struct Facts {
    /// The media type, or the reason why it is refused; `None` if the engine reports its fault.
    media_type: Option<Result<MediaType, String>>,
    children: BTreeSet<Digest>,
}

/// The facts of the manifests of all repositories. Each manifest is read once.
#[derive(Default)]
struct ManifestFacts {
    known: BTreeMap<Digest, Facts>,
    /// The number of children that are remembered.
    children: usize,
}

impl ManifestFacts {
    fn read(&mut self, digest: &Digest, members: &mut dyn Members) -> Result<(), SourceError> {
        if self.known.contains_key(digest) {
            return Ok(());
        }
        let mut facts = Facts { media_type: None, children: BTreeSet::new() };
        // The engine reports a manifest that is missing or malformed; one of schema 1 would look malformed there.
        match members.read(digest) {
            Ok(None) => {}
            Ok(Some(text)) => match layout_index::manifest(&text, None) {
                Ok(manifest) => {
                    let rest = limits::CHILDREN.saturating_sub(self.children);
                    facts.children = layout_index::children(&manifest).take(rest).cloned().collect();
                    facts.media_type = Some(Ok(manifest.media_type().clone()));
                }
                Err(ManifestError::Schema1) => {
                    let reason = "the manifest is one of schema 1, which is not supported".to_owned();
                    facts.media_type = Some(Err(reason));
                }
                Err(_) => {}
            },
            Err(SourceError::Stopped) => return Err(SourceError::Stopped),
            Err(error) => facts.media_type = Some(Err(error.to_string())),
        }
        self.children += facts.children.len();
        self.known.insert(digest.clone(), facts);
        Ok(())
    }
}

impl Format for RegistryTree {
    fn name(&self) -> &'static str {
        "registry:2"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        let below = below_root(name.as_str())?;
        if Link::parse(below).is_some() {
            return Some(Role::Document);
        }
        Some(blob_at(below).map_or(Role::Ignored, Role::Blob))
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let mut catalog = Catalog { format: self.name(), ..Catalog::within(members.bounds()) };
        let mut repositories: BTreeMap<RepositoryName, RepositoryLinks> = BTreeMap::new();
        for document in members.documents() {
            let Some(link) = below_root(&document).and_then(Link::parse) else { continue };
            let text = members.document(&document).unwrap_or_default();
            let added = match link.repository().parse() {
                Ok(repository) => repositories.entry(repository).or_default().add(link, &text, None),
                Err(error) => Err(format!("{error}")),
            };
            if let Err(reason) = added {
                catalog.refuse(Refusal { name: link.to_string(), reason });
            }
        }
        let mut facts = ManifestFacts::default();
        for (name, links) in repositories {
            if catalog.is_full() {
                break;
            }
            list(&name, links, members, &mut facts, &mut catalog)?;
        }
        let is_empty = catalog.images.is_empty() && catalog.refused.is_empty();
        Ok((!is_empty).then_some(catalog))
    }
}

/// Returns true for a member of a data directory of registry:2.
pub fn is_of_registry_tree(name: &str) -> bool {
    below_root(name).is_some()
}

/// Returns the part of a name below the directory of registry:2.
fn below_root(name: &str) -> Option<&str> {
    if let Some(below) = name.strip_prefix(ROOT) {
        return Some(below);
    }
    name.match_indices(ROOT)
        .find(|(at, _)| name[..*at].ends_with('/'))
        .map(|(at, _)| &name[at + ROOT.len()..])
}

/// Lists the images of a repository: its tags, and the manifests that neither a tag nor a listed index names.
fn list(
    name: &RepositoryName,
    links: RepositoryLinks,
    members: &mut dyn Members,
    facts: &mut ManifestFacts,
    catalog: &mut Catalog,
) -> Result<(), SourceError> {
    let RepositoryLinks { tags, revisions } = links;
    let tagged: BTreeSet<&Digest> = tags.values().map(|(digest, _)| digest).collect();
    let untagged: BTreeSet<&Digest> = revisions.iter().filter(|digest| !tagged.contains(digest)).collect();
    let mut children = BTreeSet::new();
    for digest in tagged.iter().chain(&untagged) {
        facts.read(digest, members)?;
        let Some(one) = facts.known.get(*digest) else { continue };
        // The shorter list is walked, so that many repositories with one large index stay cheap.
        if one.children.len() < untagged.len() {
            children.extend(one.children.iter().filter_map(|child| untagged.get(child).copied()));
        } else {
            children.extend(untagged.iter().filter(|child| one.children.contains(**child)));
        }
    }
    let base = ImageName { repository: Some(name.clone()), ..ImageName::default() };
    let named =
        tags.iter().map(|(tag, (digest, _))| (ImageName { tag: Some(tag.clone()), ..base.clone() }, digest));
    let others = untagged.iter().copied().filter(|digest| !children.contains(digest));
    let others = others.map(|digest| (ImageName { digest: Some(digest.clone()), ..base.clone() }, digest));
    for (name, digest) in named.chain(others) {
        let media_type = facts.known.get(digest).and_then(|one| one.media_type.as_ref());
        add(name, digest, media_type, catalog);
    }
    Ok(())
}

fn add(
    name: ImageName,
    digest: &Digest,
    media_type: Option<&Result<MediaType, String>>,
    catalog: &mut Catalog,
) {
    match media_type {
        Some(Err(reason)) => {
            catalog.refuse(Refusal { name: name.to_string(), reason: reason.clone() });
        }
        known => catalog.add(ImageEntry {
            names: vec![name],
            root: Root::Manifest {
                digest: digest.clone(),
                media_type: known.and_then(|known| known.as_ref().ok().cloned()),
            },
            pushed: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_members::{TestMembers, digest, lines, refusals};
    use super::*;

    /// Adds a blob; returns its digest.
    fn add_blob(members: &mut TestMembers, top: &str, content: &[u8]) -> Digest {
        let digest = digest(content);
        let hex = digest.hex();
        let name = format!("{top}docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        assert_eq!(members.add(&RegistryTree, &name, content), Some(Role::Blob(digest.clone())));
        digest
    }

    fn add_link(members: &mut TestMembers, path: &str, text: &str) {
        let name = format!("docker/registry/v2/repositories/{path}/link");
        assert_eq!(members.add(&RegistryTree, &name, text.as_bytes()), Some(Role::Document));
    }

    fn add_manifest(
        members: &mut TestMembers,
        repository: &str,
        tag: Option<&str>,
        content: &[u8],
    ) -> Digest {
        let digest = add_blob(members, "", content);
        let revision = format!("{repository}/_manifests/revisions/sha256/{}", digest.hex());
        add_link(members, &revision, &digest.to_string());
        if let Some(tag) = tag {
            add_link(members, &format!("{repository}/_manifests/tags/{tag}/current"), &digest.to_string());
        }
        digest
    }

    #[test]
    fn tags_and_untagged_manifests_are_listed() {
        let mut members = TestMembers::default();
        let child = add_manifest(&mut members, "team/app", None, br#"{"schemaVersion":2,"layers":[]}"#);
        let alone = add_manifest(&mut members, "team/app", None, br#"{"schemaVersion":2,"layers":[ ]}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{child}","size":31}}]}}"#);
        add_manifest(&mut members, "team/app", Some("1.4"), index.as_bytes());
        add_manifest(&mut members, "team/app", Some("latest"), index.as_bytes());
        let catalog = members.catalog(&RegistryTree);
        assert_eq!(lines(&catalog), ["team/app:1.4", "team/app:latest", &format!("team/app@{alone}")]);
        let Root::Manifest { media_type: Some(media_type), .. } = &catalog.images[0].root else {
            panic!("{catalog:?}");
        };
        assert!(media_type.is_index());
    }

    #[test]
    fn a_tree_may_stand_anywhere_in_the_medium() {
        let mut members = TestMembers::default();
        add_blob(&mut members, "mirror/cache/", b"x");
        let role = |text: &str| RegistryTree.role(&MemberName::parse(text.as_bytes()).unwrap());
        assert_eq!(role("nodocker/registry/v2/blobs"), None);
        for ignored in ["docker/registry/v2/repositories/a/_layers/x/link", "a/docker/registry/v2/x"] {
            assert_eq!(role(ignored), Some(Role::Ignored), "{ignored}");
        }
        let hex = "a".repeat(64);
        assert_eq!(role(&format!("docker/registry/v2/blobs/sha256/bb/{hex}/data")), Some(Role::Ignored));
        assert_eq!(RegistryTree.catalog(&mut members).unwrap(), None);
    }

    #[test]
    fn broken_links_and_schema_1_are_refused_with_a_line_each() {
        let mut members = TestMembers::default();
        add_manifest(&mut members, "a", Some("old"), br#"{"schemaVersion":1}"#);
        add_manifest(&mut members, "a", Some("good"), br#"{"schemaVersion":2,"layers":[]}"#);
        add_link(&mut members, "a/_manifests/tags/empty/current", "");
        add_link(&mut members, "a/_manifests/tags/-bad/current", &digest(b"x").to_string());
        add_link(&mut members, "Bad/_manifests/tags/t/current", &digest(b"x").to_string());
        add_link(&mut members, "a/_manifests/tags/gone/current", &digest(b"gone").to_string());
        let wrong = format!("a/_manifests/revisions/sha256/{}", "b".repeat(64));
        add_link(&mut members, &wrong, &digest(b"x").to_string());
        let catalog = members.catalog(&RegistryTree);
        // The engine looks for the manifest of a:gone in the store.
        assert_eq!(lines(&catalog), ["a:gone", "a:good"]);
        let refusals = refusals(&catalog);
        assert_eq!(refusals.len(), 5, "{refusals:#?}");
        assert!(refusals.contains(&"a:empty: the link file is empty; push the image again".to_owned()));
        assert!(refusals.iter().any(|line| line.starts_with("a:old: ") && line.contains("schema 1")));
    }

    proptest! {
        #[test]
        fn never_panics(
            name in "(docker/registry/v2/(repositories|blobs)/)?\\PC*",
            link in prop::collection::vec(any::<u8>(), 0..100),
            manifest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut members = TestMembers::default();
            members.add(&RegistryTree, &name, &link);
            let link = String::from_utf8_lossy(&link);
            add_link(&mut members, "a/_manifests/tags/x/current", &link);
            add_manifest(&mut members, "a", Some("t"), &manifest);
            let _ = RegistryTree.catalog(&mut members);
        }
    }
}
