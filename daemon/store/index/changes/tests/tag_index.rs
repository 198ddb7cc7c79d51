//! The tables that are derived from tags: their lookups agree with the tags, also while an index of an earlier release is taken
//! over, and the work on the tags of a manifest does not depend on the others.

use std::cell::Cell;

use super::*;
use crate::oci::{AttachmentTarget, RepositoryName, Tag};
use crate::store::index::changes::deletes::DeleteUntaggedManifest;
use crate::store::index::changes::{Change, Now, Origin, apply, index_more_tags};
use crate::store::index::tables::candidates::MAX_PER_TRANSACTION;
use crate::store::index::tables::consistency;
use crate::store::index::tables::memory::Memory;
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::tables::tag_lists::TagLists;
use crate::store::index::tables::untagged::UntaggedManifests;
use crate::store::index::tables::{Bounds, Row, WriteTables};
use crate::store::index_error::IndexError;
use crate::store::listing::{ListQuery, TagOrder};
use crate::store::version_order;
use crate::store::work::Cancel;

/// Makes tables those of an index of an earlier release that was opened: no tag is indexed.
pub(super) fn forget_tag_index(tables: &mut Memory) {
    for table in [Table::TagsByDigest, Table::TagsByTime] {
        let keys: Vec<Vec<u8>> = tables.rows(table).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        for key in keys {
            assert!(tables.delete(table, &key).unwrap());
        }
    }
    tables.put(Table::Meta, meta::TAGS_INDEXED, b"").unwrap();
}

/// Checks the lists of the tags of the repository `a` against the tags themselves.
pub(super) fn check_lists(tables: &Memory) {
    let (name, cancel) = (repository("a"), Cancel::default());
    let rows = tables.tag_rows_of(&name);
    let is_hidden = |tag: &Tag| {
        AttachmentTarget::of(tag).is_some_and(|target| tables.has_attached_subject(&name, &target).unwrap())
    };
    let by_name = |one: &Tag, other: &Tag| version_order::compare(one.as_str(), other.as_str());
    for (order, descending, search) in [
        (TagOrder::Name, false, ""),
        (TagOrder::Name, true, ""),
        (TagOrder::Pushed, false, ""),
        (TagOrder::Pushed, true, ""),
        (TagOrder::Name, false, "1"),
        (TagOrder::Pushed, false, "t"),
    ] {
        let mut expected: Vec<_> =
            rows.iter().filter(|(tag, _)| !is_hidden(tag) && tag.as_str().contains(search)).collect();
        expected.sort_by(|one, other| match order {
            TagOrder::Name => by_name(&one.0, &other.0),
            TagOrder::Pushed => (one.1.pushed, one.1.order).cmp(&(other.1.pushed, other.1.order)),
        });
        if descending {
            expected.reverse();
        }
        for page in 0..=expected.len() / 3 {
            let query = ListQuery { search: search.to_owned(), order, descending, page, limit: 3 };
            let found = tables.tags_overview(&name, &query, &cancel).unwrap();
            assert_eq!(found.total, expected.len());
            let items: Vec<&Tag> = found.items.iter().map(|(tag, ..)| tag).collect();
            let wanted: Vec<&Tag> = expected.iter().skip(3 * page).take(3).map(|(tag, _)| tag).collect();
            assert_eq!(items, wanted, "{query:?}");
            for (_, entry, shared) in &found.items {
                let key = keys::digest_key(&entry.digest);
                assert_eq!(*shared, rows.iter().filter(|(_, row)| row.digest == key).count());
            }
        }
    }
    let manifests = tables.manifests_after(&name, None, 1000).unwrap();
    let mut untagged = 0;
    for manifest in &manifests {
        let key = keys::digest_key(&manifest.digest);
        let named: Vec<&Tag> = rows.iter().filter(|(_, row)| row.digest == key).map(|(tag, _)| tag).collect();
        let (mut found, count) = tables.tags_of(&name, &manifest.digest, 1000, &cancel).unwrap();
        found.sort();
        assert_eq!((found.iter().collect::<Vec<_>>(), count), (named.clone(), named.len()));
        assert_eq!(tables.has_tag(&name, &manifest.digest).unwrap(), !named.is_empty());
        untagged += usize::from(named.is_empty());
    }
    let digests = || manifests.iter().map(|manifest| &manifest.digest);
    let tagged = tables.tagged_among(&name, digests(), &|_| false).unwrap();
    assert_eq!(tagged.len(), manifests.len() - untagged);
    assert!(tables.tagged_among(&name, digests(), &|_| true).unwrap().is_empty());
    let (found, total) = tables.untagged(&name, (0, 1000), &cancel).unwrap();
    assert!((found.len(), total) == (untagged, untagged));
    assert!(found.iter().all(|one| !tagged.contains(&one.entry.digest)));
}

trait TagRows {
    fn tag_rows_of(&self, repository: &RepositoryName) -> Vec<(Tag, ManifestRow)>;
}

impl TagRows for Memory {
    fn tag_rows_of(&self, repository: &RepositoryName) -> Vec<(Tag, ManifestRow)> {
        let rows = self.prefix(Table::Tags, &keys::repository_prefix(repository)).unwrap();
        let rows = rows.map(|row| {
            let (key, value) = row.unwrap();
            (keys::split_tag(key).unwrap().1, self.decode(value).unwrap())
        });
        rows.collect()
    }
}

/// Tables that count the rows that are read and written.
struct Counted {
    tables: Memory,
    rows: Cell<usize>,
}

impl Counted {
    fn add(&self) {
        self.rows.set(self.rows.get() + 1);
    }
}

impl ReadTables for Counted {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, IndexError> {
        self.add();
        self.tables.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        range: &Bounds<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        Ok(self.tables.range(table, range)?.inspect(|_| self.add()))
    }

    fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        Ok(self.tables.prefix(table, prefix)?.inspect(|_| self.add()))
    }

    fn at_or_after(&self, table: Table, key: &[u8]) -> Result<Option<Row<'_>>, IndexError> {
        self.add();
        self.tables.at_or_after(table, key)
    }

    fn len(&self, table: Table) -> Result<u64, IndexError> {
        self.tables.len(table)
    }

    fn note(&self, _: &IndexError) {}
}

impl WriteTables for Counted {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.add();
        self.tables.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.add();
        self.tables.delete(table, key)
    }

    fn check_capacity(&mut self) -> Result<(), IndexError> {
        Ok(())
    }

    fn is_nearly_full(&self) -> Result<bool, IndexError> {
        Ok(false)
    }
}

/// Returns a repository with a manifest of three tags, an untagged one, and so many tags of other manifests, some of which are
/// attachment tags.
fn registry(others: usize) -> (Memory, TestManifest, TestManifest) {
    let mut test = TestTables::default();
    let (wanted, untagged) = (image_index(&[], 0, &["a", "m", "z"]), image_index(&[], 1, &[]));
    test.push(&wanted);
    test.push(&untagged);
    for number in 0..others / 2 {
        let image = image_index(&[], number + 2, &[&format!("t{number}")]);
        test.push(&image);
        let attached = format!("{}.sig", image.digest.fallback_tag());
        test.push(&image_index(std::slice::from_ref(&image.digest), 1, &[&attached]));
    }
    test.push(&image_index(&[], 3, &["last"]));
    (test.tables, wanted, untagged)
}

/// Counts the rows of some work on a repository of 100 tags and on one of 10,000, and requires equal numbers.
fn assert_independent_of_other_tags(work: impl Fn(&mut Counted, &TestManifest, &TestManifest)) {
    let counts = [100, 10_000].map(|others| {
        let (tables, wanted, untagged) = registry(others);
        let mut counted = Counted { tables, rows: Cell::new(0) };
        work(&mut counted, &wanted, &untagged);
        counted.rows.get()
    });
    assert_eq!(counts[0], counts[1]);
    assert!(counts[0] > 0);
}

fn apply_to(tables: &mut Counted, change: impl Into<Change>) {
    let store_time = crate::store::clock::StoreTime::from_seconds(1);
    let now = Now { wall_time: 1, store_time, clock: ClockRow::at(store_time), names_set: 0 };
    apply(&change.into(), &Origin::system(), tables, &now).unwrap();
}

#[test]
fn delete_by_digest_costs_the_same_beside_any_number_of_tags() {
    assert_independent_of_other_tags(|tables, wanted, _| {
        apply_to(tables, delete_manifest(wanted));
        assert_eq!(tables.tables.tags(&repository("a"), Some("y"), 10).unwrap().items, []);
    });
    assert_independent_of_other_tags(|tables, _, untagged| {
        let DeleteManifest(delete) = delete_manifest(untagged);
        apply_to(tables, DeleteUntaggedManifest(delete));
    });
}

#[test]
fn pages_of_tags_cost_the_same_beside_any_number_of_tags() {
    let (name, cancel) = (repository("a"), Cancel::default());
    assert_independent_of_other_tags(|tables, _, _| {
        let newest =
            ListQuery { order: TagOrder::Pushed, descending: true, limit: 16, ..ListQuery::default() };
        let page = tables.tags_overview(&name, &newest, &cancel).unwrap();
        assert_eq!((page.items.len(), page.items[0].0.as_str()), (16, "last"));
    });
    assert_independent_of_other_tags(|tables, wanted, untagged| {
        let found = tables.tags_of(&name, &wanted.digest, 2, &cancel).unwrap();
        assert_eq!(found, (vec![tag("a"), tag("m")], 3));
        assert_eq!(tables.tags_named(&name, &[tag("a"), tag("none")].into()).unwrap()[0].2, 3);
        assert!(!tables.has_tag(&name, &untagged.digest).unwrap());
    });
}

#[test]
fn the_number_of_tags_of_a_manifest_is_kept() {
    let rows_of_count = |tags: usize| {
        let mut test = TestTables::default();
        let names: Vec<String> = (0..tags).map(|number| format!("t{number}")).collect();
        let image = image_index(&[], 0, &names.iter().map(String::as_str).collect::<Vec<_>>());
        test.push(&image);
        let counted = Counted { tables: test.tables, rows: Cell::new(0) };
        assert_eq!(counted.count_tags_naming(&repository("a"), &image.digest).unwrap(), tags);
        counted.rows.get()
    };
    assert_eq!(rows_of_count(2), rows_of_count(1000));
}

#[test]
fn manifest_with_very_many_tags_is_deleted_in_bounded_steps() {
    const TAGS: usize = 2 * MAX_PER_TRANSACTION + 10;
    let mut test = TestTables::default();
    let names: Vec<String> = (0..TAGS).map(|number| format!("t{number}")).collect();
    let image = image_index(&[], 0, &names.iter().map(String::as_str).collect::<Vec<_>>());
    test.push(&image);
    for step in 1..=2 {
        assert_eq!(test.apply(delete_manifest(&image)).unwrap(), Deleted::TagsLeft);
        assert_eq!(test.tags().len(), TAGS - step * MAX_PER_TRANSACTION);
        assert_eq!(test.take_events().len(), MAX_PER_TRANSACTION);
        test.assert_consistent();
    }
    assert_eq!(test.apply(delete_manifest(&image)).unwrap(), Deleted::Complete);
    assert!(test.tags().is_empty());
    test.assert_consistent();
    assert!(matches!(test.apply(delete_manifest(&image)), Err(StoreError::NameUnknown(_))));
}

#[test]
fn attachment_tags_are_listed_while_their_manifest_is_missing() {
    let mut test = TestTables::default();
    let image = image_index(&[], 0, &["1"]);
    let attached = format!("{}.sig", image.digest.fallback_tag());
    let signature = image_index(&[], 1, &[&attached]);
    let shown = |test: &TestTables| test.tables.count_shown_tags(&repository("a")).unwrap();
    test.push(&signature);
    assert_eq!(shown(&test), 1);
    test.push(&image);
    check_lists(&test.tables);
    assert_eq!(shown(&test), 1, "only the image");
    test.apply(delete_manifest(&image)).unwrap();
    check_lists(&test.tables);
    assert_eq!(shown(&test), 1, "only the signature");
    test.assert_consistent();
}

#[test]
fn rows_that_do_not_agree_with_the_tags_are_corruption() {
    let mut test = TestTables::default();
    let image = image_index(&[], 0, &["1", "2"]);
    let attached = format!("{}.sig", image.digest.fallback_tag());
    test.push(&image);
    test.push(&image_index(&[], 1, &[&attached]));
    test.assert_consistent();
    for table in [Table::TagsByDigest, Table::TagsByTime] {
        let keys: Vec<Vec<u8>> =
            test.tables.rows(table).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        for key in keys {
            let mut lost = test.tables.clone();
            lost.delete(table, &key).unwrap();
            assert!(consistency::check(&lost).is_err(), "{table:?} {key:?}");
            let mut more = test.tables.clone();
            more.put(table, &[&key[..], b"x"].concat(), &[]).unwrap();
            assert!(consistency::check(&more).is_err(), "{table:?} {key:?}");
        }
    }
}

#[test]
fn index_of_an_earlier_release_is_taken_over_in_steps() {
    let (tables, ..) = registry(100);
    let mut old = tables.clone();
    forget_tag_index(&mut old);
    let mut steps = 0;
    loop {
        consistency::check(&old).unwrap();
        check_lists(&old);
        if !index_more_tags(&mut old, 7).unwrap() {
            break;
        }
        steps += 1;
    }
    assert!(old.has_same_rows(&tables));
    assert_eq!(steps, tables.len(Table::Tags).unwrap().div_ceil(7) + 1);
}
