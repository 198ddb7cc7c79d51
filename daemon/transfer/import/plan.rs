//! The plan of an import: which image gets which name. Pure.

use std::collections::BTreeMap;

use super::super::image_set::SourceName;
use super::super::names::{NameRules, TargetName};
use super::super::source::{Catalog, ImageEntry, ImageName, MadeImage, Root};
use super::super::wording::Wording;
use super::report::Row;
use super::signed::{NOT_LISTED, SignedLists};
use crate::oci::{Digest, RepositoryName, Tag};

/// An image with its names in one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The repository.
    pub repository: RepositoryName,
    /// The tags, with the times of their pushes at the registry of origin.
    pub tags: BTreeMap<Tag, Option<u64>>,
    /// The content.
    pub root: Root,
    /// The names on the medium.
    pub sources: Vec<String>,
    /// The names of the tags on the medium.
    pub source_names: BTreeMap<Tag, SourceName>,
    /// The id of the registry that has exported the image.
    pub origin: Option<String>,
}

impl Target {
    /// Returns the names in the registry; one by digest if there is no tag.
    pub fn names(&self, digest: Option<&Digest>) -> Vec<String> {
        let of = |tag: Option<&Tag>| {
            TargetName { repository: self.repository.clone(), tag: tag.cloned() }.display(digest)
        };
        if self.tags.is_empty() {
            vec![of(None)]
        } else {
            self.tags.keys().map(|tag| of(Some(tag))).collect()
        }
    }

    /// Returns the digest of an image that has a manifest.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.root {
            Root::Manifest { digest, .. } => Some(digest),
            Root::Made(_) => None,
        }
    }
}

/// All targets, and the images that cannot have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The targets, in the order of the media.
    pub targets: Vec<Target>,
    /// The images that are refused.
    pub refused: Vec<Row>,
    /// The number of each target.
    index: BTreeMap<(RepositoryName, RootKey), usize>,
    /// Images without a manifest.
    made: Vec<MadeImage>,
}

/// The identity of the content of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RootKey {
    Manifest(Digest),
    Made(usize),
}

/// Makes the plan.
///
/// # Errors
/// Fails if one name is given for several images.
pub fn plan(catalogs: &[Catalog], rules: &NameRules) -> Result<Plan, String> {
    plan_signed(catalogs, rules, None)
}

/// Makes the plan of an import that takes only what the signed lists name.
pub(super) fn plan_signed(
    catalogs: &[Catalog],
    rules: &NameRules,
    signed: Option<&SignedLists>,
) -> Result<Plan, String> {
    let mut plan = Plan::default();
    for (medium, catalog) in catalogs.iter().enumerate() {
        let origin = catalog.export.as_ref().and_then(|export| export.registry.clone());
        let refused = catalog.refused.iter();
        plan.refused.extend(refused.map(|refusal| Row::refused(&refusal.name, None, &refusal.reason)));
        for entry in &catalog.images {
            let is_listed = |name: &ImageName| signed.is_none_or(|lists| lists.names(medium, name, entry));
            plan.add(entry, rules, origin.as_ref(), is_listed);
        }
    }
    if rules.only_name.is_some() {
        let roots = plan.targets.iter().filter(|target| target.root != plan.targets[0].root).count();
        if roots > 0 {
            return Err(rules.wording.one_name_for(roots + 1));
        }
    }
    plan.refuse_conflicts(rules.wording);
    Ok(plan)
}

impl Plan {
    fn add(
        &mut self,
        entry: &ImageEntry,
        rules: &NameRules,
        origin: Option<&String>,
        is_listed: impl Fn(&ImageName) -> bool,
    ) {
        let unnamed = [ImageName::default()];
        let names: &[ImageName] = if entry.names.is_empty() { &unnamed } else { &entry.names };
        let digest = match &entry.root {
            Root::Manifest { digest, .. } => Some(digest.clone()),
            Root::Made(_) => None,
        };
        let root_key = self.root_key(&entry.root);
        for name in names {
            match rules.target(name) {
                Ok(None) => {}
                Err(reason) => {
                    self.refused.push(Row::refused(shown(name, digest.as_ref()), digest.clone(), reason));
                }
                Ok(Some(target)) if !is_listed(name) => {
                    let shown = target.display(digest.as_ref());
                    self.refused.push(Row::refused(shown, digest.clone(), NOT_LISTED));
                }
                Ok(Some(target)) if target.tag.is_none() && digest.is_none() => {
                    let reason = format!("it has no tag in the archive; {}", rules.wording.name_it());
                    self.refused.push(Row::refused(target.repository.as_str(), None, reason));
                }
                Ok(Some(target)) => {
                    let source = shown(name, digest.as_ref());
                    let source_names = target.tag.clone().zip(source_name(name));
                    let tags = target.tag.map(|tag| (tag, entry.pushed));
                    let key = (target.repository.clone(), root_key.clone());
                    let known = self.index.get(&key).and_then(|at| self.targets.get_mut(*at));
                    if let Some(known) = known {
                        known.tags.extend(tags);
                        known.source_names.extend(source_names);
                        known.sources.push(source);
                        continue;
                    }
                    self.index.insert(key, self.targets.len());
                    self.targets.push(Target {
                        repository: target.repository,
                        tags: tags.into_iter().collect(),
                        root: entry.root.clone(),
                        sources: vec![source],
                        source_names: source_names.into_iter().collect(),
                        origin: origin.cloned(),
                    });
                }
            }
        }
    }

    fn root_key(&mut self, root: &Root) -> RootKey {
        match root {
            Root::Manifest { digest, .. } => RootKey::Manifest(digest.clone()),
            Root::Made(made) => {
                // The names of one image follow each other.
                if self.made.last() != Some(made) {
                    self.made.push(made.clone());
                }
                RootKey::Made(self.made.len())
            }
        }
    }

    /// Refuses tags that are given to several images.
    fn refuse_conflicts(&mut self, wording: Wording) {
        let mut uses: BTreeMap<(RepositoryName, Tag), usize> = BTreeMap::new();
        for target in &self.targets {
            for tag in target.tags.keys() {
                *uses.entry((target.repository.clone(), tag.clone())).or_default() += 1;
            }
        }
        let refused = &mut self.refused;
        self.targets.retain_mut(|target| {
            let had_tags = !target.tags.is_empty();
            let (repository, digest) = (target.repository.clone(), target.digest().cloned());
            target.tags.retain(|tag, _| {
                let is_alone = uses.get(&(repository.clone(), tag.clone())) == Some(&1);
                if !is_alone {
                    let name = format!("{repository}:{tag}");
                    refused.push(Row::refused(name, digest.clone(), wording.same_name()));
                }
                is_alone
            });
            !had_tags || !target.tags.is_empty()
        });
    }
}

/// Returns the reason for which the media have nothing to import; `None` if there is an image or a refusal.
pub(super) fn emptiness(plan: &Plan, catalogs: &[Catalog], media: &str, rules: &NameRules) -> Option<String> {
    if !plan.targets.is_empty() || !plan.refused.is_empty() {
        return None;
    }
    if rules.only.is_empty() || catalogs.iter().all(|catalog| catalog.images.is_empty()) {
        return Some(format!("{media} has no images"));
    }
    let wanted: Vec<String> = rules.only.iter().map(|selection| format!("--only {selection}")).collect();
    Some(format!("no image on {media} matches {}; --dry-run shows the names", wanted.join(" or ")))
}

fn source_name(name: &ImageName) -> Option<SourceName> {
    let repository = name.repository.as_ref()?.to_string();
    Some(SourceName { repository, tag: name.tag.as_ref().map(ToString::to_string) })
}

fn shown(name: &ImageName, digest: Option<&Digest>) -> String {
    match (name.repository.is_none() && name.tag.is_none(), digest) {
        (true, Some(digest)) => digest.to_string(),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::names::NamePattern;
    use super::*;

    fn entry(name: &str, fill: char) -> ImageEntry {
        let digest = format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap();
        let names = if name.is_empty() { Vec::new() } else { vec![ImageName::parse(name).unwrap()] };
        ImageEntry { names, root: Root::Manifest { digest, media_type: None }, pushed: None }
    }

    fn planned(images: Vec<ImageEntry>, rules: &NameRules) -> Result<(Vec<String>, Vec<String>), String> {
        let plan = plan(&[Catalog { images, ..Catalog::default() }], rules)?;
        let names = plan.targets.iter().flat_map(|target| target.names(None)).collect();
        Ok((names, plan.refused.into_iter().map(|row| row.name).collect()))
    }

    #[test]
    fn two_images_with_one_name_are_both_refused() {
        let images = vec![
            entry("a:1", 'a'),
            entry("a:1", 'b'),
            entry("docker.io/library/a:2", 'a'),
            entry("a:2", 'a'),
        ];
        let (names, refused) = planned(images, &NameRules::default()).unwrap();
        assert_eq!(names, ["a:2"]);
        assert_eq!(refused, ["a:1", "a:1"]);
    }

    #[test]
    fn one_given_name_needs_one_image() {
        let rules = NameRules { only_name: TargetName::parse("x:1").ok(), ..NameRules::default() };
        assert_eq!(planned(vec![entry("", 'a')], &rules).unwrap().0, ["x:1"]);
        assert!(planned(vec![entry("", 'a'), entry("b:2", 'b')], &rules).is_err());
        let only = vec![NamePattern::parse("b")];
        let chosen = NameRules { only, ..rules };
        let images = vec![entry("a:1", 'a'), entry("b:2", 'b'), entry("c:2", 'c')];
        assert_eq!(planned(images, &chosen).unwrap().0, ["x:1"]);
        let (names, refused) = planned(vec![entry("", 'a')], &NameRules::default()).unwrap();
        assert_eq!((names.len(), refused.len()), (0, 1));
    }
}
