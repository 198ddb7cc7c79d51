//! Distribution specification, "Determining Support", "Error Codes".

use super::*;

const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

#[test]
fn determining_support_is_200() {
    Daemon::start().get("/v2/").expect(200);
}

#[test]
fn errors_have_the_format_and_a_code_of_the_table() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let requests = [
        ("GET", "/v2/a/manifests/2".to_owned()),
        ("GET", format!("/v2/a/blobs/{}", unknown())),
        ("GET", "/v2/UPPER/manifests/1".to_owned()),
        ("GET", "/v2/missing/tags/list".to_owned()),
        ("GET", "/v2/a/referrers/sha256:abc".to_owned()),
        ("GET", "/v2/a/blobs/uploads/00000000-0000-8000-8000-000000000000".to_owned()),
        ("POST", format!("/v2/a/blobs/uploads/?digest={}", unknown())),
        ("PUT", "/v2/a/manifests/1".to_owned()),
        ("TRACE", "/v2/a/manifests/1".to_owned()),
        ("GET", "/v2/a/nothing".to_owned()),
    ];
    for (method, path) in requests {
        let answer = daemon.request(method, &path).send();
        assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.status);
        assert_eq!(answer.required_header("content-type"), "application/json", "{method} {path}");
        for error in answer.json()["errors"].as_array().unwrap() {
            let code = error["code"].as_str().unwrap();
            assert!(CODES.contains(&code), "{method} {path}: {code}");
            assert!(error["message"].is_string());
        }
    }
}
