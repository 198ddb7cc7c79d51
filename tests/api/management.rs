//! Content management: deletes of tags, manifests and blobs (distribution specification, "Content Management").

use crate::support::*;

#[test]
fn tags_manifests_and_blobs_are_deleted() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &bytes).expect(201);
    let delete = |path: &str| daemon.request("DELETE", path).send();
    delete("/v2/a/manifests/1").expect(202);
    delete("/v2/a/manifests/1").expect(404);
    daemon.get("/v2/a/manifests/2").expect(200);
    delete(&format!("/v2/a/manifests/{digest}")).expect(202);
    daemon.get("/v2/a/manifests/2").expect(404);
    assert_eq!(daemon.get("/v2/a/tags/list").expect(404).error_code(), "NAME_UNKNOWN");
    let blob = format!("/v2/a/blobs/{}", crate::support::digest(b"layer"));
    delete(&blob).expect(202);
    assert_eq!(delete(&blob).expect(404).error_code(), "BLOB_UNKNOWN");
}

#[test]
fn deletes_can_be_disabled() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_DELETE", "false")]);
    let (digest, _) = daemon.push_image("a", "1", b"layer");
    for path in ["/v2/a/manifests/1", &format!("/v2/a/manifests/{digest}"), &format!("/v2/a/blobs/{digest}")]
    {
        let answer = daemon.request("DELETE", path).send().expect(405);
        assert_eq!(answer.error_code(), "UNSUPPORTED");
    }
    daemon.get("/v2/a/manifests/1").expect(200);
}
