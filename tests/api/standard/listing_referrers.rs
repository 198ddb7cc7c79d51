//! Distribution specification, "Listing Referrers", "Referrers Tag Schema", "Enabling the Referrers API".

use super::*;

fn list(daemon: &Daemon, digest: &str, query: &str) -> (Vec<Value>, Response) {
    let answer = daemon.get(&format!("/v2/a/referrers/{digest}{query}")).expect(200);
    assert_eq!(answer.required_header("content-type"), OCI_INDEX);
    let body = answer.json();
    assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    (body["manifests"].as_array().unwrap().clone(), answer)
}

#[test]
fn no_referrers_are_an_empty_list_and_not_404() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    for digest in [image, unknown()] {
        assert!(list(&daemon, &digest, "").0.is_empty());
    }
}

#[test]
fn invalid_digest_is_400() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    for digest in ["sha256:abc", "1", "sha256"] {
        daemon.get(&format!("/v2/a/referrers/{digest}")).expect(400);
    }
}

#[test]
fn referrer_has_the_artifact_type_and_annotations_of_its_manifest() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let fields = json!({
        "subject": subject(&image), "artifactType": "application/vnd.example.sbom.v1",
        "annotations": {"org.example.format": "json"},
    });
    let (digest, answer) = push_manifest(&daemon, "a", &fields);
    answer.expect(201);
    let (referrers, _) = list(&daemon, &image, "");
    assert_eq!(referrers.len(), 1);
    assert_eq!((&referrers[0]["digest"], &referrers[0]["mediaType"]), (&json!(digest), &json!(OCI_MANIFEST)));
    assert_eq!(referrers[0]["artifactType"], "application/vnd.example.sbom.v1");
    assert_eq!(referrers[0]["annotations"], json!({"org.example.format": "json"}));
}

#[test]
fn image_without_an_artifact_type_has_that_of_its_config() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    for artifact_type in [json!({}), json!({"artifactType": ""})] {
        let mut fields = artifact_type;
        fields["subject"] = subject(&image);
        push_manifest(&daemon, "a", &fields).1.expect(201);
    }
    let (referrers, _) = list(&daemon, &image, "");
    assert_eq!(referrers.len(), 2);
    for referrer in referrers {
        assert_eq!(referrer["artifactType"], "application/vnd.example.config.v1+json");
    }
}

#[test]
fn index_without_an_artifact_type_has_none() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject(&image),
        "annotations": {"a": "b"},
    });
    let bytes = serde_json::to_vec(&index).unwrap();
    daemon.put_manifest("a", &digest(&bytes), OCI_INDEX, &bytes).expect(201);
    let (referrers, _) = list(&daemon, &image, "");
    assert_eq!(referrers[0]["mediaType"], OCI_INDEX);
    assert_eq!(referrers[0].get("artifactType"), None);
    assert_eq!(referrers[0]["annotations"], json!({"a": "b"}));
}

#[test]
fn filter_is_applied_and_named() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    for kind in ["one", "two"] {
        let artifact_type = format!("application/vnd.example.{kind}");
        push_manifest(&daemon, "a", &json!({"subject": subject(&image), "artifactType": artifact_type}))
            .1
            .expect(201);
    }
    let (referrers, answer) = list(&daemon, &image, "?artifactType=application/vnd.example.two");
    assert_eq!(answer.required_header("oci-filters-applied"), "artifactType");
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0]["artifactType"], "application/vnd.example.two");
    assert_eq!(list(&daemon, &image, "").1.header("oci-filters-applied"), None);
}

#[test]
fn list_that_is_too_long_for_one_manifest_has_a_link() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let mut pushed = std::collections::BTreeSet::new();
    for number in 0..40 {
        let annotations = json!({"number": number.to_string(), "padding": "x".repeat(8000)});
        let (digest, answer) =
            push_manifest(&daemon, "a", &json!({"subject": subject(&image), "annotations": annotations}));
        answer.expect(201);
        pushed.insert(digest);
    }
    let (mut path, mut pages, mut listed) =
        (format!("/v2/a/referrers/{image}"), 0, std::collections::BTreeSet::new());
    loop {
        let answer = daemon.get(&path).expect(200);
        pages += 1;
        for referrer in answer.json()["manifests"].as_array().unwrap() {
            assert!(listed.insert(referrer["digest"].as_str().unwrap().to_owned()), "listed twice");
        }
        let Some(link) = answer.header("link") else { break };
        let (next, relation) = link.split_once(';').unwrap();
        assert_eq!(relation.trim(), "rel=\"next\"");
        path = next.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        assert!(pages < 100);
    }
    assert!(pages > 1);
    assert_eq!(listed, pushed);
}

#[test]
fn enabling_the_api_includes_manifests_of_the_referrers_tag() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let (referrer, answer) = push_manifest(&daemon, "a", &json!({"subject": subject(&image)}));
    answer.expect(201);
    // An older client lists it under the tag of the schema as well: the response has it once.
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": referrer, "size": 2});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    daemon.put_manifest("a", &image.replace(':', "-"), OCI_INDEX, index.as_bytes()).expect(201);
    let (referrers, _) = list(&daemon, &image, "");
    assert_eq!(referrers.iter().filter(|one| one["digest"] == json!(referrer)).count(), 1);
}
