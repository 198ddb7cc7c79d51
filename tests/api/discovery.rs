//! Content discovery: lists of tags, repositories and referrers (distribution specification, "Content Discovery").

use serde_json::json;

use crate::support::*;

#[test]
fn tags_and_repositories_are_listed_in_pages() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_LIST_MAX", "3")]);
    let (digest, bytes) = daemon.push_image("team/app", "b", b"layer");
    for tag in ["a", "C", "1.10", "1.9"] {
        daemon.put_manifest("team/app", tag, OCI_MANIFEST, &bytes).expect(201);
    }
    let first = daemon.get("/v2/team/app/tags/list").expect(200);
    assert_eq!(first.json(), json!({"name": "team/app", "tags": ["1.10", "1.9", "C"]}));
    assert_eq!(first.required_header("link"), "</v2/team/app/tags/list?n=3&last=C>; rel=\"next\"");
    let second = daemon.get("/v2/team/app/tags/list?n=3&last=C").expect(200);
    assert_eq!(second.json()["tags"], json!(["a", "b"]));
    assert!(second.header("link").is_none());
    let none = daemon.get("/v2/team/app/tags/list?n=0").expect(200);
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), None));
    let many = "/v2/team/app/tags/list?n=99999999999999999999999";
    assert_eq!(daemon.get(many).expect(200).json()["tags"].as_array().unwrap().len(), 3);
    daemon.get("/v2/team/app/tags/list?n=-1").expect(400);
    assert_eq!(daemon.get("/v2/no/tags/list").expect(404).error_code(), "NAME_UNKNOWN");
    for name in ["zoo", "app"] {
        daemon.push_image(name, "1", b"layer");
    }
    let catalog = daemon.get("/v2/_catalog?n=2").expect(200);
    assert_eq!(catalog.json(), json!({"repositories": ["app", "team/app"]}));
    assert_eq!(catalog.required_header("link"), "</v2/_catalog?n=2&last=team%2Fapp>; rel=\"next\"");
    daemon.request("DELETE", &format!("/v2/team/app/manifests/{digest}")).send().expect(202);
    assert_eq!(daemon.get("/v2/_catalog").expect(200).json(), json!({"repositories": ["app", "zoo"]}));
}

#[test]
fn referrers_are_filtered_and_merged_with_the_fallback_tag() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"sig"));
    let signature = image(&config, &layer, Some(&subject));
    daemon.put_manifest("a", &digest(&signature), OCI_MANIFEST, &signature).expect(201);
    let path = format!("/v2/a/referrers/{subject}");
    let all = daemon.get(&path).expect(200);
    assert_eq!(all.required_header("content-type"), OCI_INDEX);
    assert_eq!(all.json()["manifests"][0]["digest"], digest(&signature));
    assert_eq!(all.json()["manifests"][0]["artifactType"], "application/x-signature");
    let filtered = daemon.get(&format!("{path}?artifactType=x%2Fother")).expect(200);
    assert_eq!(filtered.json()["manifests"], json!([]));
    assert_eq!(filtered.required_header("oci-filters-applied"), "artifactType");
    let unknown = daemon.get(&format!("/v2/a/referrers/{}", digest(b"x"))).expect(200);
    assert_eq!(unknown.json()["manifests"], json!([]));
    // A client without the referrers API keeps its own list under the fallback tag.
    let (old, old_bytes) = daemon.push_image("a", "old-signature", b"old");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests":
        [{"mediaType": OCI_MANIFEST, "digest": old, "size": old_bytes.len()}]});
    let bytes = serde_json::to_vec(&index).unwrap();
    daemon.put_manifest("a", &subject.replace(':', "-"), OCI_INDEX, &bytes).expect(201);
    assert_eq!(daemon.get(&path).expect(200).json()["manifests"].as_array().unwrap().len(), 2);
    daemon.request("DELETE", &format!("/v2/a/manifests/{}", digest(&signature))).send().expect(202);
    assert_eq!(daemon.get(&path).expect(200).json()["manifests"].as_array().unwrap().len(), 1);
}
