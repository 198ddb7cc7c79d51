//! Images as builders create them, in a registry with users.

use serde_json::{Value, json};

use super::{Daemon, OCI_MANIFEST, add_user, digest};

pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Pages that every logged-in user may see.
pub const PAGES: [&str; 7] =
    ["/", "/repositories", "/repository/team/app", "/image/team/app:1.10", "/push", "/activity", "/account"];

/// Pushes an image with this config, and these fields added to its manifest; returns its digest.
pub fn push_image_with(
    daemon: &Daemon,
    name: &str,
    tags: &[&str],
    config: &Value,
    manifest: &Value,
) -> String {
    let config = serde_json::to_vec(config).unwrap();
    let layer = b"a layer of seventy or so bytes, so that its size can be told from others";
    let mut whole = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": CONFIG, "digest": daemon.push_blob(name, &config), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": daemon.push_blob(name, layer), "size": layer.len()}],
    });
    for (key, value) in manifest.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let bytes = serde_json::to_vec(&whole).unwrap();
    for tag in tags {
        daemon.put_manifest(name, tag, OCI_MANIFEST, &bytes).expect(201);
    }
    if tags.is_empty() {
        daemon.put_manifest(name, &digest(&bytes), OCI_MANIFEST, &bytes).expect(201);
    }
    digest(&bytes)
}

/// Returns the config of an image.
pub fn config() -> Value {
    json!({
        "architecture": "arm", "variant": "v7", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Entrypoint": ["/bin/app", "--all"], "Env": ["COLOUR=green"], "User": "app:app",
            "ExposedPorts": {"8080/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"vendor": "us"}},
        "history": [{"created_by": "COPY app /bin/app"}, {"created_by": "ENV COLOUR=green", "empty_layer": true}],
    })
}

/// Starts a registry with images, and adds its first user, alice.
pub fn with_images() -> Daemon {
    with_images_and_env(&[])
}

/// As [`with_images`], with this environment.
pub fn with_images_and_env(environment: &[(&str, &str)]) -> Daemon {
    let daemon = Daemon::with_env(environment);
    push_image_with(
        &daemon,
        "team/app",
        &["1.9", "1.10", "latest"],
        &config(),
        &json!({"annotations": {"note": "hand-made"}}),
    );
    push_image_with(
        &daemon,
        "team/other",
        &["2"],
        &json!({"os": "linux", "architecture": "amd64"}),
        &json!({}),
    );
    add_user(&daemon.data, "alice", "secret");
    daemon
}

/// Returns the tags of a repository, as alice sees them.
pub fn tags(daemon: &Daemon, name: &str) -> Vec<String> {
    let path = format!("/v2/{name}/tags/list");
    let answer = daemon.request("GET", &path).login("alice", "secret").send().expect(200).json();
    answer["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}
