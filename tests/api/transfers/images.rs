//! `images`: manifests and tags of one repository, in one transaction.

use super::*;

#[test]
fn images_are_named_and_pulled() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let child = transfer.put_image(b"layer");
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": digest(child.as_bytes()), "size": child.len() }],
    })
    .to_string();
    transfer.call("POST", "/blobs", index.as_bytes()).expect(201);
    let mut request =
        images("team/app", &[&child, &index], &[("1", &index, Some(7)), ("latest", &index, None)]);
    // The daemon has it already.
    request["manifests"][1]["data"] = Value::Null;
    request["manifests"][1]["media_type"] = OCI_INDEX.into();
    let answer = transfer.images(&request).expect(200).json();
    for number in 0..2 {
        assert_eq!(answer["tags"][number]["outcome"], "set", "{answer}");
        assert_eq!(answer["manifests"][number]["outcome"], "stored", "{answer}");
    }
    let pulled = daemon.get("/v2/team/app/manifests/latest").expect(200);
    assert_eq!(
        (pulled.body.as_slice(), pulled.required_header("content-type").as_str()),
        (index.as_bytes(), OCI_INDEX)
    );
    daemon.get(&format!("/v2/team/app/manifests/{}", digest(child.as_bytes()))).expect(200);
    assert_eq!(daemon.get(&format!("/v2/team/app/blobs/{}", digest(b"layer"))).expect(200).body, b"layer");
    // The events name the local user.
    let events = call(&daemon, "GET", "events?kind=tag", b"").expect(200).lines();
    assert_eq!(events.len(), 2);
    assert!(
        events.iter().all(|event| event["cause"] == "import" && event["actor"]["kind"] == "local"),
        "{events:?}"
    );
    // A second run changes nothing.
    let again = transfer.images(&request).expect(200).json();
    assert_eq!(again["tags"][0]["outcome"], "unchanged");
    assert_eq!(call(&daemon, "GET", "events?kind=tag", b"").expect(200).lines().len(), 2);
}

#[test]
fn incomplete_images_get_no_name_and_do_not_stop_others() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let (whole, config) = (transfer.put_image(b"layer"), br#"{"architecture":"arm64","os":"linux"}"#);
    let broken = manifest_of(config, b"missing");
    let request = images("a", &[&broken, &whole], &[("broken", &broken, None), ("whole", &whole, None)]);
    let answer = transfer.images(&request).expect(200).json();
    let missing = json!([{ "digest": digest(b"missing"), "size": 7 }]);
    assert_eq!(answer["tags"][0]["outcome"], "incomplete");
    assert_eq!((&answer["tags"][0]["missing"], &answer["manifests"][0]["missing"]), (&missing, &missing));
    assert_eq!(
        (&answer["tags"][1]["outcome"], &answer["manifests"][0]["outcome"]),
        (&json!("set"), &json!("incomplete"))
    );
    daemon.get("/v2/a/manifests/broken").expect(404);
    daemon.get("/v2/a/manifests/whole").expect(200);
    transfer.put(b"missing").expect(201);
    assert_eq!(transfer.name("a", &broken, "broken", 1)["outcome"], "set");
}

#[test]
fn tags_follow_the_times_of_the_exporting_registry() {
    let daemon = Daemon::with_config(
        "[[immutable]]\nrepositories = [\"fixed\"]\ntags = [\"*\"]\n[log]\nlevel = \"warn\"\n",
    );
    let transfer = Transfer::open(&daemon);
    let (first, second) = (transfer.put_image(b"1"), transfer.put_image(b"2"));
    assert_eq!(transfer.name("a", &first, "t", 10)["outcome"], "set");
    let moved = transfer.name("a", &second, "t", 20);
    assert_eq!((&moved["outcome"], &moved["old"]), (&json!("moved"), &json!(digest(first.as_bytes()))));
    let kept = transfer.name("a", &first, "t", 15);
    assert_eq!((&kept["outcome"], &kept["old"]), (&json!("kept"), &json!(digest(second.as_bytes()))));
    assert!(kept["reason"].is_string());
    let mut request = images("a", &[&first], &[("t", &first, Some(15))]);
    request["policy"]["force"] = true.into();
    assert_eq!(transfer.images(&request).expect(200).json()["tags"][0]["outcome"], "moved");
    assert_eq!(transfer.name("fixed", &first, "t", 10)["outcome"], "set");
    assert_eq!(transfer.name("fixed", &second, "t", 20)["outcome"], "kept");
    // A tag that a client pushed, and that no import has set.
    daemon.push_image("b", "t", b"local");
    assert_eq!(transfer.name("b", &first, "t", 1)["outcome"], "kept");
    let mut request = images("a", &[&second], &[("t", &second, Some(99))]);
    request["policy"]["keep_existing"] = true.into();
    assert_eq!(transfer.images(&request).expect(200).json()["tags"][0]["outcome"], "kept");
}

#[test]
fn malformed_requests_name_nothing() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "100")]);
    let transfer = Transfer::open(&daemon);
    let image = transfer.put_image(b"layer");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut request = images("a", &[&image], &[("t", &image, Some(1))]);
        change(&mut request);
        transfer.images(&request)
    };
    for name in ["", "A", "../a", "a//b", &"a".repeat(300)] {
        assert_eq!(with(&|request| request["repository"] = json!(name)).code(400), "name_invalid", "{name}");
    }
    for tag in ["", "-", "a/b", &"t".repeat(129)] {
        assert_eq!(with(&|request| request["tags"][0]["tag"] = json!(tag)).code(400), "tag_invalid", "{tag}");
    }
    let contradicts = |request: &mut Value| {
        let other = json!({ "tag": "t", "digest": digest(b"other"), "pushed": null });
        request["tags"].as_array_mut().unwrap().push(other);
    };
    assert_eq!(with(&contradicts).code(400), "tag_invalid");
    assert_eq!(with(&|request| request["manifests"][0]["data"] = json!("{}")).code(400), "digest_invalid");
    let not_one = |text: &str| {
        let request = images("a", &[text], &[]);
        transfer.images(&request).code(400)
    };
    assert_eq!(not_one("{}"), "manifest_invalid");
    assert_eq!(not_one("[]"), "manifest_invalid");
    let layer = format!("{{\"digest\":\"{}\",\"size\":1}}", digest(b"x"));
    let too_many = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"layers\":[{}]}}",
        vec![layer.as_str(); 101].join(",")
    );
    assert_eq!(not_one(&too_many), "manifest_invalid");
    assert_eq!(
        with(&|request| request["manifests"][0]["media_type"] = json!("text/html")).code(400),
        "manifest_invalid"
    );
    assert_eq!(with(&|request| request["origin"]["registry"] = json!("x")).code(400), "malformed");
    assert_eq!(transfer.call("POST", "/images", b"{").code(400), "malformed");
    let unknown = json!({ "media_type": OCI_MANIFEST, "data": null, "digest": digest(b"unknown") });
    assert_eq!(with(&|request| request["manifests"] = json!([unknown])).code(404), "blob_unknown");
    let many: Vec<Value> =
        (0..100_001).map(|number| json!({ "digest": format!("sha256:{number:064x}") })).collect();
    assert_eq!(with(&|request| request["manifests"] = json!(many)).code(413), "too_many");
    daemon.get("/v2/a/tags/list").expect(404);
}

#[test]
fn limits_of_names_and_a_read_only_registry_refuse_images() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "1")]);
    let transfer = Transfer::open(&daemon);
    let image = transfer.put_image(b"layer");
    let request = images("a", &[&image], &[("1", &image, None), ("2", &image, None)]);
    assert_eq!(transfer.images(&request).code(403), "denied");
    daemon.get("/v2/a/tags/list").expect(404);
    drop(daemon);
    let daemon = Daemon::with_env(&[("HOLDFAST_REGISTRY_READ_ONLY", "true")]);
    for purpose in ["import", "move"] {
        let body = json!({ "purpose": purpose }).to_string();
        assert_eq!(call(&daemon, "POST", "transfers", body.as_bytes()).code(405), "unsupported");
    }
    Transfer::of(&daemon, "export");
}

#[test]
fn platforms_of_an_index_may_be_missing_if_asked_and_are_wanted() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let child = transfer.put_image(b"layer");
    let descriptor = |digest: &str| json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": 9 });
    let absent = digest(b"elsewhere");
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(&digest(child.as_bytes())), descriptor(&absent)],
    })
    .to_string();
    let mut request = images("a", &[&child, &index], &[("1", &index, None)]);
    let answer = transfer.images(&request).expect(200).json();
    assert_eq!(answer["tags"][0]["missing"], json!([{ "digest": absent, "size": 9 }]));
    request["sparse"] = true.into();
    assert_eq!(transfer.images(&request).expect(200).json()["tags"][0]["outcome"], "set");
    daemon.get("/v2/a/manifests/1").expect(200);
    let inventory = call(&daemon, "GET", "inventory", b"").expect(200).text;
    let lines: Vec<&str> = inventory.lines().collect();
    assert!(
        lines[0].starts_with("# holdfast inventory 1 id=") && lines[0].contains(" host="),
        "{}",
        lines[0]
    );
    assert!(lines.contains(&digest(b"layer").as_str()));
    assert_eq!(lines.last(), Some(&format!("wanted a {absent}").as_str()));
    assert_eq!(lines.len(), 1 + 4 + 1, "{inventory}");
}

#[test]
fn a_dry_run_tells_the_outcome_and_stores_nothing() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "2")]);
    daemon.push_image("a", "here", b"here");
    let transfer = Transfer::open(&daemon);
    let config = br#"{"architecture":"arm64","os":"linux"}"#;
    // None of its blobs is here yet.
    let image = manifest_of(config, b"elsewhere");
    let dry_run = |tags: &[(&str, &str, Option<u64>)], others: u64| {
        let mut request = images("a", &[&image], tags);
        request["dry_run"] = json!({ "names": others, "tags": others });
        transfer.images(&request)
    };
    let answer = dry_run(&[("new", &image, None), ("here", &image, None)], 0).expect(200).json();
    let outcomes = [&answer["tags"][0]["outcome"], &answer["tags"][1]["outcome"]];
    assert_eq!(outcomes, ["set", "kept"], "{answer}");
    assert_eq!(dry_run(&[("new", &image, None)], 1).code(403), "denied");
    assert_eq!(dry_run(&[("1", &image, None), ("2", &image, None)], 0).code(403), "denied");
    assert_eq!(dry_run(&[("here", &image, None)], u64::MAX).code(403), "denied");
    let tags = daemon.get("/v2/a/tags/list").expect(200).json();
    assert_eq!(tags["tags"], json!(["here"]));
    assert!(!daemon.data.join("blobs/sha256").join(&digest(image.as_bytes())[7..]).exists());
}

#[test]
fn manifests_of_refused_images_are_collected() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "1")]);
    let transfer = Transfer::open(&daemon);
    let image = transfer.put_image(b"layer");
    let request = images("a", &[&image], &[("1", &image, None), ("2", &image, None)]);
    assert_eq!(transfer.images(&request).code(403), "denied");
    let files = || std::fs::read_dir(daemon.data.join("blobs/sha256")).unwrap().count();
    assert_eq!(files(), 3);
    transfer.call("DELETE", "", b"").expect(200);
    collect_all(&daemon);
    assert_eq!(files(), 0);
}
