//! Distribution specification, "Push", "Pushing Manifests", "Pushing Manifests with Subject".

use super::*;

#[test]
fn subject_that_does_not_exist_is_accepted() {
    let daemon = Daemon::start();
    let (_, answer) = push_manifest(&daemon, "a", &json!({"subject": subject(&unknown())}));
    answer.expect(201);
}

#[test]
fn missing_blob_is_manifest_blob_unknown() {
    let daemon = Daemon::start();
    let layer =
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": unknown(), "size": 9});
    let (_, answer) = push_manifest(&daemon, "a", &json!({"layers": [layer]}));
    assert_eq!(answer.expect(400).error_code(), "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn list_of_blobs_may_be_empty() {
    let daemon = Daemon::start();
    push_manifest(&daemon, "a", &json!({"layers": []})).1.expect(201);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    daemon.put_manifest("a", "empty", OCI_INDEX, index.as_bytes()).expect(201);
}

#[test]
fn media_type_that_differs_from_the_content_type_is_refused() {
    let daemon = Daemon::start();
    let (_, bytes) = daemon.push_image("a", "1", b"layer");
    let answer = daemon.put_manifest("a", "2", OCI_INDEX, &bytes).expect(400);
    assert_eq!(answer.error_code(), "MANIFEST_INVALID");
    daemon.put_manifest("a", "2", &format!("{OCI_MANIFEST}; charset=utf-8"), &bytes).expect(201);
}

#[test]
fn manifest_is_stored_in_its_exact_bytes() {
    let daemon = Daemon::start();
    let config = daemon.push_blob("a", b"{}");
    let odd = format!(
        "{{ \"layers\":[ ],\n\t\"schemaVersion\" : 2, \"unknown\": 1.50, \"config\":{{\"size\":2,\"digest\":\"{config}\",\
         \"mediaType\":\"application/vnd.oci.image.config.v1+json\"}},\"mediaType\":\"{OCI_MANIFEST}\"}}\n\n"
    );
    daemon.put_manifest("a", "odd", OCI_MANIFEST, odd.as_bytes()).expect(201);
    assert_eq!(daemon.get("/v2/a/manifests/odd").expect(200).body, odd.as_bytes());
}

#[test]
fn success_is_201_with_a_pullable_location_and_the_digest() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    for reference in ["2", &digest] {
        let answer = daemon.put_manifest("a", reference, OCI_MANIFEST, &bytes).expect(201);
        assert_eq!(answer.required_header("docker-content-digest"), digest);
        assert_eq!(daemon.get(&answer.required_header("location")).expect(200).body, bytes);
    }
}

#[test]
fn digest_that_is_not_of_the_manifest_is_refused() {
    let daemon = Daemon::start();
    let (_, bytes) = daemon.push_image("a", "1", b"layer");
    let answer = daemon.put_manifest("a", &unknown(), OCI_MANIFEST, &bytes).expect(400);
    assert_eq!(answer.error_code(), "DIGEST_INVALID");
}

#[test]
fn tags_of_the_query_are_set_and_named_by_oci_tag() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "first", b"layer");
    let tags: Vec<String> = (0..10).map(|number| format!("1.{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reference = format!("{digest}?{}", query.join("&"));
    let answer = daemon.put_manifest("a", &reference, OCI_MANIFEST, &bytes).expect(201);
    let named = answer.headers("oci-tag").join(",");
    assert_eq!(named.split(',').map(str::trim).collect::<Vec<_>>(), tags);
    for tag in tags {
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200).body, bytes);
    }
}

#[test]
fn pull_from_a_repository_that_does_not_exist_is_404() {
    let daemon = Daemon::start();
    daemon.get("/v2/missing/manifests/1").expect(404);
    daemon.get(&format!("/v2/missing/blobs/{}", unknown())).expect(404);
    daemon.get("/v2/missing/tags/list").expect(404);
}

#[test]
fn manifest_of_four_megabytes_is_accepted_and_a_larger_one_is_413() {
    let daemon = Daemon::start();
    let config = daemon.push_blob("a", b"{}");
    let sized = |length: usize| {
        let manifest = |padding: &str| {
            let whole = json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "padding": padding,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            });
            serde_json::to_vec(&whole).unwrap()
        };
        manifest(&"x".repeat(length - manifest("").len()))
    };
    daemon.put_manifest("a", "large", OCI_MANIFEST, &sized(4_000_000)).expect(201);
    daemon.put_manifest("a", "larger", OCI_MANIFEST, &sized((4 << 20) + 1)).expect(413);
}

#[test]
fn subject_is_confirmed_by_oci_subject() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let (_, answer) = push_manifest(&daemon, "a", &json!({"subject": subject(&image)}));
    assert_eq!(answer.expect(201).required_header("oci-subject"), image);
}
