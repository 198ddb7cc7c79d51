//! Transfers over the control socket: the lease, loose blobs, and the names of images.

mod content;
mod images;
mod lease;
mod signed;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

/// The id of the registry that the archives of the tests come from.
const ORIGIN: &str = "0f6e4b1e-1111-4222-8333-444444444444";

/// An answer of the local API.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    fn code(self, status: u16) -> String {
        self.expect(status).json()["code"].as_str().unwrap().to_owned()
    }

    /// Returns the lines of a stream.
    fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// An open transfer.
struct Transfer {
    socket: PathBuf,
    path: String,
}

fn open_connection(socket: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} /_holdfast/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

fn call(daemon: &Daemon, method: &str, path: &str, body: &[u8]) -> Answer {
    call_at(&daemon.data.join("control.sock"), method, path, body)
}

fn call_at(socket: &PathBuf, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = open_connection(socket);
    let headers = format!("Content-Length: {}\r\n", body.len());
    stream.write_all(head(method, path, &headers).as_bytes()).unwrap();
    // The daemon may answer and close before the end of the body.
    let _ = stream.write_all(body);
    read(stream)
}

/// Reads an answer, also one in chunks.
fn read(stream: impl Read) -> Answer {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), None);
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}")).parse().unwrap();
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the head is truncated");
        let lower = line.to_ascii_lowercase();
        length = length.or(lower.strip_prefix("content-length:").map(|text| text.trim().parse().unwrap()));
    }
    let mut bytes = Vec::new();
    if let Some(length) = length {
        bytes = vec![0; length];
        reader.read_exact(&mut bytes).unwrap();
    }
    while length.is_none() {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let chunk = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let start = bytes.len();
        bytes.resize(start + chunk + 2, 0);
        reader.read_exact(&mut bytes[start..]).unwrap();
        bytes.truncate(start + chunk);
        if chunk == 0 {
            break;
        }
    }
    Answer { status, text: String::from_utf8(bytes).unwrap() }
}

impl Transfer {
    fn open(daemon: &Daemon) -> Self {
        Self::of(daemon, "import")
    }

    fn of(daemon: &Daemon, purpose: &str) -> Self {
        let body = json!({ "purpose": purpose }).to_string();
        let opened = call(daemon, "POST", "transfers", body.as_bytes()).expect(201).json();
        let path = format!("transfers/{}", opened["id"].as_str().unwrap());
        Transfer { socket: daemon.data.join("control.sock"), path }
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        call_at(&self.socket, method, &format!("{}{path}", self.path), body)
    }

    fn need(&self, digests: &[(&str, Option<u64>)]) -> Answer {
        let lines =
            digests.iter().map(|(digest, size)| json!({ "digest": digest, "size": size }).to_string());
        self.call("POST", "/need", lines.collect::<Vec<_>>().join("\n").as_bytes())
    }

    fn put(&self, content: &[u8]) -> Answer {
        self.call("PUT", &format!("/blobs/{}", digest(content)), content)
    }

    /// Sends the content of an image with this layer; returns its manifest.
    fn put_image(&self, layer: &[u8]) -> String {
        let config = br#"{"architecture":"arm64","os":"linux"}"#;
        for content in [&config[..], layer] {
            let answer = self.put(content);
            assert!(answer.status == 200 || answer.status == 201, "{}", answer.text);
        }
        manifest_of(config, layer)
    }

    fn images(&self, request: &Value) -> Answer {
        self.call("POST", "/images", request.to_string().as_bytes())
    }

    /// Names one image; returns the outcome of its tag.
    fn name(&self, repository: &str, manifest: &str, tag: &str, pushed: u64) -> Value {
        let request = images(repository, &[manifest], &[(tag, manifest, Some(pushed))]);
        self.images(&request).expect(200).json()["tags"][0].clone()
    }
}

fn manifest_of(config: &[u8], layer: &[u8]) -> String {
    let descriptor =
        |content: &[u8]| json!({ "mediaType": "a/b", "digest": digest(content), "size": content.len() });
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config), "layers": [descriptor(layer)],
    })
    .to_string()
}

/// Returns a request that names manifests.
fn images(repository: &str, manifests: &[&str], tags: &[(&str, &str, Option<u64>)]) -> Value {
    let manifests: Vec<Value> = manifests
        .iter()
        .map(|text| json!({ "media_type": null, "data": text, "digest": digest(text.as_bytes()) }))
        .collect();
    let tags: Vec<Value> = tags
        .iter()
        .map(|(tag, text, pushed)| json!({ "tag": tag, "digest": digest(text.as_bytes()), "pushed": pushed }))
        .collect();
    json!({
        "repository": repository, "manifests": manifests, "tags": tags, "origin": { "registry": ORIGIN },
        "policy": { "keep_existing": false, "force": false }, "sparse": false,
    })
}

fn collect_all(daemon: &Daemon) {
    let answer = call(daemon, "POST", "jobs/gc", br#"{"grace":"0s"}"#).expect(200);
    assert_eq!(answer.lines().last().unwrap()["outcome"], "ok", "{}", answer.text);
}
