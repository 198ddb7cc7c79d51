//! Registries that are after credentials, or send other bytes.

use super::stub::{Answer, Stub, serve_image};
use super::*;

fn challenge(text: String) -> Answer {
    (401, vec![("WWW-Authenticate", text)], Vec::new())
}

fn export(stub: &Stub, directory: &TempDir, more: &[&str]) -> Output {
    let (address, medium) = (stub.address.to_string(), path(directory, "medium"));
    let mut arguments = vec!["export", "app:1", "--from", &address, "--plain-http", "-o", &medium];
    arguments.extend(["--username", USER.0, "--password-stdin"]);
    arguments.extend(more);
    holdfast(&arguments, Some(USER.1))
}

#[test]
fn foreign_token_server_gets_no_credentials() {
    let thief = Stub::start("127.0.0.2", |_| (200, Vec::new(), br#"{"token":"stolen"}"#.to_vec()));
    let (image, realm) = (Image::of(b"x"), format!("http://{}/token", thief.address));
    let stub = Stub::start("127.0.0.1", move |request| match request.header("authorization") {
        Some("Bearer stolen") => serve_image(&image, request),
        _ => challenge(format!(r#"Bearer realm="{realm}",service="hub""#)),
    });
    let directory = tempfile::tempdir().unwrap();
    let place = thief.address.to_string();
    fails(&export(&stub, &directory, &[]), 1, &format!("add --token-host {place}"));
    assert!(thief.seen().is_empty(), "{:?}", thief.seen());
    done(&export(&stub, &directory, &["--allow-host", &place]));
    let seen = thief.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(|request| request.header("authorization").is_none()),
        "{seen:?}"
    );
    assert!(seen[0].path.contains("scope=repository%3Aapp%3Apull"), "{seen:?}");
    // A password never leaves over plain HTTP to another host, whatever the operator names.
    done(&export(&stub, &directory, &["--token-host", &place]));
    assert!(thief.seen().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn own_token_server_gets_the_credentials_and_its_token_is_used() {
    let tokens = Stub::start("127.0.0.1", |request| match request.header("authorization") {
        Some(basic) if basic.starts_with("Basic ") => {
            (200, Vec::new(), br#"{"access_token":"good","expires_in":300}"#.to_vec())
        }
        _ => (401, Vec::new(), Vec::new()),
    });
    let (image, realm) = (Image::of(b"x"), format!("http://{}/token", tokens.address));
    let stub = Stub::start("127.0.0.1", move |request| match request.header("authorization") {
        Some("Bearer good") => serve_image(&image, request),
        _ => challenge(format!(r#"bearer service="hub",Realm="{realm}""#)),
    });
    let directory = tempfile::tempdir().unwrap();
    done(&export(&stub, &directory, &[]));
    assert_eq!(tokens.seen().len(), 1);
    assert!(
        stub.seen().iter().all(|request| !request.header("authorization").unwrap_or("").starts_with("Basic"))
    );
}

#[test]
fn redirect_to_another_host_loses_the_password() {
    let image = Image::of_layers(&[&noise(1, 100_000)]);
    let content = image.clone();
    let cdn = Stub::start("127.0.0.2", move |request| {
        let digest = request.path.trim_start_matches('/').split('?').next().unwrap().to_owned();
        content
            .content
            .get(&digest)
            .map_or((404, Vec::new(), Vec::new()), |bytes| (200, Vec::new(), bytes.clone()))
    });
    let place = cdn.address.to_string();
    let stub = Stub::start("127.0.0.1", move |request| {
        if request.header("authorization").is_none() {
            return challenge("Basic realm=x".into());
        }
        match request.path.strip_prefix("/v2/app/blobs/") {
            Some(digest) => {
                (307, vec![("Location", format!("http://{place}/{digest}?signature=s3cret"))], Vec::new())
            }
            None => serve_image(&image, request),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let refused = export(&stub, &directory, &[]);
    fails(&refused, 1, "is not a public address");
    assert!(!text(&refused).contains("s3cret"), "{}", text(&refused));
    assert!(cdn.seen().is_empty());
    done(&export(&stub, &directory, &["--allow-host", &cdn.address.to_string()]));
    let seen = cdn.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(|request| request.header("authorization").is_none()),
        "{seen:?}"
    );
    assert!(stub.seen().iter().any(|request| request.header("authorization").is_some()));
}

#[test]
fn endless_redirects_and_other_schemes_are_errors() {
    let stub = Stub::start("127.0.0.1", |request| match request.path.as_str() {
        "/v2/" => (200, Vec::new(), Vec::new()),
        path if path.contains("/blobs/") => (302, vec![("Location", "ftp://x/".into())], Vec::new()),
        path => (302, vec![("Location", path.to_owned())], Vec::new()),
    });
    let directory = tempfile::tempdir().unwrap();
    fails(&export(&stub, &directory, &[]), 1, "more than 5 redirects");
}

#[test]
fn blob_with_other_bytes_is_not_exported() {
    let good = Image::of_layers(&[&noise(1, 50_000)]);
    let mut image = good.clone();
    for (digest, content) in &mut image.content {
        if content.len() == 50_000 && *digest != image.digest {
            content[40_000] ^= 1;
        }
    }
    let stub = Stub::start("127.0.0.1", move |request| serve_image(&image, request));
    let directory = tempfile::tempdir().unwrap();
    fails(&export(&stub, &directory, &[]), 1, "do not match");
    assert!(!directory.path().join("medium/index.json").exists());
}

#[test]
fn manifest_with_other_bytes_is_not_exported() {
    let mut image = Image::of(b"x");
    let digest = image.digest.clone();
    image.content.get_mut(&digest).unwrap().push(b' ');
    let stub = Stub::start("127.0.0.1", move |request| serve_image(&image, request));
    let directory = tempfile::tempdir().unwrap();
    fails(&export(&stub, &directory, &[]), 1, "do not match the digest");
}

#[test]
fn answers_without_end_are_bounded() {
    let stub = Stub::start("127.0.0.1", |request| {
        if request.path == "/v2/" {
            return (200, Vec::new(), Vec::new());
        }
        (200, vec![("Content-Type", OCI_MANIFEST.into())], vec![b' '; 5 << 20])
    });
    let directory = tempfile::tempdir().unwrap();
    fails(&export(&stub, &directory, &[]), 1, "more than 4194304 bytes");
    let long = Stub::start("127.0.0.1", |_| (200, vec![("X", "a".repeat(100_000))], Vec::new()));
    fails(&export(&long, &directory, &[]), 1, "its answer is not HTTP/1.1");
}

#[test]
fn a_manifest_that_is_refused_or_too_large_leaves_the_other_images() {
    let (good, bad, large) = (Image::of(b"good"), Image::of(b"bad"), Image::of(b"large"));
    let stub = Stub::start("127.0.0.1", move |request| {
        let image = match request.path.as_str() {
            path if path.starts_with("/v2/bad/") => &bad,
            path if path.starts_with("/v2/large/") => &large,
            _ => &good,
        };
        if request.method == "GET" && request.path.ends_with(&format!("/manifests/{}", bad.digest)) {
            return (
                403,
                Vec::new(),
                br#"{"errors":[{"code":"DENIED","message":"scan it first"}]}"#.to_vec(),
            );
        }
        if request.method == "GET" && request.path.ends_with(&format!("/manifests/{}", large.digest)) {
            return (200, vec![("Content-Type", OCI_MANIFEST.into())], vec![b' '; 5 << 20]);
        }
        serve_image(image, request)
    });
    let directory = tempfile::tempdir().unwrap();
    let output = export(&stub, &directory, &["bad:1", "large:1"]);
    fails(&output, 1, "scan it first");
    assert!(text(&output).contains("more than 4194304 bytes"), "{}", text(&output));
    assert!(text(&output).contains("app:1"), "{}", text(&output));
    let names = std::fs::read_to_string(directory.path().join("medium/index.json")).unwrap();
    assert!(names.contains("app:1") && !names.contains("bad:1"), "{names}");
}
