//! Recording of pulls, and collections that respect them.

use super::*;
use crate::oci::{Pattern, Reference};
use crate::store::CapacityLimits;
use crate::store::gc::CollectedItem;
use crate::store::retention::GracePeriods;
use crate::store::test_store::{GRACE, TestStore, delete, name, policy};

const DAY: Duration = Duration::from_hours(24);

/// Returns a rule that keeps what was pulled in the last thirty days.
fn rule() -> RetentionRule {
    RetentionRule {
        repositories: vec![Pattern::from("*".to_owned())],
        pulled: Some(30 * DAY),
        untagged: Some(DAY),
        ..RetentionRule::default()
    }
}

impl TestStore {
    fn set_rules(&self, rules: Vec<RetentionRule>) {
        let limits = CapacityLimits { reserve: Some(0), ..CapacityLimits::default() };
        self.store.reconfigure(GracePeriods { grace: GRACE, retention: rules.into() }, Vec::new(), limits);
    }

    fn recorded(&self, digest: &Digest) -> Option<StoreDay> {
        self.store.0.index.last_pull(&name("app"), digest).unwrap()
    }

    /// Returns the tags that a dry run and a collection remove, which have to be the same.
    async fn expired(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dry_run in [true, false] {
            let items = self.collect(&policy(vec![rule()]), dry_run).await.unwrap().1;
            let tags = items.into_iter().filter_map(|item| match item {
                CollectedItem::Tag { tag, .. } => Some(tag.to_string()),
                _ => None,
            });
            found.push(tags.collect::<Vec<_>>());
        }
        assert_eq!(found[0], found[1]);
        found.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pull_is_recorded_with_the_next_push() {
    let test = TestStore::open().await;
    test.set_rules(vec![rule()]);
    let image = test.push_image("app", &["1"], b"layer", None).await;
    test.store.note_pull(&name("app"), &image);
    assert_eq!(test.recorded(&image), None);
    test.push_image("app", &["2"], b"other", None).await;
    // It is queued beside the push, which does not wait for it.
    for _ in 0..1000 {
        if test.recorded(&image).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(test.recorded(&image), Some(StoreDay::of(test.store.0.index.clock.now())));
    test.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pulls_are_noted_only_for_a_rule_that_needs_them() {
    let test = TestStore::open().await;
    let image = test.push_image("app", &["1"], b"layer", None).await;
    test.store.note_pull(&name("app"), &image);
    assert!(!test.store.0.pulls.is_pending());
    let since = || test.store.0.index.pulls_recorded_since().unwrap();
    assert_eq!(since(), None);
    test.set_rules(vec![RetentionRule { pulled: None, ..rule() }, rule()]);
    test.store.note_pull(&name("app"), &image);
    assert!(test.store.0.pulls.is_pending());
    test.store.record_pulls().await;
    assert!(since().is_some() && test.recorded(&image).is_some() && !test.store.0.pulls.is_pending());
    test.set_rules(Vec::new());
    test.store.record_pulls().await;
    assert_eq!(since(), None);
    // Pulls were not noted in between: everything counts as pulled when the rule comes back.
    test.advance(100 * DAY);
    test.set_rules(vec![rule()]);
    assert!(test.expired().await.is_empty());
    assert!(since().unwrap().seconds() >= 100 * DAY.as_secs());
    test.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rule_keeps_what_was_pulled_or_set_lately() {
    let test = TestStore::open().await;
    test.set_rules(vec![rule()]);
    let pulled = test.push_image("app", &["pulled", "also-pulled"], b"pulled", None).await;
    test.push_image("app", &["forgotten"], b"forgotten", None).await;
    let moved = test.push_image("app", &["moved"], b"moved", None).await;
    test.push_image("app", &["moved"], b"again", None).await;
    test.advance(20 * DAY);
    assert!(test.expired().await.is_empty(), "everything counts as pulled at the beginning");
    for digest in [&pulled, &moved] {
        test.store.note_pull(&name("app"), digest);
    }
    test.push_image("app", &["new"], b"new", None).await;
    test.advance(15 * DAY);
    assert_eq!(test.expired().await, ["forgotten", "moved"]);
    let has = |digest: &Digest| test.store.manifest(&name("app"), &Reference::Digest(digest.clone())).is_ok();
    assert!(has(&moved), "an untagged manifest that was pulled");
    test.advance(16 * DAY);
    assert_eq!(test.expired().await, ["also-pulled", "new", "pulled"]);
    assert!(!has(&moved));
    test.advance(2 * GRACE);
    test.expired().await;
    assert!(!has(&pulled));
    test.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deleted_tag_does_not_stay_for_its_pulls() {
    let test = TestStore::open().await;
    test.set_rules(vec![rule()]);
    let image = test.push_image("app", &["1"], b"layer", None).await;
    test.store.note_pull(&name("app"), &image);
    test.store.delete_tag(delete("app", "1".parse().unwrap())).await.unwrap();
    test.advance(2 * GRACE);
    test.expired().await;
    assert!(test.store.manifest(&name("app"), &Reference::Digest(image.clone())).is_err());
    test.store.close().await.unwrap();
}
