//! The journal against the index: after each write, `index.json` and its journal have what the index has.
#![expect(clippy::disallowed_methods, reason = "tests damage the files")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::store::index::changes::deletes::{DeleteBlob, DeleteManifest, DeleteTag, ManifestDelete};
use crate::store::index::changes::marks::HoldCollection;
use crate::store::index::test_index::{TestIndex, image, image_index, repository, tag};
use crate::store::layout_checksum::Checksum;
use crate::store::layout_format::Entry;
use crate::store::layout_reader::{LayoutRead, read_entries, read_head};
use crate::store::layout_rescue;

fn writer(opened: &TestIndex) -> LayoutWriter<'_> {
    LayoutWriter { small: 0, ..LayoutWriter::new(&opened.disk, &opened.index, false) }
}

fn text(entry: &Entry) -> String {
    match entry {
        Entry::Name(name) => format!(
            "{}@{} {} {} {} {:?} {}",
            name.repository,
            name.reference,
            name.digest,
            name.size,
            name.media_type.as_str(),
            name.timestamps,
            name.is_sparse
        ),
        Entry::Exception(exception) => format!("{exception:?}"),
    }
}

/// Returns the entries of the files. No entry may come twice, and no link exception after a name.
fn stored(opened: &TestIndex) -> (BTreeSet<String>, LayoutRead) {
    let (mut entries, mut names) = (BTreeSet::new(), 0);
    let read = read_entries(&opened.disk, &mut |entry| {
        assert!(names == 0 || matches!(entry, Entry::Name(_)));
        names += usize::from(matches!(entry, Entry::Name(_)));
        assert!(entries.insert(text(&entry)), "{}", text(&entry));
        Ok(())
    });
    (entries, read.unwrap())
}

fn indexed(opened: &TestIndex) -> BTreeSet<String> {
    let (tables, mut entries) = (opened.index.read().unwrap(), BTreeSet::new());
    tables
        .for_each_name(&mut |name| {
            entries.insert(text(&Entry::Name(name.clone())));
            Ok(())
        })
        .unwrap();
    let exceptions = tables.link_exceptions_after(None, 1000).unwrap();
    entries.extend(exceptions.into_iter().map(|exception| text(&Entry::Exception(exception))));
    entries
}

fn assert_current(opened: &TestIndex, context: &str) {
    let (entries, read) = stored(opened);
    assert_eq!(entries, indexed(opened), "{context}");
    assert_eq!((read.checksum, read.is_cut), (Checksum::Matches, false), "{context}");
    assert_eq!(read.head.change, opened.index.change().unwrap(), "{context}");
    assert_eq!(read.head.hold, opened.index.collection_is_held().unwrap(), "{context}");
    assert_eq!(read_head(&opened.disk).unwrap(), read.head, "{context}");
}

fn journal(opened: &TestIndex) -> Vec<u8> {
    fs::read(opened.disk.path(JOURNAL)).unwrap_or_default()
}

/// An index with an `index.json` of a few names.
async fn with_names() -> TestIndex {
    let opened = TestIndex::new();
    opened.mark_complete().await;
    let layer = opened.push_blob(&["a"], "layer").await;
    opened.push(&image(&layer, None, &["1", "2"])).await;
    layout::write(&opened.disk, &opened.index).unwrap();
    opened
}

/// A change of names.
#[derive(Clone, Debug)]
enum Step {
    /// Sets tags on an index.
    Push(usize, Vec<usize>),
    /// Pushes a manifest that lacks a child, or its child.
    Sparse(usize),
    DeleteTag(usize),
    DeleteManifest(usize),
    DeleteBlob(usize),
    PushBlob(usize),
    Hold(bool),
    /// Writes the files.
    Write,
    /// Writes the files by a new process.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, prop::collection::vec(0..5_usize, 0..3)).prop_map(|(number, tags)| Step::Push(number, tags)),
        1 => (0..3_usize).prop_map(Step::Sparse),
        2 => (0..5_usize).prop_map(Step::DeleteTag),
        2 => (0..4_usize).prop_map(Step::DeleteManifest),
        1 => (0..3_usize).prop_map(Step::DeleteBlob),
        1 => (0..3_usize).prop_map(Step::PushBlob),
        1 => any::<bool>().prop_map(Step::Hold),
        4 => Just(Step::Write),
        1 => Just(Step::Restart),
    ]
}

async fn apply(opened: &TestIndex, step: &Step) {
    let (a, immutable) = (repository("a"), Arc::default());
    match step {
        Step::Push(number, tags) => {
            let tags: Vec<String> = tags.iter().map(|tag| format!("t{tag}")).collect();
            opened
                .push(&image_index(&[], *number, &tags.iter().map(String::as_str).collect::<Vec<_>>()))
                .await;
        }
        Step::Sparse(number) => {
            let child = image_index(&[], *number, &[]);
            let mut parent = image_index(std::slice::from_ref(&child.digest), *number, &["sparse"]);
            parent.new.may_be_sparse = true;
            opened.push(&parent).await;
        }
        // Many of these have nothing to delete.
        Step::DeleteTag(number) => {
            let delete = DeleteTag { repository: a, tag: tag(&format!("t{number}")), immutable };
            let _ = opened.writer.submit(delete).await;
        }
        Step::DeleteManifest(number) => {
            let digest = image_index(&[], *number, &[]).digest.clone();
            let delete = ManifestDelete { repository: a, digest, subject: None, immutable };
            let _ = opened.writer.submit(DeleteManifest(Arc::new(delete))).await;
        }
        Step::DeleteBlob(number) => {
            let digest = crate::store::index::test_index::digest(&format!("blob {number}"));
            let _ = opened.writer.submit(DeleteBlob { repository: a, digest, immutable }).await;
        }
        Step::PushBlob(number) => {
            let layer = opened.push_blob(&["a"], &format!("blob {number}")).await;
            opened.push(&image(&layer, None, &[])).await;
        }
        Step::Hold(hold) => opened.submit(HoldCollection(*hold)).await,
        Step::Write | Step::Restart => {}
    }
}

#[test]
fn journal_and_index_agree_after_any_changes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let appended = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let run = |steps: Vec<Step>| {
        runtime.block_on(async {
            let opened = with_names().await;
            let mut layout = writer(&opened);
            for (number, step) in steps.iter().enumerate() {
                apply(&opened, step).await;
                if matches!(step, Step::Restart) {
                    layout = writer(&opened);
                }
                if matches!(step, Step::Write | Step::Restart) {
                    layout.write().unwrap();
                    assert_current(&opened, &format!("step {number} of {steps:?}"));
                    appended.set(appended.get() + usize::from(!journal(&opened).is_empty()));
                }
            }
        });
        Ok(())
    };
    runner.run(&prop::collection::vec(step(), 1..40), run).unwrap();
    assert!(appended.get() > 100, "{}", appended.get());
}

#[test]
fn names_that_only_the_log_has_are_saved_for_a_rebuild() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let saved = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let run = |(before, after, cut): (Vec<Step>, Vec<Step>, bool)| {
        runtime.block_on(async {
            let opened = with_names().await;
            for step in &before {
                apply(&opened, step).await;
                if matches!(step, Step::Write | Step::Restart) {
                    writer(&opened).write().unwrap();
                }
            }
            writer(&opened).write().unwrap();
            for step in &after {
                apply(&opened, step).await;
            }
            let is_behind = read_head(&opened.disk).unwrap().change < opened.index.change().unwrap();
            if cut && is_behind && !journal(&opened).is_empty() {
                // The power failed while the next batch was written.
                fs::write(opened.disk.path(JOURNAL), [&journal(&opened)[..], b"{\"name\":"].concat())
                    .unwrap();
            }
            // The index itself is not read.
            let count = layout_rescue::save_names_of_log(&opened.disk).unwrap();
            saved.set(saved.get() + count);
            assert_current(&opened, &format!("{before:?}, then {after:?}"));
            assert_eq!(layout_rescue::save_names_of_log(&opened.disk).unwrap(), 0);
        });
        Ok(())
    };
    let steps = || prop::collection::vec(step(), 0..8);
    runner.run(&(steps(), steps(), any::<bool>()), run).unwrap();
    assert!(saved.get() > 100, "{}", saved.get());
}

#[tokio::test]
async fn a_cut_journal_has_the_batches_before_and_nothing_of_the_last() {
    let opened = with_names().await;
    let mut layout = writer(&opened);
    let mut states = vec![(0, indexed(&opened))];
    for number in 0..3 {
        opened.push(&image_index(&[], number, &["1"])).await;
        layout.write().unwrap();
        states.push((journal(&opened).len(), indexed(&opened)));
    }
    let whole = journal(&opened);
    for length in 0..whole.len() {
        fs::write(opened.disk.path(JOURNAL), &whole[..length]).unwrap();
        let (entries, read) = stored(&opened);
        let (batch, state) = states.iter().rfind(|(end, _)| *end <= length).unwrap();
        assert_eq!(&entries, state, "{length}");
        // An empty file is a first batch that did not reach the disk.
        let is_cut = length != *batch || length == 0;
        assert_eq!((read.checksum, read.is_cut), (Checksum::Matches, is_cut), "{length}");
        // It is not appended to: the whole file is written.
        if read.is_cut && length % 50 == 0 {
            let opened = with_names().await;
            fs::write(opened.disk.path(JOURNAL), &whole[..length]).unwrap();
            opened.push(&image_index(&[], 9, &["9"])).await;
            writer(&opened).write().unwrap();
            assert_current(&opened, "after a cut");
        }
    }
}

#[tokio::test]
async fn a_changed_byte_is_detected_and_spoils_only_its_batch() {
    let opened = with_names().await;
    let mut layout = writer(&opened);
    let mut ends = Vec::new();
    for number in 0..3 {
        opened.push(&image_index(&[], number, &[&format!("t{number}")])).await;
        layout.write().unwrap();
        ends.push(journal(&opened).len());
    }
    let (whole, all) = (journal(&opened), indexed(&opened));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(opened.disk.path(JOURNAL), &bytes).unwrap();
        let (entries, read) = stored(&opened);
        assert!(read.is_cut || read.checksum == Checksum::Wrong, "{at}");
        assert!(entries.is_subset(&all), "{at}");
        // The first byte of the line after a batch may be that of a line which ends one: at most two are lost.
        assert!(entries.len() + 2 >= all.len(), "{at}");
    }
    assert_eq!(ends.len(), 3);
}

#[tokio::test]
async fn an_older_journal_is_ignored_and_a_newer_one_is_used_with_doubt() {
    let opened = with_names().await;
    let old_layout = fs::read(opened.disk.path("index.json")).unwrap();
    let mut layout = writer(&opened);
    opened.push(&image_index(&[], 0, &["1"])).await;
    layout.write().unwrap();
    let old_journal = journal(&opened);
    layout::write(&opened.disk, &opened.index).unwrap();
    assert!(journal(&opened).is_empty(), "it is removed with the whole file");
    // Its removal did not reach the disk before a power cut.
    fs::write(opened.disk.path(JOURNAL), &old_journal).unwrap();
    assert_current(&opened, "older journal");
    opened.push(&image_index(&[], 1, &["2"])).await;
    let mut layout = writer(&opened);
    layout.write().unwrap();
    assert_current(&opened, "a journal in the place of an older one");
    assert!(!journal(&opened).is_empty());
    // An old copy of index.json came back under a newer journal.
    fs::write(opened.disk.path("index.json"), &old_layout).unwrap();
    let (entries, read) = stored(&opened);
    assert_eq!(read.checksum, Checksum::Wrong);
    assert!(entries.iter().any(|entry| entry.starts_with("a@2 ")));
    // Without the journal the newest changes are missing, which the change number shows.
    layout::write(&opened.disk, &opened.index).unwrap();
    opened.push(&image_index(&[], 2, &["3"])).await;
    writer(&opened).write().unwrap();
    fs::remove_file(opened.disk.path(JOURNAL)).unwrap();
    assert!(read_head(&opened.disk).unwrap().change < opened.index.change().unwrap());
}

#[tokio::test]
async fn a_long_journal_becomes_a_whole_file() {
    let opened = with_names().await;
    let mut layout = writer(&opened);
    let mut lengths = Vec::new();
    for number in 0..400 {
        opened.push(&image_index(&[], number, &["1"])).await;
        layout.write().unwrap();
        lengths.push(journal(&opened).len());
    }
    assert_current(&opened, "the end");
    let (least, _) = JOURNAL_LENGTH;
    assert!(lengths.iter().all(|length| (*length as u64) <= least));
    assert!(lengths.contains(&0), "{lengths:?}");
}

#[tokio::test]
async fn a_log_that_continues_does_not_wait_for_a_whole_file() {
    let opened = with_names().await;
    let whole = || fs::metadata(opened.disk.path("index.json")).unwrap().ino();
    let (before, (least, _)) = (whole(), JOURNAL_LENGTH);
    for number in 0.. {
        opened.push(&image_index(&[], number, &["1"])).await;
        catch_up(&opened.disk, &opened.index);
        if journal(&opened).len() as u64 > 2 * least {
            break;
        }
    }
    assert_eq!(whole(), before);
    assert_current(&opened, "in the journal");
    opened.push(&image_index(&[], 0, &["2"])).await;
    // The layout thread merges it.
    LayoutWriter { small: 0, excess: 1, disk: &opened.disk, index: &opened.index, needs_whole: false }
        .write()
        .unwrap();
    assert!(whole() != before && journal(&opened).is_empty());
    assert_current(&opened, "merged");
}

#[tokio::test]
async fn a_small_file_has_no_journal() {
    let opened = with_names().await;
    let mut layout = LayoutWriter::new(&opened.disk, &opened.index, false);
    opened.push(&image_index(&[], 0, &["1"])).await;
    layout.write().unwrap();
    assert!(journal(&opened).is_empty());
    assert_current(&opened, "whole");
}

#[tokio::test]
async fn an_obstacle_in_the_place_of_the_journal_is_set_aside() {
    let opened = with_names().await;
    fs::create_dir(opened.disk.path(JOURNAL)).unwrap();
    fs::write(opened.disk.path(JOURNAL).join("x"), "x").unwrap();
    opened.push(&image_index(&[], 0, &["1"])).await;
    writer(&opened).write().unwrap();
    assert_current(&opened, "obstacle");
}

#[test]
fn the_journal_stays_at_an_idle_exit_only_if_a_merge_is_expensive() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let opened = with_names().await;
        let mut layout = writer(&opened);
        assert!(!layout.has_to_merge(false), "there is no journal");
        opened.push(&image_index(&[], 0, &["1"])).await;
        layout.write().unwrap();
        assert!(layout.has_to_merge(true) && layout.has_to_merge(false));
        let text = fs::read_to_string(opened.disk.path("index.json")).unwrap();
        fs::write(opened.disk.path("index.json"), " ".repeat(300 << 10) + &text).unwrap();
        assert!(!layout.has_to_merge(true) && layout.has_to_merge(false));
    });
}
