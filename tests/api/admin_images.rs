//! The pages of repositories and images: attachments, manifests without a tag, documents, copies and comparisons.

use serde_json::{Value, json};

use crate::support::browser::{Browser, text};
use crate::support::images::{config, push_image_with, with_images};
use crate::support::*;

const MARKUP: &str = "<script>alert(1)</script>";

/// Pushes an artifact with one file, attached to `subject` if there is one; returns the digests of manifest and file.
fn push_artifact(
    daemon: &Daemon,
    name: &str,
    tag: Option<&str>,
    (media_type, title, content): (&str, &str, &[u8]),
    subject: Option<&str>,
) -> (String, String) {
    let empty = daemon.push_blob(name, b"{}");
    let blob = daemon.push_blob(name, content);
    let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": media_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": media_type, "digest": blob, "size": content.len(),
            "annotations": {"org.opencontainers.image.title": title}}]});
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
    }
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let reference = tag.map_or_else(|| digest(&bytes), str::to_owned);
    daemon.put_manifest(name, &reference, OCI_MANIFEST, &bytes).expect(201);
    (digest(&bytes), blob)
}

fn spdx(packages: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"spdxVersion": "SPDX-2.3", "name": MARKUP, "packages": packages})).unwrap()
}

#[test]
fn attachments_are_folded_under_their_image() {
    let daemon = Daemon::start();
    let image = push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
    let signature = format!("{}.sig", image.replace(':', "-"));
    push_artifact(&daemon, "app", Some(&signature), ("application/x", "sig", b"{}"), None);
    let sbom = spdx(&[json!({"name": "zlib"})]);
    push_artifact(&daemon, "app", None, ("application/spdx+json", "sbom.json", &sbom), Some(&image));
    let lone = format!("sha256-{}.sig", "a".repeat(64));
    push_artifact(&daemon, "app", Some(&lone), ("application/x", "sig", b"{}"), None);
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/repository/app");
    assert!(page.contains(">signed</span>") && page.contains(">SBOM</span>"), "{page}");
    assert!(!page.contains(&format!("app:{signature}\"")), "{page}");
    assert!(page.contains(&format!("app:{lone}\"")), "its image is not here: {page}");
    let page = browser.page("/image/app:1");
    assert!(page.contains(&format!("/image/app:{signature}\"")), "{page}");
    assert!(page.contains("cosign verify --key cosign.pub registry/app:1"), "{page}");
    assert!(page.contains("<h1>app:1 "), "{page}");
}

#[test]
fn description_comes_from_the_newest_image_and_links_only_to_the_web() {
    let daemon = Daemon::start();
    let annotations = |source: &str| {
        json!({"annotations": {"org.opencontainers.image.title": MARKUP,
            "org.opencontainers.image.source": source, "org.opencontainers.image.licenses": "MIT"}})
    };
    push_image_with(&daemon, "app", &["1"], &config(), &annotations("https://forge.example/app"));
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/repository/app");
    let link = "href=\"https://forge.example/app\" rel=\"noopener noreferrer nofollow\"";
    assert!(page.contains(link) && page.contains("Licence: MIT") && !page.contains(MARKUP), "{page}");
    push_image_with(&daemon, "app", &["2"], &config(), &annotations("javascript:alert(1)"));
    let page = browser.page("/repository/app");
    assert!(!page.contains("javascript:") && page.contains("Licence: MIT"), "{page}");
}

#[test]
fn manifests_without_a_tag_are_listed_with_their_reason_and_deleted() {
    let daemon = Daemon::start();
    let child = push_image_with(&daemon, "app", &[], &config(), &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": 1}]});
    daemon.put_manifest("app", "1", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    let lone = push_image_with(&daemon, "app", &[], &config(), &json!({"annotations": {"a": "b"}}));
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/repository/app?tab=untagged");
    assert!(page.contains("2 manifests without a tag") && page.contains("Part of <a"), "{page}");
    assert!(page.contains("no retention rule removes"), "{page}");
    let confirmation = browser.page(&format!("/delete/untagged?name=app&digest={lone}"));
    assert!(confirmation.contains("Delete 1 manifest of app?"), "{confirmation}");
    // One that has been tagged meanwhile stays.
    let manifest = daemon.get(&format!("/v2/app/manifests/{lone}")).expect(200).body;
    daemon.put_manifest("app", "kept", OCI_MANIFEST, &manifest).expect(201);
    let answer = browser.post("/delete/untagged", &[("name", "app"), ("digest", &lone)]).expect(303);
    assert!(answer.required_header("location").ends_with("count=0&moved=1"));
    daemon.request("DELETE", "/v2/app/manifests/kept").send().expect(202);
    browser.post_as("/delete/untagged", &[("name", "app"), ("digest", &lone)], "http://registry").expect(403);
    browser.post("/delete/untagged", &[("name", "app"), ("digest", &lone)]).expect(303);
    daemon.get(&format!("/v2/app/manifests/{lone}")).expect(404);
    daemon.get(&format!("/v2/app/manifests/{child}")).expect(200);
}

#[test]
fn copy_gives_an_image_another_name_without_moving_bytes() {
    let daemon = Daemon::start();
    let child = push_image_with(&daemon, "app", &[], &config(), &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": 1}]});
    let bytes = serde_json::to_vec(&index).unwrap();
    daemon.put_manifest("app", "1", OCI_INDEX, &bytes).expect(201);
    let (mut browser, image) = (Browser::new(&daemon), digest(&bytes));
    assert!(browser.page("/image/app:1").contains("action=\"/copy\""));
    let fields = |to| [("name", "app"), ("digest", image.as_str()), ("to", to), ("tag", "copied")];
    browser.post_as("/copy", &fields("team/new"), "http://registry").expect(403);
    for to in ["team/new", "app"] {
        let answer = browser.post("/copy", &fields(to)).expect(303);
        assert_eq!(answer.required_header("location"), format!("/image/{to}:copied?done=copied"));
        assert_eq!(daemon.get(&format!("/v2/{to}/manifests/copied")).expect(200).body, bytes);
        let copy = daemon.get(&format!("/v2/{to}/manifests/{child}")).expect(200).json();
        let layer = copy["layers"][0]["digest"].as_str().unwrap().to_owned();
        daemon.get(&format!("/v2/{to}/blobs/{layer}")).expect(200);
    }
    for (name, value) in [("to", "UPPER"), ("tag", "a b"), ("digest", "sha256:0")] {
        let wrong = fields("app").map(|(known, old)| (known, if known == name { value } else { old }));
        browser.post("/copy", &wrong).expect(422);
    }
}

const RULES: &str = r#"
[[immutable]]
repositories = ["team/fixed"]
tags = ["1"]
[[auth.rule]]
users = ["alice"]
repositories = ["*"]
allow = ["pull", "push", "delete", "catalog"]
[[auth.rule]]
users = ["bob"]
repositories = ["team/*"]
allow = ["pull", "push"]
[[auth.rule]]
users = ["bob"]
repositories = ["public/*"]
allow = ["pull"]
"#;

#[test]
fn copy_keeps_immutable_tags_and_needs_both_rights() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for name in ["alice", "bob"] {
        add_user(&data, name, "a long password");
    }
    let daemon = Daemon::with_config_at(&data, RULES);
    let mut alice = Browser::of(&daemon, "alice", "a long password");
    let mut bob = Browser::of(&daemon, "bob", "a long password");
    let request = |method: &str, path: &str| daemon.request(method, path).login("alice", "a long password");
    let push = |name: &str, note: &str| {
        request("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", digest(b"{}")))
            .body(b"{}")
            .send()
            .expect(201);
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"note": note},
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2}});
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let put = request("PUT", &format!("/v2/{name}/manifests/1")).header("Content-Type", OCI_MANIFEST);
        put.body(&bytes).send().expect(201);
        digest(&bytes)
    };
    let (fixed, other) = (push("team/fixed", "one"), push("team/app", "two"));
    let (public, private) = (push("public/app", "three"), push("private/app", "four"));
    let copy = |browser: &mut Browser, from: &str, digest: &str, to: &str| {
        browser.post("/copy", &[("name", from), ("digest", digest), ("to", to), ("tag", "1")])
    };
    let tag_of = |name: &str| {
        let head = request("HEAD", &format!("/v2/{name}/manifests/1")).send();
        (head.status == 200).then(|| head.required_header("docker-content-digest"))
    };
    copy(&mut Browser::new(&daemon), "team/app", &other, "team/new").expect(303);
    assert_eq!(tag_of("team/new"), None);
    copy(&mut bob, "private/app", &private, "team/new").expect(404);
    copy(&mut bob, "public/app", &public, "private/app").expect(403);
    copy(&mut alice, "team/app", &other, "team/fixed").expect(403);
    copy(&mut alice, "team/app", &fixed, "team/new").expect(404);
    assert_eq!(tag_of("team/new"), None);
    assert_eq!(tag_of("private/app"), Some(private));
    assert_eq!(tag_of("team/fixed"), Some(fixed.clone()));
    copy(&mut bob, "public/app", &public, "team/new").expect(303);
    assert_eq!(tag_of("team/new"), Some(public));
    copy(&mut bob, "team/fixed", &fixed, "team/fixed").expect(303);
}

#[test]
fn nested_indexes_that_share_an_image_are_copied() {
    let daemon = Daemon::start();
    let image = push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
    let size = |digest: &str| {
        daemon
            .request("HEAD", &format!("/v2/app/manifests/{digest}"))
            .send()
            .expect(200)
            .required_header("content-length")
    };
    let put_index = |reference: Option<&str>, entries: &[(&str, &str)]| {
        let entry = |(media_type, digest): &(&str, &str)| json!({"mediaType": media_type, "digest": digest, "size": size(digest).parse::<u64>().unwrap()});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": entries.iter().map(entry).collect::<Vec<_>>()});
        let bytes = serde_json::to_vec(&index).unwrap();
        let reference = reference.map_or_else(|| digest(&bytes), str::to_owned);
        daemon.put_manifest("app", &reference, OCI_INDEX, &bytes).expect(201);
        digest(&bytes)
    };
    let inner = put_index(None, &[(OCI_MANIFEST, &image)]);
    // Whichever order the entries have, the inner index needs the image first.
    let outer = put_index(Some("2"), &[(OCI_INDEX, &inner), (OCI_MANIFEST, &image)]);
    let reversed = put_index(Some("3"), &[(OCI_MANIFEST, &image), (OCI_INDEX, &inner)]);
    let mut browser = Browser::new(&daemon);
    browser.page("/repositories");
    for (digest, to) in [(&outer, "one"), (&reversed, "two")] {
        browser.post("/copy", &[("name", "app"), ("digest", digest), ("to", to), ("tag", "1")]).expect(303);
        for reference in ["1", &inner, &image] {
            daemon.get(&format!("/v2/{to}/manifests/{reference}")).expect(200);
        }
    }
}

#[test]
fn documents_are_readable_and_searched_and_everything_is_text() {
    let daemon = Daemon::start();
    let packages: Vec<Value> = (0..10_000)
        .map(|number| json!({"name": format!("lib-{number}{MARKUP}"), "versionInfo": number, "licenseDeclared": "MIT"}))
        .collect();
    let sbom = ("application/spdx+json", "../x\"y.spdx.json", &spdx(&packages)[..]);
    let (manifest, blob) = push_artifact(&daemon, "app", Some("sbom"), sbom, None);
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/image/app:sbom");
    assert!(page.contains(&format!("?document={blob}\">Read</a>")), "{page}");
    let path = format!("/image/app@{manifest}?document={blob}");
    let page = browser.page(&path);
    assert!(page.contains("10000 packages") && !page.contains(MARKUP), "{page}");
    let found = browser.page(&format!("{path}&q=LIB-9999"));
    assert!(found.contains("1 of 10000 packages") && found.contains("lib-9999"), "{found}");
    assert!(browser.page(&format!("{path}&page=250")).contains("lib-9999"));
    let file = browser.get(&format!("/image/app:sbom?file={blob}")).expect(200);
    assert_eq!(file.required_header("content-disposition"), "attachment; filename=\"x_y.spdx.json\"");
    assert_eq!(file.required_header("content-type"), "application/octet-stream");
    assert_eq!(file.body, spdx(&packages));
    // A blob of the repository that the manifest does not have.
    let other = daemon.push_blob("app", b"other");
    browser.get(&format!("/image/app:sbom?file={other}")).expect(404);
    browser.get(&format!("/image/app:sbom?document={other}")).expect(404);
    browser.get("/image/app:sbom?document=x").expect(404);
}

#[test]
fn provenance_is_shown_and_hostile_documents_are_refused() {
    let daemon = Daemon::start();
    let statement = json!({"predicateType": "https://slsa.dev/provenance/v0.2", "predicate": {
        "builder": {"id": MARKUP}, "materials": [{"uri": "git+https://forge/app", "digest": {"sha1": "c0ffee"}}]}});
    let statement = serde_json::to_vec(&statement).unwrap();
    let mut browser = Browser::new(&daemon);
    let mut shown = |content: &[u8]| {
        let artifact = ("application/vnd.in-toto+json", "p.json", content);
        let (manifest, blob) = push_artifact(&daemon, "app", Some("p"), artifact, None);
        browser.get(&format!("/image/app@{manifest}?document={blob}"))
    };
    let page = text(&shown(&statement).expect(200));
    assert!(
        page.contains("<h1>Provenance</h1>") && page.contains("c0ffee") && !page.contains(MARKUP),
        "{page}"
    );
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    for content in [&b"\xff"[..], b"{}", b"{\"predicateType\":7}", deep.as_bytes(), b""] {
        shown(content).expect(422);
    }
    shown(&vec![b' '; (4 << 20) + 1]).expect(422);
}

#[test]
fn two_tags_are_compared() {
    let daemon = Daemon::start();
    push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
    let mut other = config();
    other["config"]["Env"] = json!(["COLOUR=<b>blue</b>"]);
    other["history"][0]["created_by"] = json!("RUN |1 V=5 /bin/sh -c make <b> # buildkit");
    push_image_with(&daemon, "app", &["2"], &other, &json!({}));
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/compare?name=app&a=1&b=2");
    for shown in [
        "In both: 1 layer",
        "COLOUR",
        "green",
        "&#60;b&#62;blue",
        "RUN make &#60;b&#62;",
        "COPY app /bin/app",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(browser.page("/compare?name=app&a=1&b=1").contains("id=\"equal\""));
    browser.get("/compare?name=app&a=1&b=nowhere").expect(404);
    browser.get("/compare?name=none&a=1&b=1").expect(404);
    browser.get("/compare?name=app&a=1").expect(422);
}

#[test]
fn damaged_layer_is_shown_on_the_image() {
    let daemon = Daemon::start();
    daemon.push_image("app", "1", b"layer");
    std::fs::remove_file(daemon.data.join("blobs").join(digest(b"layer").replace(':', "/"))).unwrap();
    let page = Browser::new(&daemon).page("/image/app:1");
    assert!(
        page.contains("1 file of this image is missing or corrupt") && page.contains(">damaged</span>"),
        "{page}"
    );
}

#[test]
fn pages_of_images_need_a_log_in() {
    let daemon = with_images();
    let mut browser = Browser::new(&daemon);
    for path in [
        "/repository/team/app?tab=untagged",
        "/compare?name=team/app&a=1.9&b=1.10",
        "/delete/untagged?name=team/app",
        "/image/team/app:1.9?file=sha256:0",
    ] {
        browser.get(path).expect(303);
    }
}
