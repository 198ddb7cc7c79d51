//! The events of each change.

use super::*;
use crate::oci::{Actor, ActorKind, AttachmentTarget};
use crate::store::index::changes::sweep::{RetireTags, SweepBlobs, SweepManifests};
use crate::store::index::event::{Cause, Event, EventKind, Origin};

/// An event in short: kind, tag, digest, manifest before, cause.
type Short = (EventKind, Option<String>, Digest, Option<Digest>, Cause);

fn short(event: &Event) -> Short {
    let tag = event.tag.as_ref().map(ToString::to_string);
    (event.kind, tag, event.digest.clone().unwrap(), event.before.clone(), event.cause.clone())
}

fn events(test: &mut TestTables) -> Vec<Short> {
    test.take_events().iter().map(short).collect()
}

#[test]
fn a_push_is_an_event_once_and_a_tag_when_it_is_set_or_moves() {
    use EventKind::{Push, Tag};
    let mut test = TestTables::default();
    let (first, second) = (image_index(&[], 0, &["1"]), image_index(&[], 1, &["1", "2"]));
    test.apply(put(&first)).unwrap();
    let (one, two) = (first.digest.clone(), second.digest.clone());
    assert_eq!(
        events(&mut test),
        [
            (Push, None, one.clone(), None, Cause::System),
            (Tag, Some("1".to_owned()), one.clone(), None, Cause::System)
        ]
    );
    test.apply(put(&first)).unwrap();
    assert!(events(&mut test).is_empty(), "nothing has changed");
    test.apply(put(&second)).unwrap();
    assert_eq!(
        events(&mut test),
        [
            (Push, None, two.clone(), None, Cause::System),
            (Tag, Some("1".to_owned()), two.clone(), Some(one.clone()), Cause::System),
            (Tag, Some("2".to_owned()), two.clone(), None, Cause::System),
        ]
    );
    test.apply(put(&first)).unwrap();
    assert_eq!(events(&mut test), [(Tag, Some("1".to_owned()), one, Some(two), Cause::System)]);
}

#[test]
fn an_event_has_the_origin_of_its_change() {
    let mut test = TestTables::default();
    let origin = Origin {
        cause: Cause::Api,
        actor: Actor { name: "alice".into(), kind: ActorKind::User },
        client: Some("192.0.2.7".into()),
        agent: Some("docker/20.10".into()),
    };
    test.advance(Duration::from_secs(9));
    let manifest = image_index(&[], 0, &["1"]);
    test.apply_by(&origin, put(&manifest)).unwrap();
    for event in test.take_events() {
        assert_eq!((event.time, event.cause, event.actor), (1_000_009, Cause::Api, origin.actor.clone()));
        assert_eq!((event.client, event.agent), (origin.client.clone(), origin.agent.clone()));
        assert_eq!((event.repository, event.size), (Some(repository("a")), manifest.size));
        assert_eq!(event.media_type.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
    }
}

#[test]
fn deletes_are_events_of_tags_manifests_and_blobs() {
    use EventKind::{Delete, Untag};
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    assert!(events(&mut test).is_empty(), "a blob is no name");
    let image = image(&digest("layer"), None, &["1", "2", "3"]);
    test.apply(put(&image)).unwrap();
    test.take_events();
    let system = || (image.digest.clone(), None, Cause::System);
    let untag = |name: &str| (Untag, Some(name.to_owned()), system().0, system().1, system().2);
    test.apply(delete_tag("1")).unwrap();
    assert_eq!(events(&mut test), [untag("1")]);
    let tags = vec![(tag("2"), image.digest.clone())];
    test.apply(DeleteTags { repository: repository("a"), tags, immutable: Arc::default() }).unwrap();
    assert_eq!(events(&mut test), [untag("2")]);
    test.apply(delete_manifest(&image)).unwrap();
    assert_eq!(events(&mut test), [untag("3"), (Delete, None, image.digest.clone(), None, Cause::System)]);
    test.apply(delete_blob(&digest("layer"))).unwrap();
    let event = test.take_events().remove(0);
    assert_eq!((event.kind, event.digest, event.size), (Delete, Some(digest("layer")), 5));
    assert_eq!(event.media_type, None);
}

#[test]
fn a_refused_change_is_no_event() {
    let mut test = TestTables::default();
    test.apply(put(&image(&digest("missing"), None, &["1"]))).unwrap_err();
    test.apply(delete_tag("1")).unwrap_err();
    test.apply(delete_blob(&digest("x"))).unwrap_err();
    assert!(test.take_events().is_empty());
}

#[test]
fn a_collection_expires_tags_and_manifests_and_says_why() {
    use EventKind::Expire;
    let mut test = TestTables::default();
    let (orphan, untagged) = (image_index(&[], 0, &["old"]), image_index(&[], 1, &[]));
    let attached = AttachmentTarget::tags_of(&orphan.digest).nth(1).unwrap().to_string();
    let signature = image_index(&[], 2, &[&attached]);
    for manifest in [&orphan, &untagged, &signature] {
        test.apply(put(manifest)).unwrap();
    }
    test.push_blob(&["a"], "unused");
    test.take_events();
    let tags = test.tags().into_iter().filter(|one| one.tag == tag("old")).collect();
    test.apply(RetireTags { repository: repository("a"), tags }).unwrap();
    assert_eq!(
        events(&mut test),
        [(Expire, Some("old".to_owned()), orphan.digest.clone(), None, Cause::Retention)]
    );
    let manifests = vec![test.candidate(&orphan, true), test.candidate(&untagged, false)];
    let sweep = SweepManifests { repository: repository("a"), manifests, attached: true };
    test.apply(sweep).unwrap();
    assert_eq!(
        events(&mut test),
        [
            (Expire, None, orphan.digest.clone(), None, Cause::Gc),
            (Expire, Some(attached), signature.digest.clone(), None, Cause::Retention),
            (Expire, None, untagged.digest.clone(), None, Cause::Retention),
        ]
    );
    test.apply(SweepBlobs {
        blobs: vec![(digest("unused"), 6)],
        grace: Duration::ZERO,
        leases: Arc::default(),
    })
    .unwrap();
    assert!(test.take_events().is_empty(), "a blob without a repository that needs it has no name");
}
