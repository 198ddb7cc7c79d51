//! Pushes of manifests: references, tags, subjects, and the text that is refused.

use crate::support::*;

#[test]
fn push_by_digest_sets_tags_and_the_subject() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"sig"));
    let manifest = image(&config, &layer, Some(&subject));
    let reference = format!("{}?tag=x&tag=y&tag=x", digest(&manifest));
    let answer = daemon.put_manifest("a", &reference, OCI_MANIFEST, &manifest).expect(201);
    assert_eq!(answer.required_header("oci-subject"), subject);
    assert_eq!(answer.headers("oci-tag"), ["x", "y"]);
    assert_eq!(daemon.get("/v2/a/manifests/y").expect(200).body, manifest);
    let wrong = digest(b"something else");
    assert_eq!(
        daemon.put_manifest("a", &wrong, OCI_MANIFEST, &manifest).expect(400).error_code(),
        "DIGEST_INVALID"
    );
}

#[test]
fn an_answer_to_many_tags_has_less_than_90_header_lines() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "first", b"layer");
    let tags: Vec<String> = (0..100).map(|number| format!("1.{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reference = format!("{digest}?{}", query.join("&"));
    let answer = daemon.put_manifest("a", &reference, OCI_MANIFEST, &bytes).expect(201);
    let lines = answer.headers("oci-tag");
    assert_eq!(lines.len(), 50);
    assert_eq!(lines.join(", ").split(", ").collect::<Vec<_>>(), tags);
}

#[test]
fn an_image_with_a_missing_blob_is_refused() {
    let daemon = Daemon::start();
    let config = daemon.push_blob("a", b"{}");
    let missing = digest(b"missing");
    let manifest = image(&config, &missing, None);
    let answer = daemon.put_manifest("a", "1", OCI_MANIFEST, &manifest).expect(400);
    assert_eq!(answer.error_code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(answer.json()["errors"][0]["detail"][0]["digest"], missing.as_str());
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
}

#[test]
fn an_index_needs_one_of_its_manifests() {
    let daemon = Daemon::start();
    let (here, bytes) = daemon.push_image("a", "1", b"layer");
    let entry =
        |digest: &str| serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()});
    let index = |digests: &[&str]| {
        let manifests: Vec<_> = digests.iter().map(|digest| entry(digest)).collect();
        serde_json::to_vec(
            &serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}),
        )
        .unwrap()
    };
    let gone = digest(b"gone");
    daemon.put_manifest("a", "all", OCI_INDEX, &index(&[&here, &gone])).expect(201);
    daemon.put_manifest("a", "none", OCI_INDEX, &index(&[&gone])).expect(400);
    daemon.put_manifest("a", "empty", OCI_INDEX, &index(&[])).expect(201);
}

#[test]
fn invalid_manifests_are_refused() {
    let daemon = Daemon::start();
    let schema1 = br#"{"schemaVersion":1,"name":"a","tag":"1"}"#;
    let answer =
        daemon.put_manifest("a", "1", "application/vnd.docker.distribution.manifest.v1+json", schema1);
    assert_eq!(answer.expect(400).error_code(), "MANIFEST_INVALID");
    assert_eq!(
        daemon.put_manifest("a", "1", OCI_MANIFEST, b"{").expect(400).error_code(),
        "MANIFEST_INVALID"
    );
    let list = daemon.put_manifest("a", "1", OCI_MANIFEST, b" []").expect(400);
    assert_eq!(list.json()["errors"][0]["message"], "a manifest is a JSON object");
    let large = vec![b' '; (4 << 20) + 1];
    assert_eq!(daemon.put_manifest("a", "1", OCI_MANIFEST, &large).expect(413).error_code(), "SIZE_INVALID");
    assert_eq!(daemon.put_manifest("a", ".1", OCI_MANIFEST, b"{}").status, 400);
}

#[test]
fn unknown_fields_and_media_types_are_stored_unchanged() {
    let daemon = Daemon::start();
    let blob = daemon.push_blob("a", b"wasm");
    let bytes = format!(
        "{{ \"schemaVersion\": 2,\n \"mediaType\": \"{OCI_MANIFEST}\", \"artifactType\": \"x/y\", \"new\": [1], \
         \"config\": {{\"mediaType\": \"x/config\", \"digest\": \"{blob}\", \"size\": 4}}, \"layers\": [] }}"
    );
    let tag = format!("sha256-{}.sig", &blob["sha256:".len()..]);
    daemon.put_manifest("a", &tag, OCI_MANIFEST, bytes.as_bytes()).expect(201);
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200).body, bytes.as_bytes());
}

#[test]
fn dockers_own_formats_are_accepted() {
    const SCHEMA_2: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    let daemon = Daemon::start();
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"layer"));
    let foreign = digest(b"a foreign layer");
    let manifest = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "mediaType": SCHEMA_2,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": config},
        "layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 5, "digest": layer},
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 9, "digest": foreign,
             "urls": ["https://elsewhere.example/layer"]}]}))
    .unwrap();
    daemon.put_manifest("a", "windows", SCHEMA_2, &manifest).expect(201);
    let list = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "mediaType": LIST, "manifests": [
        {"mediaType": SCHEMA_2, "size": manifest.len(), "digest": digest(&manifest),
         "platform": {"architecture": "amd64", "os": "windows"}}]}))
    .unwrap();
    daemon.put_manifest("a", "all", LIST, &list).expect(201);
    for (tag, media_type, bytes) in [("windows", SCHEMA_2, &manifest), ("all", LIST, &list)] {
        let answer = daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200);
        assert_eq!((answer.required_header("content-type").as_str(), &answer.body), (media_type, bytes));
    }
    let other = daemon.put_manifest("a", "other", OCI_MANIFEST, &manifest);
    assert_eq!(
        other.expect(400).error_code(),
        "MANIFEST_INVALID",
        "its mediaType field contradicts the header"
    );
}

#[test]
fn push_and_delete_by_a_sha512_digest() {
    let daemon = Daemon::start();
    let blob = daemon.push_blob("a", b"{}");
    let manifest = image(&blob, &blob, None);
    let sha512 = holdfast::oci::Hasher::digest(holdfast::oci::Algorithm::Sha512, &manifest).to_string();
    let put = daemon.put_manifest("a", &format!("{sha512}?tag=long"), OCI_MANIFEST, &manifest).expect(201);
    assert_eq!(put.required_header("docker-content-digest"), sha512);
    for reference in ["long", sha512.as_str()] {
        let answer = daemon.get(&format!("/v2/a/manifests/{reference}")).expect(200);
        assert_eq!(
            (answer.required_header("docker-content-digest"), answer.body),
            (sha512.clone(), manifest.clone())
        );
    }
    daemon.request("DELETE", &format!("/v2/a/manifests/{sha512}")).send().expect(202);
    daemon.get("/v2/a/manifests/long").expect(404);
}

#[test]
fn invalid_unicode_is_refused_with_its_position() {
    let daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("a", "1", b"layer");
    let text = String::from_utf8(manifest).unwrap();
    let with = |field: &[u8]| {
        let end = text.len() - 1;
        [&text.as_bytes()[..end], b",\"x-unknown\":\"", field, b"\"}"].concat()
    };
    let position = text.len() - 1 + ",\"x-unknown\":\"ab".len();
    for field in [&b"ab\xff"[..], b"ab\xed\xa0\x80", br"ab\ud800", br"ab\ud800\u0041", br"ab\udc00\ud800"] {
        let refused = daemon.put_manifest("a", "2", OCI_MANIFEST, &with(field)).expect(400);
        assert_eq!(refused.error_code(), "MANIFEST_INVALID");
        let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("position {position}")), "{message}");
    }
    daemon.put_manifest("a", "2", OCI_MANIFEST, &with(br"ab\ud83d\ude00\\ud800")).expect(201);
}
