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
    assert!(answer.result_address().ends_with("count=0&moved=1"));
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
        assert_eq!(answer.result_address(), format!("/image/{to}:copied?done=copied"));
        assert!(browser.page(&answer.required_header("location")).contains("No content was moved."));
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
fn tag_value_and_linked_data_of_spdx_are_shown() {
    let daemon = Daemon::start();
    let linked = json!({"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [
        {"type": "CreationInfo", "specVersion": "3.0.1"},
        {"type": "software_Package", "spdxId": "urn:a", "name": "zlib", "software_packageVersion": "1.3"},
        {"type": "Relationship", "relationshipType": "hasDeclaredLicense", "from": "urn:a", "to": ["https://spdx.org/licenses/Zlib"]}]});
    let tag_value =
        b"SPDXVersion: SPDX-2.3\nPackageName: zlib\nPackageVersion: 1.3\nPackageLicenseDeclared: Zlib\n";
    let linked = serde_json::to_vec(&linked).unwrap();
    for (media_type, content, format) in
        [("text/spdx", &tag_value[..], "SPDX 2.3"), ("application/spdx+json", &linked, "SPDX 3.0.1")]
    {
        let (manifest, blob) = push_artifact(&daemon, "app", Some("s"), (media_type, "sbom", content), None);
        let mut browser = Browser::new(&daemon);
        assert!(browser.page("/image/app:s").contains(&format!("?document={blob}\">Read</a>")));
        let page = browser.page(&format!("/image/app@{manifest}?document={blob}"));
        for shown in [format, "1 package", "zlib", "1.3", "Zlib"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
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
    assert!(!page.contains(&format!("?file={}", digest(b"layer"))), "{page}");
}

#[test]
fn damaged_image_is_marked_on_the_overview_and_on_both_lists() {
    let daemon = Daemon::with_config(RULES);
    for name in ["alice", "bob"] {
        add_user(&daemon.data, name, "a long password");
    }
    let request = |method: &str, path: &str| daemon.request(method, path).login("alice", "a long password");
    let push = |name: &str, content: &[u8]| {
        let upload = format!("/v2/{name}/blobs/uploads/?digest={}", digest(content));
        request("POST", &upload).body(content).send().expect(201);
    };
    for name in ["team/app", "private/app", "public/whole"] {
        let layer = name.split('/').next().unwrap().as_bytes();
        push(name, layer);
        push(name, b"{}");
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2});
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(layer), "size": layer.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        let put = request("PUT", &format!("/v2/{name}/manifests/1")).header("Content-Type", OCI_MANIFEST);
        put.body(&serde_json::to_vec(&manifest).unwrap()).send().expect(201);
    }
    let damage = |content: &[u8]| {
        std::fs::remove_file(daemon.data.join("blobs").join(digest(content).replace(':', "/"))).unwrap();
    };
    damage(b"team");
    damage(b"private");
    let mut alice = Browser::of(&daemon, "alice", "a long password");
    assert!(!alice.page("/").contains("id=\"damaged\""), "not known yet");
    // A pull of the layer, and the page of the image find it.
    request("GET", &format!("/v2/team/app/blobs/{}", digest(b"team"))).send();
    alice.page("/image/private/app:1");
    let page = alice.page("/");
    assert!(
        page.contains("id=\"damaged\"")
            && page.contains("/image/team/app:1\"")
            && page.contains("/image/private/app:1\""),
        "{page}"
    );
    assert_eq!(alice.page("/repositories").matches(">damaged</span>").count(), 2);
    assert!(alice.page("/repository/team/app").contains(">damaged</span>"));
    assert!(!alice.page("/repository/public/whole").contains(">damaged</span>"));
    let mut bob = Browser::of(&daemon, "bob", "a long password");
    let page = bob.page("/");
    assert!(page.contains("/image/team/app:1\"") && !page.contains("private"), "{page}");
    push("team/app", b"team");
    push("private/app", b"private");
    assert!(!alice.page("/").contains("id=\"damaged\""));
    assert!(!alice.page("/repositories").contains(">damaged</span>"));
}

#[test]
fn layers_are_downloaded_as_files_by_users_who_may_pull() {
    let daemon = Daemon::with_env(&[("HOLDFAST_REGISTRY_SPARSE", "true")]);
    daemon.push_image("app", "1", b"layer");
    let gone =
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(b"gone"), "size": 4});
    push_image_with(&daemon, "app", &["2"], &config(), &json!({"layers": [gone]}));
    let mut browser = Browser::new(&daemon);
    let layer = digest(b"layer");
    assert!(browser.page("/image/app:1").contains(&format!("href=\"?file={layer}\" download>")));
    let file = browser.get(&format!("/image/app:1?file={layer}")).expect(200);
    assert_eq!(
        (file.body.as_slice(), file.required_header("content-type").as_str()),
        (&b"layer"[..], "application/octet-stream")
    );
    let name = file.required_header("content-disposition");
    assert!(
        name.starts_with(&format!("attachment; filename=\"{}", &layer["sha256:".len()..][..12])),
        "{name}"
    );
    let page = browser.page("/image/app:2");
    assert!(
        page.contains(">not here</span>") && !page.contains(&format!("?file={}", digest(b"gone"))),
        "{page}"
    );
    browser.get(&format!("/image/app:2?file={}", digest(b"gone"))).expect(404);
    add_user(&daemon.data, "alice", "a long password");
    Browser::new(&daemon).get(&format!("/image/app:1?file={layer}")).expect(303);
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

/// Returns the badges of a page, without those of its tables.
fn badges(page: &str) -> (bool, bool) {
    (page.contains(">signed</span>"), page.contains(">attestation</span>"))
}

#[test]
fn signatures_by_subject_have_the_same_badges_on_the_list_and_on_the_image() {
    for (media_type, predicate, expected) in [
        ("application/vnd.dev.cosign.artifact.sig.v1+json", None, (true, false)),
        ("application/vnd.cncf.notary.signature", None, (true, false)),
        (
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            Some("https://sigstore.dev/cosign/sign/v1"),
            (true, false),
        ),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", Some("https://example.org/tested"), (false, true)),
        ("application/x-note", None, (false, false)),
    ] {
        let daemon = Daemon::start();
        let image = push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
        let annotations =
            predicate.map_or(json!({}), |text| json!({"dev.sigstore.bundle.predicateType": text}));
        let subject = json!({"mediaType": OCI_MANIFEST, "digest": image, "size": 1});
        let fields = json!({"artifactType": media_type, "subject": subject, "annotations": annotations});
        push_image_with(&daemon, "app", &[], &config(), &fields);
        let mut browser = Browser::new(&daemon);
        let (list, page) = (browser.page("/repository/app"), browser.page("/image/app:1"));
        assert_eq!((badges(&list), badges(&page)), (expected, expected), "{media_type} {predicate:?}");
        // The tool that made the signature verifies it.
        let is_notation = media_type.contains("notary");
        for shown in [&page, &list] {
            assert_eq!(shown.contains("cosign verify"), expected.0 && !is_notation, "{media_type}");
            assert_eq!(shown.contains("notation verify registry/app:1"), is_notation, "{media_type}");
        }
    }
}

/// Pushes an index with an image for each platform; returns the digests of the images.
fn push_index(daemon: &Daemon, tag: &str, platforms: &[(&str, Option<&str>)]) -> Vec<String> {
    let mut entries = Vec::new();
    for (architecture, variant) in platforms {
        let mut config = config();
        config["architecture"] = json!(architecture);
        config["variant"] = json!(variant);
        config["config"]["Env"] = json!([format!("OF={architecture}")]);
        let image = push_image_with(daemon, "app", &[], &config, &json!({}));
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        entries.push(json!({"mediaType": OCI_MANIFEST, "digest": image, "size": 1, "platform": platform}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    daemon.put_manifest("app", tag, OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    let digests = entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned());
    digests.collect()
}

#[test]
fn image_and_index_are_compared_by_the_platform_of_the_image() {
    let daemon = Daemon::start();
    let all = push_index(&daemon, "all", &[("amd64", None), ("arm64", Some("v8")), ("arm", Some("v7"))]);
    push_index(&daemon, "other", &[("riscv64", None)]);
    let mut browser = Browser::new(&daemon);
    for image in &all {
        for path in [format!("a={image}&b=all"), format!("a=all&b={image}")] {
            let page = browser.page(&format!("/compare?name=app&{path}"));
            assert!(page.contains("id=\"equal\""), "{path}: {page}");
        }
    }
    // A builder may leave the variant out.
    let mut arm64 = config();
    arm64["architecture"] = json!("arm64");
    arm64["variant"] = Value::Null;
    arm64["config"]["Env"] = json!(["OF=arm64"]);
    push_image_with(&daemon, "app", &["1"], &arm64, &json!({}));
    assert!(browser.page("/compare?name=app&a=1&b=all").contains("id=\"equal\""));
    for path in ["a=1&b=other", "a=other&b=1"] {
        let refused = text(&browser.get(&format!("/compare?name=app&{path}")).expect(422));
        let words =
            "The index other has no image for linux/arm64, so they cannot be compared. It has linux/riscv64.";
        assert!(refused.contains(words), "{refused}");
    }
    let refused = text(&browser.get("/compare?name=app&a=all&b=other").expect(422));
    assert!(refused.contains("The index other has no image for linux/amd64"), "{refused}");
}

#[test]
fn page_beyond_the_last_one_is_the_last_one_on_every_list() {
    let daemon = Daemon::start();
    let image = push_image_with(&daemon, "app", &["1"], &config(), &json!({}));
    push_image_with(&daemon, "app", &[], &config(), &json!({"annotations": {"a": "b"}}));
    let sbom = spdx(&[json!({"name": "zlib"})]);
    let (manifest, blob) =
        push_artifact(&daemon, "app", None, ("application/spdx+json", "s.json", &sbom), Some(&image));
    let mut browser = Browser::new(&daemon);
    for (path, row) in [
        ("/repository/app".to_owned(), "/image/app:1\""),
        ("/repository/app?sort=name&dir=down".to_owned(), "/image/app:1\""),
        ("/repository/app?tab=untagged".to_owned(), "data-label=\"Kept\""),
        ("/repositories".to_owned(), "/repository/app\""),
        ("/search?q=app".to_owned(), "/repository/app\""),
        ("/activity".to_owned(), "id=\"events\""),
        (format!("/image/app@{manifest}?document={blob}"), "zlib"),
        ("/image/app:1?list=layers".to_owned(), "data-label=\"Digest\""),
        ("/image/app:1?list=history".to_owned(), "COPY app"),
        ("/settings?section=storage".to_owned(), "storage.path"),
    ] {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut answer = browser.get(&format!("{path}{join}page=99"));
        if answer.status == 303 {
            let to = answer.required_header("location");
            let base = path.split('?').next().unwrap();
            let to = if to.starts_with('?') { format!("{base}{to}") } else { to };
            assert!(to.ends_with("page=1"), "{path}: {to}");
            answer = browser.get(&to);
        }
        let page = text(&answer.expect(200));
        assert!(page.contains(row), "{path}: {page}");
    }
}
