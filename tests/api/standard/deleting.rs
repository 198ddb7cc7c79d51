//! Distribution specification, "Deleting tags", "Deleting Manifests", "Deleting Blobs".

use super::*;

#[test]
fn deleting_a_tag_is_202_and_leaves_the_manifest() {
    let daemon = Daemon::start();
    let (digest, _) = daemon.push_image("a", "1", b"layer");
    daemon.request("DELETE", "/v2/a/manifests/1").send().expect(202);
    daemon.get("/v2/a/manifests/1").expect(404);
    daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200);
}

#[test]
fn deleting_a_manifest_is_202_and_takes_its_tags() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &bytes).expect(201);
    daemon.request("DELETE", &format!("/v2/a/manifests/{digest}")).send().expect(202);
    for reference in [digest.as_str(), "1", "2"] {
        daemon.get(&format!("/v2/a/manifests/{reference}")).expect(404);
    }
}

#[test]
fn deleting_in_a_repository_that_does_not_exist_is_404() {
    let daemon = Daemon::start();
    for path in ["manifests/1".to_owned(), format!("manifests/{}", unknown()), format!("blobs/{}", unknown())]
    {
        daemon.request("DELETE", &format!("/v2/missing/{path}")).send().expect(404);
    }
}

#[test]
fn deleting_a_blob_is_202_and_an_unknown_one_is_404() {
    let daemon = Daemon::start();
    let blob = daemon.push_blob("a", b"layer");
    daemon.request("DELETE", &format!("/v2/a/blobs/{blob}")).send().expect(202);
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
    daemon.push_image("a", "1", b"other");
    daemon.request("DELETE", &format!("/v2/a/blobs/{}", unknown())).send().expect(404);
}

#[test]
fn deleting_where_it_is_disabled_is_405() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_DELETE", "false")]);
    let (digest, _) = daemon.push_image("a", "1", b"layer");
    let blob = super::digest(b"layer");
    for path in ["manifests/1".to_owned(), format!("manifests/{digest}"), format!("blobs/{blob}")] {
        daemon.request("DELETE", &format!("/v2/a/{path}")).send().expect(405);
    }
    daemon.get("/v2/a/manifests/1").expect(200);
}
