//! Imports into another registry.

use std::time::{Duration, Instant};

use super::relay::Relay;
use super::stub::Stub;
use super::*;

fn login<'a>(address: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["import", "--to", address, "--plain-http", "--username", USER.0, "--password-stdin"];
    arguments.extend(more);
    arguments
}

#[test]
fn images_go_to_registry_2_and_a_second_run_sends_nothing() {
    let registry = Registry2::with_user(USER.0, USER.1);
    let address = registry.address.to_string();
    let directory = tempfile::tempdir().unwrap();
    let shared = noise(1, 300_000);
    let app = Image::of_layers(&[&shared, b"app"]);
    let other = Image::of_layers(&[&shared, b"other"]);
    let multi = Image::index(&[&app, &other]);
    layout(
        directory.path(),
        &[("hub.lan/team/app:1", &app), ("team/other:2", &other), ("multi:latest", &multi)],
    );
    let medium = path(&directory, "");
    let wrong = holdfast(&login(&address, &[&medium]), Some("wrong"));
    fails(&wrong, 1, "the user or the password is wrong");
    fails(&holdfast(&["import", "--to", &address, "--plain-http", &medium], None), 1, "requires a log-in");
    registry.request("GET", "/v2/team/app/tags/list").send().expect(404);
    let first = done(&holdfast(&login(&address, &[&medium]), Some(USER.1)));
    assert!(first.contains("taken"), "{first}");
    for (repository, tag, image) in
        [("team/app", "1", &app), ("team/other", "2", &other), ("multi", "latest", &multi)]
    {
        assert_has(|path| registry.request("GET", path), repository, tag, image);
    }
    let again = done(&holdfast(&login(&address, &[&medium]), Some(USER.1)));
    assert!(
        again.contains("stored 0 blobs") && again.contains("present") && !again.contains("taken"),
        "{again}"
    );
    // Another registry gives no inventory.
    assert!(!directory.path().join("holdfast").exists());
}

#[test]
fn images_go_to_another_holdfast_with_the_credentials_of_docker() {
    let directory = tempfile::tempdir().unwrap();
    let (daemon, ca) = with_tls(&directory);
    let address = format!("localhost:{}", daemon.address.port());
    let image = Image::of_layers(&[&noise(2, 200_000)]);
    let archive = path(&directory, "images.tar");
    media(&[("app:1", &image)]).write_tar(Path::new(&archive));
    let docker = directory.path().join("docker");
    std::fs::create_dir(&docker).unwrap();
    let auth = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1))
    };
    let config = format!(r#"{{"auths":{{"{address}":{{"auth":"{auth}"}}}}}}"#);
    std::fs::write(docker.join("config.json"), config).unwrap();
    let environment = [("DOCKER_CONFIG", docker.to_str().unwrap())];
    let untrusted = holdfast_in(&environment, &["import", "--to", &address, &archive], b"");
    fails(&untrusted, 1, "--ca FILE");
    let arguments = ["import", "--to", &address, "--ca", ca.to_str().unwrap(), &archive];
    done(&holdfast_in(&environment, &arguments, b""));
    let plain = format!("https://{address}");
    let curl = |path: &str| {
        let user = format!("{}:{}", USER.0, USER.1);
        run(Command::new("curl")
            .args(["-sSf", "-u", &user, "--cacert"])
            .arg(&ca)
            .arg(format!("{plain}{path}")))
    };
    assert_eq!(curl("/v2/app/manifests/1").into_bytes(), image.manifest);
    // A server that is not a registry over TLS says so.
    let registry = Registry2::start();
    let plain = registry.address.to_string();
    fails(&holdfast(&["import", "--to", &plain, &archive], None), 1, "--plain-http");
}

#[test]
fn machine_without_a_store_of_authorities_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (daemon, ca) = with_tls(&directory);
    let address = format!("localhost:{}", daemon.address.port());
    let image = Image::of(b"x");
    let medium = tempfile::tempdir().unwrap();
    layout(medium.path(), &[("app:1", &image)]);
    // As in a container image that has only the binary.
    let import = |more: &[&str]| {
        let hide = "for place in /etc/ssl /etc/pki; do [ ! -d $place ] || mount -t tmpfs none $place; done; exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["-m", "sh", "-c", hide, "sh", BINARY]);
        command.args(["import", "--to", &address, "--username", USER.0, "--password-stdin"]).args(more);
        with_input(command.arg(medium.path()), USER.1.as_bytes())
    };
    let refused = import(&[]);
    fails(&refused, 1, "this machine has no store of authorities");
    assert!(text(&refused).contains("--ca FILE"), "{}", text(&refused));
    done(&import(&["--ca", ca.to_str().unwrap()]));
}

#[test]
fn stream_needs_the_name_of_its_repository() {
    let registry = Registry2::start();
    let address = registry.address.to_string();
    let image = Image::of_layers(&[&noise(3, 100_000)]);
    let directory = tempfile::tempdir().unwrap();
    let archive = path(&directory, "images.tar");
    media(&[("app:1", &image)]).write_tar(Path::new(&archive));
    let stream = std::fs::read(&archive).unwrap();
    let arguments = ["import", "--to", &address, "--plain-http", "-"];
    fails(&holdfast_in(&[], &arguments, &stream), 1, "--as REPOSITORY[:TAG]");
    let named = ["import", "--to", &address, "--plain-http", "--as", "team/x:7", "-"];
    done(&holdfast_in(&[], &named, &stream));
    assert_has(|path| registry.request("GET", path), "team/x", "7", &image);
}

#[test]
fn docker_archive_goes_to_two_repositories() {
    let registry = Registry2::start();
    let address = registry.address.to_string();
    let directory = tempfile::tempdir().unwrap();
    let layer = noise(4, 50_000);
    let config = format!(
        r#"{{"architecture":"arm64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&layer)
    );
    let list = r#"[{"Config":"c.json","RepoTags":["a:1","b:1"],"Layers":["l/layer.tar"]}]"#;
    let mut archive = Media::default();
    archive.add("c.json", config.as_bytes()).add("l/layer.tar", &layer).add("manifest.json", list.as_bytes());
    let file = path(&directory, "docker.tar");
    archive.write_tar(Path::new(&file));
    done(&holdfast(&["import", "--to", &address, "--plain-http", &file], None));
    let manifest = |repository: &str| {
        let path = format!("/v2/{repository}/manifests/1");
        let accept = "application/vnd.docker.distribution.manifest.v2+json";
        registry.request("GET", &path).header("Accept", accept).send().expect(200)
    };
    assert_eq!(manifest("a").body, manifest("b").body);
    let layers = manifest("b").json()["layers"].clone();
    let path = format!("/v2/b/blobs/{}", layers[0]["digest"].as_str().unwrap());
    registry.request("GET", &path).send().expect(200);
}

#[test]
fn tags_are_moved_or_kept() {
    let registry = Registry2::start();
    let address = registry.address.to_string();
    let (old, new) = (Image::of(b"old"), Image::of(b"new"));
    registry.push("app", "1", &old);
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), &[("app:1", &new)]);
    let medium = path(&directory, "");
    let import = |more: &[&str]| {
        let mut arguments = vec!["import", "--to", &address, "--plain-http", &medium];
        arguments.extend(more);
        holdfast(&arguments, None)
    };
    fails(&import(&["--force"]), 2, "--force has no effect with --to");
    let kept = done(&import(&["--keep-existing"]));
    assert!(kept.contains("kept"), "{kept}");
    assert_has(|path| registry.request("GET", path), "app", "1", &old);
    let moved = done(&import(&[]));
    assert!(moved.contains("moved"), "{moved}");
    assert_has(|path| registry.request("GET", path), "app", "1", &new);
}

#[test]
fn referrer_is_listed_by_holdfast_and_under_the_fallback_tag_elsewhere() {
    let image = Image::of(b"signed");
    let mut signature = Image::of(b"signature");
    let mut manifest: serde_json::Value = serde_json::from_slice(&signature.manifest).unwrap();
    manifest["subject"] =
        serde_json::json!({"mediaType": OCI_MANIFEST, "digest": image.digest, "size": image.manifest.len()});
    manifest["artifactType"] = "example/signature".into();
    signature.content.remove(&signature.digest);
    signature.manifest = serde_json::to_vec(&manifest).unwrap();
    signature.digest = digest(&signature.manifest);
    signature.content.insert(signature.digest.clone(), signature.manifest.clone());
    let directory = tempfile::tempdir().unwrap();
    let mut media = Media::default();
    let index = [
        image.descriptor(&[("io.containerd.image.name", "app:1")]),
        signature.descriptor(&[("io.holdfast.repository", "app")]),
    ];
    media.layout("", &[&image, &signature], &index);
    media.write_to(directory.path());
    let medium = path(&directory, "");
    let (registry, daemon) = (Registry2::start(), Daemon::start());
    for address in [registry.address, daemon.address] {
        done(&holdfast(&["import", "--to", &address.to_string(), "--plain-http", &medium], None));
    }
    let fallback = format!("/v2/app/manifests/{}", image.digest.replace(':', "-"));
    let list = registry.request("GET", &fallback).header("Accept", OCI_INDEX).send().expect(200).json();
    assert_eq!(list["manifests"][0]["digest"], signature.digest.as_str());
    assert_eq!(list["manifests"][0]["artifactType"], "example/signature");
    let listed = daemon.get(&format!("/v2/app/referrers/{}", image.digest)).expect(200).json();
    assert_eq!(listed["manifests"][0]["digest"], signature.digest.as_str());
    daemon.request("GET", &fallback).header("Accept", OCI_INDEX).send().expect(404);
    // The export finds both, and the other kind of registry gets what it needs.
    for address in [registry.address, daemon.address] {
        let out = tempfile::tempdir().unwrap();
        let target = path(&out, "out");
        done(&holdfast(
            &["export", "app:1", "--from", &address.to_string(), "--plain-http", "-o", &target],
            None,
        ));
        let blob = format!("{target}/blobs/{}", signature.digest.replace(':', "/"));
        assert_eq!(std::fs::read(blob).unwrap(), signature.manifest);
    }
}

#[test]
fn upload_that_breaks_is_continued() {
    let daemon = Daemon::start();
    let relay = Relay::start(daemon.address, 6 << 20);
    let address = relay.address.to_string();
    let image = Image::of_layers(&[&noise(5, 16 << 20)]);
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), &[("app:1", &image)]);
    done(&holdfast(&["import", "--to", &address, "--plain-http", &path(&directory, "")], None));
    assert!(relay.has_broken());
    // Only what was on its way is sent twice.
    assert!(relay.sent() < 24 << 20, "{}", relay.sent());
    assert_has(|path| daemon.request("GET", path), "app", "1", &image);
}

#[test]
fn broken_upload_to_registry_2_begins_again() {
    let registry = Registry2::start();
    let relay = Relay::start(registry.address, 3 << 20);
    let address = relay.address.to_string();
    let image = Image::of_layers(&[&noise(6, 6 << 20)]);
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), &[("app:1", &image)]);
    done(&holdfast(&["import", "--to", &address, "--plain-http", &path(&directory, "")], None));
    assert!(relay.has_broken());
    assert_has(|path| registry.request("GET", path), "app", "1", &image);
}

#[test]
fn interruption_ends_an_import_at_once() {
    let stub = Stub::start("127.0.0.1", |request| {
        if request.path != "/v2/" {
            std::thread::sleep(Duration::from_secs(20));
        }
        (200, Vec::new(), Vec::new())
    });
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), &[("app:1", &Image::of(b"x"))]);
    let mut child = Command::new(BINARY)
        .env_clear()
        .args(["import", "--to", &stub.address.to_string(), "--plain-http", &path(&directory, "")])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while stub.seen().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(15), "nothing was asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
