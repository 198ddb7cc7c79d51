//! `import.signers`: only what a signed list names is imported.

use std::path::Path;
use std::process::Command;

use super::*;

/// Signs text with a new key; returns the signature and the line of allowed signers.
fn sign(directory: &Path, name: &str, text: &str) -> (String, String) {
    let key = directory.join(name);
    if !key.exists() {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"];
        assert!(Command::new("ssh-keygen").args(arguments).arg(&key).status().unwrap().success());
    }
    let file = directory.join(format!("{name}.json"));
    std::fs::write(&file, text).unwrap();
    let signature = directory.join(format!("{name}.json.sig"));
    let _ = std::fs::remove_file(&signature);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", "holdfast-export", "-f"]).arg(&key).arg(&file);
    assert!(command.output().unwrap().status.success());
    let public = std::fs::read_to_string(directory.join(format!("{name}.pub"))).unwrap();
    (std::fs::read_to_string(signature).unwrap(), format!("ops@example {public}"))
}

fn has_ssh_keygen() -> bool {
    let found = Command::new("ssh-keygen").arg("-?").output().is_ok();
    if !found {
        eprintln!("skipped: ssh-keygen is missing");
    }
    found
}

#[test]
fn only_signed_lists_and_their_digests_are_accepted() {
    if !has_ssh_keygen() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let layer = b"layer".as_slice();
    let config = br#"{"architecture":"arm64","os":"linux"}"#;
    let manifest = manifest_of(config, layer);
    let blobs: Vec<Value> = [config, layer, manifest.as_bytes()]
        .iter()
        .map(|content| json!({ "digest": digest(content), "size": content.len() }))
        .collect();
    let export = json!({
        "format": 1, "whole": true, "blobs": blobs, "comment": "for us",
        "roots": [{ "repository": "a", "tag": "1", "digest": digest(manifest.as_bytes()) }],
    });
    let export = export.to_string();
    let (signature, line) = sign(directory.path(), "key", &export);
    let (foreign, _) = sign(directory.path(), "other", &export);
    let signers = directory.path().join("signers");
    let daemon = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    let transfer = Transfer::open(&daemon);
    let put = |content: &str, signature: Option<&str>| {
        let body = json!({ "content": content, "signature": signature }).to_string();
        transfer.call("PUT", "/export", body.as_bytes())
    };
    assert_eq!(put(&export, Some(&signature)).code(500), "signers", "the file is missing");
    std::fs::write(&signers, line).unwrap();
    // Blobs may come before the list.
    assert_eq!(transfer.put_image(layer), manifest);
    let request = images("a", &[&manifest], &[("1", &manifest, None)]);
    assert_eq!(transfer.images(&request).code(403), "unsigned");
    assert_eq!(put(&export, None).code(403), "unsigned");
    assert_eq!(put(&export, Some("nonsense")).code(403), "bad_signature");
    assert_eq!(put(&export, Some(&foreign)).code(403), "bad_signature");
    assert_eq!(put(&export.replace("for us", "for all"), Some(&signature)).code(403), "bad_signature");
    assert_eq!(transfer.images(&request).code(403), "unsigned");
    assert_eq!(put(&export, Some(&signature)).expect(200).json()["signer"], "ops@example");
    let other = transfer.put_image(b"not signed");
    assert_eq!(transfer.images(&images("a", &[&other], &[])).code(403), "not_listed");
    assert_eq!(transfer.images(&request).expect(200).json()["tags"][0]["outcome"], "set");
    // Content that is removed elsewhere as it comes in has no list.
    assert_eq!(call(&daemon, "POST", "transfers", br#"{"purpose":"move"}"#).code(403), "unsigned");
    // The signature counts for its own transfer only; pushes are not affected.
    let second = Transfer::open(&daemon);
    assert_eq!(second.images(&request).code(403), "unsigned");
    daemon.push_image("b", "1", b"pushed");
}

#[test]
fn without_signers_a_list_needs_no_signature() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let list = r#"{"format":1,"whole":true,"roots":[],"blobs":[]}"#;
    let body = json!({ "content": list, "signature": null }).to_string();
    assert_eq!(
        transfer.call("PUT", "/export", body.as_bytes()).expect(200).json(),
        json!({ "signer": null })
    );
    for malformed in ["{", "{}", &list.replace(":1", ":2")] {
        let body = json!({ "content": malformed, "signature": null }).to_string();
        assert_eq!(transfer.call("PUT", "/export", body.as_bytes()).code(400), "malformed");
    }
    let image = transfer.put_image(b"layer");
    assert_eq!(transfer.name("a", &image, "1", 1)["outcome"], "set");
}

/// Returns the text of a list with these tags of the repository `a`, their manifests and the times of their pushes.
fn list(tags: &[(&str, &str, u64)]) -> String {
    let digests: Vec<String> = tags.iter().map(|(_, text, _)| digest(text.as_bytes())).collect();
    let roots = tags.iter().zip(&digests).map(|((tag, _, pushed), digest)| {
        json!({ "repository": "a", "tag": tag, "digest": digest, "pushed": pushed })
    });
    let blobs = digests.iter().map(|digest| json!({ "digest": digest, "size": 1 }));
    json!({
        "format": 1, "whole": true, "from": { "registry": ORIGIN, "version": "1" },
        "roots": roots.collect::<Vec<_>>(), "blobs": blobs.collect::<Vec<_>>(),
    })
    .to_string()
}

#[test]
fn names_and_times_are_those_of_the_signed_lists() {
    if !has_ssh_keygen() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let signers = directory.path().join("signers");
    let daemon = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    let open = |lists: &[&[(&str, &str, u64)]]| {
        let transfer = Transfer::open(&daemon);
        for tags in lists {
            let content = list(tags);
            let (signature, line) = sign(directory.path(), "key", &content);
            std::fs::write(&signers, line).unwrap();
            let body = json!({ "content": content, "signature": signature }).to_string();
            transfer.call("PUT", "/export", body.as_bytes()).expect(200);
        }
        transfer
    };
    let loose = Transfer::open(&daemon);
    let (first, second) = (loose.put_image(b"first"), loose.put_image(b"second"));
    // Lists add up.
    let transfer = open(&[&[("1", &first, 10)], &[("2", &second, 10)]]);
    let mapped = |source: Value| {
        let mut request = images("site/a", &[&first], &[("9", &first, None)]);
        request["tags"][0]["source"] = source;
        transfer.images(&request)
    };
    for (repository, tag, manifest) in [("b", "1", &first), ("a", "2", &first), ("a", "3", &second)] {
        let request = images(repository, &[manifest], &[(tag, manifest, Some(10))]);
        assert_eq!(transfer.images(&request).code(403), "not_listed", "{repository}:{tag}");
    }
    assert_eq!(mapped(Value::Null).code(403), "not_listed");
    assert_eq!(mapped(json!({ "repository": "a", "tag": "2" })).code(403), "not_listed");
    assert_eq!(mapped(json!({ "repository": "a" })).code(403), "not_listed");
    assert_eq!(mapped(json!({ "repository": "A" })).code(400), "name_invalid");
    let set = mapped(json!({ "repository": "a", "tag": "1" })).expect(200).json();
    assert_eq!(set["tags"][0]["outcome"], "set");
    assert_eq!(transfer.name("a", &first, "1", 99)["outcome"], "set");
    assert_eq!(transfer.name("a", &second, "2", 99)["outcome"], "set");
    // The time of the request, and its registry, do not count.
    assert_eq!(open(&[&[("1", &second, 5)]]).name("a", &second, "1", 99)["outcome"], "kept");
    let mut request = images("a", &[&second], &[("1", &second, Some(1))]);
    request["origin"]["registry"] = "0f6e4b1e-2222-4222-8333-444444444444".into();
    let moved = open(&[&[("1", &second, 20)]]).images(&request).expect(200).json();
    assert_eq!(moved["tags"][0]["outcome"], "moved");
}
