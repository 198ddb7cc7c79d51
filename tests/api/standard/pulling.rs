//! Distribution specification, "Pulling manifests", "Pulling blobs", "Checking if content exists in the registry".

use super::*;

const NAMES: [(&str, bool); 7] = [
    ("a", true),
    ("library/alpine", true),
    ("a/b-c/d__e/f.g/h---i", true),
    ("Upper", false),
    ("a//b", false),
    ("-a", false),
    ("a___b", false),
];

#[test]
fn pulling_manifests_name_matches_the_regular_expression() {
    let daemon = Daemon::start();
    for (name, valid) in NAMES {
        let answer = daemon.request("POST", &format!("/v2/{name}/blobs/uploads/")).send();
        assert_eq!(answer.status == 202, valid, "{name}: {}", answer.status);
    }
}

#[test]
fn pulling_manifests_reference_is_a_tag_or_a_digest() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    for reference in ["1", &digest] {
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{reference}")).expect(200).body, bytes);
    }
    for reference in
        ["sha256:123", "sha256:", ".hidden", "-x", "a%20b", "md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        let status = daemon.get(&format!("/v2/a/manifests/{reference}")).status;
        assert!(matches!(status, 400 | 404), "{reference}: {status}");
    }
}

#[test]
fn pulling_manifests_tag_has_at_most_128_characters() {
    let daemon = Daemon::start();
    let (_, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.put_manifest("a", &"x".repeat(128), OCI_MANIFEST, &bytes).expect(201);
    daemon.put_manifest("a", &"_".repeat(128), OCI_MANIFEST, &bytes).expect(201);
    for tag in ["x".repeat(129), ".x".into(), "-x".into(), "a+b".into()] {
        let status = daemon.put_manifest("a", &tag, OCI_MANIFEST, &bytes).status;
        assert!((400..500).contains(&status), "{tag}: {status}");
    }
}

#[test]
fn pulling_manifests_get_is_200_with_bytes_and_digest() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    let answer = daemon.get("/v2/a/manifests/1").expect(200);
    assert_eq!((answer.required_header("docker-content-digest"), &answer.body), (digest, &bytes));
    assert_eq!(answer.required_header("content-type"), OCI_MANIFEST);
}

#[test]
fn pulling_manifests_unknown_is_404() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    for path in ["/v2/a/manifests/2".to_owned(), format!("/v2/a/manifests/{}", unknown())] {
        assert_eq!(daemon.get(&path).expect(404).error_code(), "MANIFEST_UNKNOWN");
    }
    assert_eq!(daemon.get("/v2/missing/manifests/1").expect(404).error_code(), "NAME_UNKNOWN");
}

#[test]
fn pulling_blobs_get_is_200_with_bytes_and_digest() {
    let daemon = Daemon::start();
    let digest = daemon.push_blob("a", b"layer");
    let answer = daemon.get(&format!("/v2/a/blobs/{digest}")).expect(200);
    assert_eq!(
        (answer.required_header("docker-content-digest"), answer.body.as_slice()),
        (digest, b"layer".as_slice())
    );
}

#[test]
fn pulling_blobs_unknown_in_the_repository_is_404() {
    let daemon = Daemon::start();
    daemon.push_blob("a", b"layer");
    let other = daemon.push_blob("b", b"of another repository");
    for digest in [unknown(), other] {
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{digest}")).expect(404).error_code(), "BLOB_UNKNOWN");
    }
}

#[test]
fn checking_existence_head_is_200_with_digest_and_length() {
    let daemon = Daemon::start();
    let (manifest, bytes) = daemon.push_image("a", "1", b"layer");
    let blob = digest(b"layer");
    for (path, digest, length) in [
        ("/v2/a/manifests/1".to_owned(), &manifest, bytes.len()),
        (format!("/v2/a/manifests/{manifest}"), &manifest, bytes.len()),
        (format!("/v2/a/blobs/{blob}"), &blob, 5),
    ] {
        let answer = daemon.request("HEAD", &path).send().expect(200);
        assert_eq!(answer.required_header("docker-content-digest"), *digest);
        assert_eq!(answer.required_header("content-length"), length.to_string());
        assert!(answer.body.is_empty());
    }
}

#[test]
fn checking_existence_head_of_unknown_is_404() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    for path in ["manifests/2".to_owned(), format!("manifests/{}", unknown()), format!("blobs/{}", unknown())]
    {
        daemon.request("HEAD", &format!("/v2/a/{path}")).send().expect(404);
    }
}
