//! Archives of images on the admin page: downloads and uploads, with the rights of their users.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::changed_rights::{FULL, Registry, TEAM};
use crate::support::browser::{Browser, text};
use crate::support::media::{Image, Media};
use crate::support::*;

const RULES: &str = r#"
[[auth.rule]]
users = ["alice"]
repositories = ["*"]
allow = ["pull", "push", "delete"]

[[auth.rule]]
users = ["bob"]
repositories = ["team/*"]
allow = ["pull", "push"]

[[auth.rule]]
users = ["reader"]
repositories = ["*"]
allow = ["pull"]

[[auth.rule]]
users = ["drop"]
repositories = ["inbox/*"]
allow = ["push"]
"#;

/// Starts a registry with users of different rights.
fn with_users(directory: &tempfile::TempDir) -> Daemon {
    let data = directory.path().join("data");
    for name in ["alice", "bob", "reader", "drop"] {
        add_user(&data, name, "secret");
    }
    Daemon::with_config_at(&data, RULES)
}

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Returns an archive of an image layout with these images under their names.
fn archive(images: &[(&str, &Image)]) -> Vec<u8> {
    let mut media = Media::default();
    let index: Vec<Value> =
        images.iter().map(|(name, image)| image.descriptor(&[("io.containerd.image.name", *name)])).collect();
    media.layout("", &images.iter().map(|(_, image)| *image).collect::<Vec<_>>(), &index);
    tar_of(&media)
}

fn tar_of(media: &Media) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    media.write_tar(file.path());
    std::fs::read(file.path()).unwrap()
}

/// A form with a file, as browsers send it.
struct Form(Vec<u8>);

impl Form {
    fn new() -> Self {
        Form(Vec::new())
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        let head = format!("--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.0.extend(head.bytes());
        self
    }

    fn file(mut self, content: &[u8]) -> Self {
        let head = "--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"save.tar\"\r\n\
                    Content-Type: application/x-tar\r\n\r\n";
        self.0.extend(head.bytes());
        self.0.extend(content);
        self.0.extend(b"\r\n");
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend(b"--bound--\r\n");
        self.0
    }
}

const FORM: &str = "multipart/form-data; boundary=bound";

fn request(browser: &Browser) -> Request {
    browser.request("POST", "/import").header("Origin", "http://registry").header("Content-Type", FORM)
}

fn send(browser: &Browser, body: &[u8]) -> Response {
    request(browser).body(body).send()
}

/// Uploads an archive with these fields; returns the response.
fn upload(browser: &mut Browser, fields: &[(&str, &str)], archive: &[u8]) -> Response {
    browser.get("/import").expect(200);
    let mut form = Form::new().field("token", &browser.token);
    for (name, value) in fields {
        form = form.field(name, value);
    }
    send(browser, &form.file(archive).end())
}

fn status(daemon: &Daemon, user: &str, path: &str) -> u16 {
    daemon.request("GET", path).login(user, "secret").send().status
}

#[test]
fn a_downloaded_image_is_an_archive_with_the_same_digests() {
    let daemon = Daemon::start();
    let (image, manifest) = daemon.push_image("team/app", "1.0", &[7; 300_000]);
    let referrer = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.sbom",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": daemon.push_blob("team/app", b"{}"), "size": 2},
        "layers": [], "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": manifest.len()},
    })
    .to_string();
    daemon
        .put_manifest("team/app", &digest(referrer.as_bytes()), OCI_MANIFEST, referrer.as_bytes())
        .expect(201);
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/image/team/app:1.0");
    assert!(page.contains("href=\"/image/team/app:1.0/download\""), "{page}");
    let answer = browser.get("/image/team/app:1.0/download").expect(200);
    assert_eq!(answer.required_header("content-type"), "application/x-tar");
    assert_eq!(answer.required_header("content-disposition"), "attachment; filename=\"team_app_1.0.tar\"");
    assert_eq!(answer.required_header("content-length"), answer.body.len().to_string());
    assert!(answer.required_header("content-security-policy").contains("sandbox"));
    let members = members(&answer.body);
    for (name, content) in &members {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(digest(content), format!("sha256:{hex}"));
        }
    }
    let docker: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(docker[0]["RepoTags"], json!(["registry/team/app:1.0"]));
    assert!(members.contains_key(&format!("blobs/sha256/{}", &digest(referrer.as_bytes())[7..])));
    let by_digest = browser.get(&format!("/image/team/app@{image}/download")).expect(200);
    assert!(by_digest.required_header("content-disposition").contains("team_app_"));
    let head = browser.request("HEAD", "/image/team/app:1.0/download").send().expect(200);
    assert_eq!(head.required_header("content-length"), answer.body.len().to_string());
    // Another registry imports it.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &answer.body).unwrap();
    let other = Daemon::start();
    run(Command::new(BINARY).env_clear().arg("import").arg(file.path()).arg("--data").arg(&other.data));
    assert_eq!(digest(&other.get("/v2/team/app/manifests/1.0").expect(200).body), image);
    browser.get("/image/team/app:2.0/download").expect(404);
    browser.get("/image/none:1/download").expect(404);
    browser.request("POST", "/image/team/app:1.0/download").body(b"").send().expect(405);
}

#[test]
fn a_download_needs_the_right_to_pull() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_users(&directory);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let archive = archive(&[("private:1", &Image::of(b"secret"))]);
    upload(&mut alice, &[], &archive).expect(200);
    alice.get("/image/private:1/download").expect(200);
    Browser::of(&daemon, "bob", "secret").get("/image/private:1/download").expect(403);
    let answer = Browser::new(&daemon).get("/image/private:1/download").expect(303);
    assert!(answer.required_header("location").starts_with("/login"));
    let page = alice.page("/activity");
    assert!(page.contains("pulled"), "{page}");
}

#[test]
fn a_download_holds_its_content_and_ends_with_its_client() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let layer: Vec<u8> = (0..24 << 20_u32).map(|number: u32| (number >> 8) as u8).collect();
    daemon.push_image("app", "1", &layer);
    let browser = Browser::new(&daemon);
    // More downloads than may run at once: those of clients that have gone are over.
    for _ in 0..20 {
        let mut stream = browser.request("GET", "/image/app:1/download").open();
        stream.read_exact(&mut [0; 1000]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    let mut stream = browser.request("GET", "/image/app:1/download").open();
    stream.read_exact(&mut [0; 1000]).unwrap();
    daemon.request("DELETE", "/v2/app/manifests/1").send().expect(202);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > layer.len(), "the download ended early, with {} bytes", rest.len());
    daemon.get("/v2/app/manifests/1").expect(404);
}

#[test]
fn an_uploaded_archive_is_imported_with_its_names() {
    let daemon = Daemon::start();
    let (one, two) = (Image::of(&[1; 200_000]), Image::of(b"two"));
    let bytes = archive(&[("docker.io/library/one:1", &one), ("hub.lan/team/two:2", &two)]);
    let mut browser = Browser::new(&daemon);
    let answer = upload(&mut browser, &[], &bytes).expect(200);
    let page = text(&answer);
    assert!(page.contains("save.tar") && page.contains("2 taken"), "{page}");
    assert!(page.contains("href=\"/image/team/two:2\""), "{page}");
    assert_eq!(digest(&daemon.get("/v2/one/manifests/1").expect(200).body), one.digest);
    assert_eq!(digest(&daemon.get("/v2/team/two/manifests/2").expect(200).body), two.digest);
    let page = text(&upload(&mut browser, &[], &bytes).expect(200));
    assert!(page.contains("2 present") && page.contains("0 blobs stored"), "{page}");
    // A folder, a name, and a tag that moves.
    upload(&mut browser, &[("prefix", "site/")], &bytes).expect(200);
    daemon.get("/v2/site/team/two/manifests/2").expect(200);
    let unnamed = archive(&[("x:1", &two)]);
    upload(&mut browser, &[("name", "other/app:3"), ("prefix", "")], &unnamed).expect(200);
    daemon.get("/v2/other/app/manifests/3").expect(200);
    let newer = archive(&[("one:1", &two)]);
    let page = text(&upload(&mut browser, &[], &newer).expect(200));
    assert!(page.contains("kept"), "{page}");
    let page = text(&upload(&mut browser, &[("move", "1")], &newer).expect(200));
    assert!(page.contains("moved"), "{page}");
    assert_eq!(digest(&daemon.get("/v2/one/manifests/1").expect(200).body), two.digest);
    // Chunked and compressed.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&archive(&[("zipped:1", &one)])).unwrap();
    let form = Form::new().field("token", &browser.token).file(&encoder.finish().unwrap()).end();
    request(&browser).chunked(&form).send().expect(200);
    daemon.get("/v2/zipped/manifests/1").expect(200);
    for (fields, archive) in [
        (&[("name", "UPPER")][..], &bytes),
        (&[("prefix", "a b")], &bytes),
        (&[("name", "a:1")], &bytes),
        (&[], &b"no archive".to_vec()),
        (&[], &bytes[..bytes.len() / 2].to_vec()),
        (&[], &Vec::new()),
    ] {
        let answer = upload(&mut browser, fields, archive).expect(422);
        assert!(text(&answer).contains("id=\"error\""));
    }
}

#[test]
fn hostile_forms_are_refused_and_name_nothing() {
    let daemon = Daemon::start();
    let bytes = archive(&[("app:1", &Image::of(b"layer"))]);
    let mut browser = Browser::new(&daemon);
    browser.get("/import").expect(200);
    let token = browser.token.clone();
    let whole = Form::new().field("token", &token).file(&bytes).end();
    let with_type = |kind: &str| {
        browser.request("POST", "/import").header("Origin", "http://registry").header("Content-Type", kind)
    };
    with_type("multipart/form-data").body(&whole).send().expect(400);
    with_type("application/x-www-form-urlencoded").body(b"token=x").send().expect(400);
    with_type("multipart/form-data; boundary=other").body(&whole).send().expect(400);
    let other = browser.request("POST", "/import").header("Origin", "http://evil.example");
    other.header("Content-Type", FORM).body(&whole).send().expect(403);
    // Without the token, with a wrong one, or with the file before it.
    send(&browser, &Form::new().file(&bytes).end()).expect(403);
    send(&browser, &Form::new().field("token", &"0".repeat(64)).file(&bytes).end()).expect(403);
    send(&browser, &Form::new().file(&bytes).field("token", &token).end()).expect(403);
    send(&browser, &Form::new().field("token", &token).file(&bytes).file(&bytes).end()).expect(422);
    send(&browser, &Form::new().field("token", &token).file(&bytes).field("name", "x:1").end()).expect(422);
    send(&browser, &Form::new().field("token", &token).field("name", &"x".repeat(9000)).file(&bytes).end())
        .expect(413);
    send(&browser, &Form::new().field("token", &token).end()).expect(422);
    let mut many = Form::new().field("token", &token);
    for number in 0..50 {
        many = many.field(&format!("field{number}"), "x");
    }
    send(&browser, &many.file(&bytes).end()).expect(400);
    let mut head = Form::new().field("token", &token).0;
    head.extend(b"--bound\r\nX: ");
    head.extend(vec![b'y'; 1 << 20]);
    send(&browser, &head).expect(400);
    // The form ends before its last delimiter, at any place.
    for cut in [3, 4, 12, 2000, bytes.len()] {
        send(&browser, &whole[..whole.len() - cut]).expect(400);
    }
    daemon.get("/v2/app/manifests/1").expect(404);
    send(&browser, &whole).expect(200);
    daemon.get("/v2/app/manifests/1").expect(200);
}

#[test]
fn one_archive_at_a_time_and_none_after_its_client_has_gone() {
    let daemon = Daemon::start();
    let bytes = archive(&[("app:1", &Image::of(&[7; 3 << 20]))]);
    let mut browser = Browser::new(&daemon);
    browser.get("/import").expect(200);
    let form = Form::new().field("token", &browser.token).file(&bytes).end();
    let (first, rest) = form.split_at(form.len() / 2);
    let began = Instant::now();
    let stream = loop {
        let mut stream = request(&browser).header("Content-Length", &form.len().to_string()).open();
        stream.write_all(first).unwrap();
        let answer = send(&browser, &form);
        if answer.status == 409 {
            assert!(text(&answer).contains("Another archive is being uploaded by you"));
            break stream;
        }
        // The daemon has not read the first one yet, or has refused it because of the second.
        assert!(answer.status == 200 && began.elapsed() < Duration::from_secs(60), "{}", answer.status);
    };
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    // The place is free again once the daemon has seen the end.
    loop {
        let answer = send(&browser, &form);
        if answer.status == 200 {
            break;
        }
        assert!(answer.status == 409 && began.elapsed() < Duration::from_secs(60), "{}", answer.status);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!rest.is_empty());
    daemon.get("/v2/app/manifests/1").expect(200);
}

#[test]
fn an_upload_needs_the_right_to_push_to_each_repository() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_users(&directory);
    let image = Image::of(b"layer");
    let bytes = archive(&[("team/app:1", &image), ("private/app:1", &image)]);
    let mut bob = Browser::of(&daemon, "bob", "secret");
    let page = text(&upload(&mut bob, &[], &bytes).expect(200));
    assert!(page.contains("1 taken, 1 refused") && page.contains("may not push to private/app"), "{page}");
    assert_eq!(status(&daemon, "alice", "/v2/team/app/manifests/1"), 200);
    assert_eq!(status(&daemon, "alice", "/v2/private/app/manifests/1"), 404);
    upload(&mut bob, &[("name", "private/x:1")], &archive(&[("x:1", &image)])).expect(403);
    let mut reader = Browser::of(&daemon, "reader", "secret");
    reader.get("/import").expect(403);
    reader.get("/push").expect(200);
    let form = Form::new().field("token", &reader.token).file(&bytes).end();
    send(&reader, &form).expect(403);
    let anonymous = Browser::new(&daemon).get("/import").expect(303);
    assert!(anonymous.required_header("location").starts_with("/login"));
    // The events have the user as their actor.
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let page = alice.page("/activity?q=bob");
    assert!(page.contains("team/app") && page.contains("127.0.0.1"), "{page}");
}

#[test]
fn an_upload_names_nothing_once_the_rights_of_its_user_have_changed() {
    let less = ("alice", "team/*", "\"pull\", \"push\"");
    for (user, rules, repository, reason) in [
        ("bob", [FULL, ("bob", "other/*", "\"pull\", \"push\"")], "team/app", "bob may not push to team/app"),
        ("alice", [less, TEAM], "private", "the rights of the user alice changed during the import"),
    ] {
        let registry = Registry::start(&[FULL, TEAM]);
        let image = Image::of(&[7; 300_000]);
        let bytes = archive(&[("team/app:1", &image)]);
        let mut browser = Browser::of(&registry.daemon, user, "secret");
        browser.get("/import").expect(200);
        let form = Form::new().field("token", &browser.token).file(&bytes).end();
        // The names come last.
        let (first, rest) = form.split_at(form.len() - 4000);
        let mut stream = request(&browser).header("Content-Length", &form.len().to_string()).open();
        stream.write_all(first).unwrap();
        let layer = digest(&[7; 300_000]).replace(':', "/");
        let began = Instant::now();
        while !registry.daemon.data.join("blobs").join(&layer).exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "the layer does not arrive");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry.reload(&rules, (user, repository));
        stream.write_all(rest).unwrap();
        let page = text(&Response::read(&mut stream, false).expect(200));
        assert!(page.contains("1 refused") && page.contains(reason), "{page}");
        let path = "/v2/team/app/manifests/1";
        let statuses = ["alice", "bob"].map(|name| status(&registry.daemon, name, path));
        assert!(statuses.iter().all(|status| matches!(status, 403 | 404)), "{statuses:?}");
    }
}

/// Returns an archive of an image with a layer that clients fetch from elsewhere.
fn with_foreign_layer(name: &str, layer: &[u8]) -> (Vec<u8>, Image) {
    let mut image = Image::of(b"own layer");
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"].as_array_mut().unwrap().push(json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": digest(layer), "size": layer.len(), "urls": ["https://elsewhere.example/layer"],
    }));
    image.content.remove(&image.digest);
    image.manifest = serde_json::to_vec(&manifest).unwrap();
    image.digest = digest(&image.manifest);
    image.content.insert(image.digest.clone(), image.manifest.clone());
    (archive(&[(name, &image)]), image)
}

#[test]
fn a_foreign_layer_is_not_missing_and_gives_no_access() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_users(&directory);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let secret = b"a secret layer".as_slice();
    upload(&mut alice, &[], &archive(&[("private/app:1", &Image::of(secret))])).expect(200);
    // A layer that exists, and one that does not.
    for (user, tag) in [("bob", "1"), ("alice", "2")] {
        let mut browser = Browser::of(&daemon, user, "secret");
        for layer in [secret, b"nowhere here"] {
            let (bytes, image) = with_foreign_layer(&format!("team/app:{tag}"), layer);
            let page = text(&upload(&mut browser, &[("move", "1")], &bytes).expect(200));
            assert!(page.contains("1 taken") || page.contains("1 moved"), "{page}");
            let path = format!("/v2/team/app/manifests/{}", image.digest);
            assert_eq!(status(&daemon, "bob", &path), 200);
            assert_eq!(status(&daemon, "bob", &format!("/v2/team/app/blobs/{}", digest(layer))), 404);
        }
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

/// Returns a layout whose manifest names a layer that is not in it.
fn without_layer(name: &str, image: &Image, layer: &str) -> Vec<u8> {
    let mut media = Media::default();
    media.layout("", &[image], &[image.descriptor(&[("io.containerd.image.name", name)])]);
    media.remove(&format!("blobs/{}", layer.replace(':', "/")));
    tar_of(&media)
}

#[test]
fn a_limited_user_gets_no_content_by_naming_it() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_users(&directory);
    let (secret, shared) = (b"a secret layer".as_slice(), b"a shared layer".as_slice());
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let both = archive(&[("private/app:1", &Image::of(secret)), ("team/base:1", &Image::of(shared))]);
    upload(&mut alice, &[], &both).expect(200);
    let mut bob = Browser::of(&daemon, "bob", "secret");
    // A digest that exists and one that does not have the same answer.
    let answers = [secret, b"never stored  "].map(|layer| {
        let image = Image::of(layer);
        let bytes = without_layer("team/stolen:1", &image, &digest(layer));
        let page = text(&upload(&mut bob, &[], &bytes).expect(200));
        assert!(page.contains("1 missing") && page.contains(&format!("lacks {}", digest(layer))), "{page}");
        assert_eq!(status(&daemon, "bob", "/v2/team/stolen/manifests/1"), 404);
        let page = page.replace(&digest(layer), "DIGEST").replace(&image.digest[..19], "MANIFEST");
        let main = page.split("<h1>").nth(1).unwrap().to_owned();
        main.replace(&image.digest.split(':').nth(1).unwrap()[..12], "SHORT")
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(status(&daemon, "bob", &format!("/v2/team/stolen/blobs/{}", digest(secret))), 404);
    // Content of a repository that the user may pull from, and content whose bytes are in the archive.
    let bytes = without_layer("team/mine:1", &Image::of(shared), &digest(shared));
    let page = text(&upload(&mut bob, &[], &bytes).expect(200));
    assert!(page.contains("1 taken"), "{page}");
    let bytes = archive(&[("team/own:1", &Image::of(secret))]);
    let page = text(&upload(&mut bob, &[], &bytes).expect(200));
    assert!(
        page.contains("1 taken") && page.contains("3 blobs stored") | page.contains("2 blobs stored"),
        "{page}"
    );
    assert_eq!(status(&daemon, "bob", &format!("/v2/team/own/blobs/{}", digest(secret))), 200);
    // Content under the name of another is not accepted as that.
    let image = Image::of(b"another secret");
    upload(&mut alice, &[], &archive(&[("private/other:1", &image)])).expect(200);
    let mut media = Media::default();
    media.layout("", &[&image], &[image.descriptor(&[("io.containerd.image.name", "team/fake:1")])]);
    media.add(&format!("blobs/{}", digest(b"another secret").replace(':', "/")), b"not the secret");
    let page = text(&upload(&mut bob, &[], &tar_of(&media)).expect(200));
    assert!(page.contains("0 taken") || !page.contains("taken"), "{page}");
    assert_eq!(status(&daemon, "bob", "/v2/team/fake/manifests/1"), 404);
    // Alice may use all content.
    let bytes = without_layer("copy/app:1", &Image::of(secret), &digest(secret));
    let page = text(&upload(&mut alice, &[], &bytes).expect(200));
    assert!(page.contains("1 taken"), "{page}");
}

#[test]
fn a_user_who_may_only_push_learns_no_tags() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_users(&directory);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let first = Image::of(b"first");
    upload(&mut alice, &[], &archive(&[("inbox/app:1", &first)])).expect(200);
    let mut user = Browser::of(&daemon, "drop", "secret");
    let page = text(&upload(&mut user, &[], &archive(&[("inbox/app:1", &Image::of(b"second"))])).expect(200));
    assert!(page.contains("1 kept") && !page.contains(&first.digest[7..19]), "{page}");
}

#[test]
fn signers_and_the_quota_apply_to_uploads() {
    let key = "ops ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO5rDkzRWQNSgHqNO+UNyEAr2FPRr8WQ0rk5BMkWfZ2K\n";
    let signers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(signers.path(), key).unwrap();
    let daemon = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", path(signers.path()))]);
    let bytes = archive(&[("app:1", &Image::of(b"layer"))]);
    let answer = upload(&mut Browser::new(&daemon), &[], &bytes).expect(403);
    assert!(text(&answer).contains("signed"), "{}", text(&answer));
    daemon.get("/v2/app/manifests/1").expect(404);
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", "1MiB")]);
    let bytes = archive(&[("app:1", &Image::of(&[7; 3 << 20]))]);
    let page = text(&upload(&mut Browser::new(&daemon), &[], &bytes));
    assert!(page.contains("storage.quota"), "{page}");
    daemon.get("/v2/app/manifests/1").expect(404);
    let daemon = Daemon::with_env(&[("HOLDFAST_REGISTRY_READ_ONLY", "true")]);
    upload(&mut Browser::new(&daemon), &[], &archive(&[("app:1", &Image::of(b"layer"))])).expect(403);
}

#[test]
fn a_browser_that_stops_sending_is_not_waited_for() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_BODY_STALL", "1s")]);
    let bytes = archive(&[("app:1", &Image::of(&[7; 1 << 20]))]);
    let mut browser = Browser::new(&daemon);
    browser.get("/import").expect(200);
    let form = Form::new().field("token", &browser.token).file(&bytes).end();
    let mut stream = request(&browser).header("Content-Length", &form.len().to_string()).open();
    stream.write_all(&form[..form.len() / 2]).unwrap();
    let answer = Response::read(&mut stream, false);
    assert_eq!(answer.status, 408);
    daemon.get("/v2/app/manifests/1").expect(404);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
