//! Random sequences of changes keep the tables consistent.

use proptest::prelude::*;

use super::tag_index::{check_lists, forget_tag_index};
use super::*;
use crate::oci::ReferenceKind;
use crate::store::index::changes::blob_candidates::SettleCandidates;
use crate::store::index::changes::index_more_tags;
use crate::store::index::changes::name_image::{NameImage, TagOutcome, TagPolicy, WantedTag};
use crate::store::index::changes::push::NewManifest;
use crate::store::index::changes::sweep::{RetireTags, SweepBlobs, SweepManifests, UnlinkStaleLinks};
use crate::store::index::event::EventKind;
use crate::store::index::tables::forecast::Forecast;
use crate::store::index::tables::mark::Mark;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::sparse::SparseManifests;

/// A step of a random sequence; the numbers choose among few names, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Blob(u8),
    Image {
        layer: u8,
        subject: Option<u8>,
        tag: Option<u8>,
    },
    Index {
        children: (u8, u8),
        tag: Option<u8>,
    },
    DeleteTag(u8),
    DeleteManifest(u8),
    DeleteBlob(u8),
    Collect {
        with_untagged: bool,
    },
    RetireTags,
    Wait,
    /// A blob of no repository.
    LooseBlob(u8),
    Import {
        manifest: u8,
        tag: u8,
        pushed: u8,
        sparse: bool,
        force: bool,
    },
    /// The tag that attaches an index to a manifest, which may be deleted.
    Attach {
        to: u8,
        is_deleted: bool,
    },
    /// The tables become those of an earlier release.
    TakeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = 0_u8..5;
    let step = prop_oneof![
        3 => few.clone().prop_map(Step::Blob),
        3 => (few.clone(), prop::option::of(few.clone()), prop::option::of(few.clone()))
            .prop_map(|(layer, subject, tag)| Step::Image { layer, subject, tag }),
        2 => ((few.clone(), few.clone()), prop::option::of(few.clone()))
            .prop_map(|(children, tag)| Step::Index { children, tag }),
        1 => few.clone().prop_map(Step::DeleteTag),
        1 => few.clone().prop_map(Step::DeleteManifest),
        1 => few.clone().prop_map(Step::DeleteBlob),
        1 => few.clone().prop_map(Step::LooseBlob),
        2 => (few.clone(), few.clone(), few, any::<bool>(), any::<bool>()).prop_map(
            |(manifest, tag, pushed, sparse, force)| Step::Import { manifest, tag, pushed, sparse, force },
        ),
        1 => any::<bool>().prop_map(|with_untagged| Step::Collect { with_untagged }),
        1 => Just(Step::RetireTags),
        1 => Just(Step::Wait),
        2 => (0_u8..5, any::<bool>()).prop_map(|(to, is_deleted)| Step::Attach { to, is_deleted }),
        1 => Just(Step::TakeOver),
    ];
    prop::collection::vec(step, 1..40)
}

/// A registry of one repository, and the manifests that were tried so far.
#[derive(Default)]
struct Registry {
    test: TestTables,
    manifests: Vec<TestManifest>,
}

impl Registry {
    fn pick(&self, number: u8) -> Option<TestManifest> {
        self.manifests.get(usize::from(number) % self.manifests.len().max(1)).cloned()
    }

    fn push(&mut self, manifest: TestManifest) {
        let _ = self.test.apply(put(&manifest));
        self.manifests.push(manifest);
    }

    fn step(&mut self, step: &Step) {
        let names = |tag: Option<u8>| tag.map(|number| format!("t{number}")).into_iter().collect::<Vec<_>>();
        let borrowed =
            |names: &[String]| names.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
        match *step {
            Step::Blob(number) => self.test.apply(admit(&format!("blob {number}"))).unwrap(),
            Step::Image { layer, subject, tag } => {
                let subject = subject.and_then(|number| self.pick(number)).map(|one| one.digest.clone());
                let tags = borrowed(&names(tag));
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                self.push(image(&digest(&format!("blob {layer}")), subject.as_ref(), &tags));
            }
            Step::Index { children, tag } => {
                let children = [children.0, children.1].into_iter().filter_map(|number| self.pick(number));
                let children: Vec<Digest> = children.map(|one| one.digest.clone()).collect();
                let tags = borrowed(&names(tag));
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                self.push(image_index(&children, 0, &tags));
            }
            Step::DeleteTag(number) => drop(self.test.apply(delete_tag(&format!("t{number}")))),
            Step::DeleteManifest(number) => {
                if let Some(manifest) = self.pick(number) {
                    let _ = self.test.apply(delete_manifest(&manifest));
                }
            }
            Step::DeleteBlob(number) => {
                drop(self.test.apply(delete_blob(&digest(&format!("blob {number}")))));
            }
            Step::Collect { with_untagged } => self.collect(with_untagged),
            Step::RetireTags => {
                let tags = self.test.tags();
                self.test.apply(RetireTags { repository: repository("a"), tags }).unwrap();
            }
            Step::Wait => self.test.advance(Duration::from_mins(1)),
            Step::LooseBlob(number) => {
                let content = format!("blob {number}");
                self.admit_loose(&digest(&content), content.len() as u64);
            }
            Step::Import { manifest, tag, pushed, sparse, force } => {
                if let Some(manifest) = self.pick(manifest) {
                    self.import(&manifest, &format!("t{tag}"), pushed, (sparse, force));
                }
            }
            Step::Attach { to, is_deleted } => {
                let Some(manifest) = self.pick(to) else { return };
                let attached = manifest.digest.fallback_tag();
                if is_deleted {
                    let _ = self.test.apply(delete_tag(&attached));
                } else {
                    self.push(image_index(std::slice::from_ref(&manifest.digest), 1, &[&attached]));
                }
            }
            Step::TakeOver => forget_tag_index(&mut self.test.tables),
        }
    }

    fn admit_loose(&mut self, digest: &Digest, size: u64) {
        let blob = NewBlob { file: file(size), digest: digest.clone() };
        self.test.apply(AdmitBlob { repository: None, blob }).unwrap();
    }

    /// Imports a manifest: its image has all of its blobs then, or no new name.
    fn import(&mut self, manifest: &TestManifest, tag: &str, pushed: u8, (sparse, force): (bool, bool)) {
        self.admit_loose(&manifest.digest, manifest.size);
        let (tag, digest) = (tag.parse().unwrap(), manifest.digest.clone());
        let change = NameImage {
            repository: repository("a"),
            manifests: vec![NewManifest { tags: Vec::new(), may_be_sparse: sparse, ..manifest.new.clone() }],
            tags: vec![WantedTag { tag, digest, pushed: Some(pushed.into()) }],
            policy: TagPolicy { rule: Some("import:x".into()), keep_existing: false, force },
            sparse,
            limits: NameLimits::default(),
            immutable: Arc::default(),
            damaged: BTreeSet::new(),
            unlinked: BTreeSet::new(),
            dry_run: None,
        };
        let named = self.test.apply(change).unwrap();
        if let TagOutcome::Incomplete(missing) = &named.tags[0] {
            assert!(!missing.is_empty() && *missing == named.manifests[0]);
            return;
        }
        assert!(named.manifests[0].is_empty());
        for link in manifest.manifest.references() {
            let is_there = self.test.tables.has_content(&repository("a"), &link.digest).unwrap();
            assert!(is_there || (sparse && link.kind == ReferenceKind::Manifest), "{link:?}");
        }
    }

    /// Runs a collection without a grace period.
    fn collect(&mut self, with_untagged: bool) {
        let (name, forecast) = (repository("a"), Forecast::default());
        let tables = &self.test.tables;
        let mut page = tables.orphan_candidates(&name, None, 1000, with_untagged, &forecast).unwrap();
        tables.retain_orphans(&name, &mut page, &forecast).unwrap();
        let subject = |digest: &Digest| {
            let found = self.manifests.iter().find(|one| one.digest == *digest);
            found.and_then(|one| one.manifest.subject().cloned())
        };
        let manifests = page.into_iter().map(|one| (one.clone(), subject(&one.digest))).collect();
        self.test.apply(SweepManifests { repository: name, manifests, attached: true }).unwrap();
        let now = self.test.now();
        let grace = Duration::ZERO;
        let all = self.test.tables.blob_page(None, 1000, (now, grace), &forecast).unwrap();
        // What changes have noted leads to the same as a look at everything.
        let page = self.test.tables.candidate_page(None, 1000, (now, grace), &forecast).unwrap();
        assert_eq!((&page.orphans, &page.stale_links), (&all.orphans, &all.stale_links));
        self.test.apply(SettleCandidates(page.settled)).unwrap();
        self.test.apply(UnlinkStaleLinks { links: page.stale_links, grace }).unwrap();
        self.test.apply(SweepBlobs { blobs: page.orphans, grace, leases: Arc::default() }).unwrap();
        for digest in &self.test.files.unlink {
            assert!(!self.test.tables.contains_blob(digest).unwrap());
        }
        for one in self.test.tables.link_exceptions_after(None, 1000).unwrap() {
            assert!(self.test.tables.is_referenced_in(&one.repository, &one.digest).unwrap(), "{one:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Totals equal a recount, both directions of each link agree, and tags name manifests, after every change. The
    /// events alone give the same tags as the table.
    #[test]
    fn tables_agree_after_any_changes(steps in steps()) {
        let mut registry = Registry::default();
        let mut by_events = std::collections::BTreeMap::new();
        for step in steps {
            registry.step(&step);
            registry.test.assert_consistent();
            check_lists(&registry.test.tables);
            index_more_tags(&mut registry.test.tables, 1).unwrap();
            registry.test.assert_consistent();
            check_lists(&registry.test.tables);
            for event in registry.test.take_events() {
                let digest = event.digest.unwrap();
                match (event.kind, event.tag) {
                    (EventKind::Tag, Some(tag)) => {
                        prop_assert_eq!(by_events.insert(tag, digest), event.before);
                    }
                    (EventKind::Untag | EventKind::Expire, Some(tag)) => {
                        prop_assert_eq!(by_events.remove(&tag), Some(digest));
                    }
                    _ => {}
                }
            }
            let tags: std::collections::BTreeMap<_, _> =
                registry.test.tags().into_iter().map(|one| (one.tag, one.digest)).collect();
            prop_assert_eq!(&tags, &by_events);
        }
    }
}
