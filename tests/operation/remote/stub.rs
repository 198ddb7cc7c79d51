//! Registries that misbehave: each answers by a function of the request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::media::Image;
use crate::support::{OCI_MANIFEST, digest};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    headers: BTreeMap<String, String>,
    /// The body, if its length was announced.
    body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Status, headers and body of an answer.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// A server of one connection per request.
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_ended: Arc<AtomicBool>,
}

impl Stub {
    /// Starts it on a loopback address.
    pub fn start(ip: &str, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, is_ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (requests, ended, answer) = (Arc::clone(&seen), Arc::clone(&is_ended), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), requests, answer) = (stream, Arc::clone(&requests), Arc::clone(&answer))
                else {
                    continue;
                };
                // The client may go at any time.
                std::thread::spawn(move || drop(serve(stream, &requests, &*answer)));
            }
        });
        Stub { address, seen, is_ended }
    }

    /// Returns the requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(&Seen) -> Answer,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: u64 = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = Vec::new();
    (&mut reader).take(length).read_to_end(&mut body)?;
    let request = Seen { method, path, headers, body };
    seen.lock().unwrap().push(Seen { body: Vec::new(), ..request.clone() });
    let (status, headers, body) = answer(&request);
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut stream = reader.into_inner();
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}

/// Answers as a registry that has one image under the tag 1 of any repository, and no lists.
pub fn serve_image(image: &Image, request: &Seen) -> Answer {
    let name = request.path.rsplit('/').next().unwrap_or_default();
    let digest = if name == "1" { image.digest.as_str() } else { name };
    match (request.path.as_str(), image.content.get(digest)) {
        ("/v2/", _) => (200, Vec::new(), b"{}".to_vec()),
        (path, _) if path.contains("/tags/list") => (403, Vec::new(), b"{}".to_vec()),
        (path, Some(content)) if path.contains("/manifests/") && digest == image.digest => {
            let headers = vec![
                ("Content-Type", image.media_type.to_owned()),
                ("Docker-Content-Digest", image.digest.clone()),
            ];
            (200, headers, content.clone())
        }
        (path, Some(content)) if path.contains("/blobs/") => (200, Vec::new(), content.clone()),
        _ => (404, Vec::new(), b"{}".to_vec()),
    }
}

/// A registry in memory.
#[derive(Default)]
pub struct Memory {
    mounts: bool,
    /// Blobs by `REPOSITORY@DIGEST`, and manifests by `REPOSITORY:REFERENCE`.
    content: BTreeMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
}

impl Memory {
    /// Makes a registry that mounts blobs, or begins an upload instead.
    pub fn new(mounts: bool) -> Self {
        Memory { mounts, ..Memory::default() }
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Seen) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let Some(path) = path.strip_prefix("/v2/").filter(|path| !path.is_empty()) else {
            return (200, Vec::new(), b"{}".to_vec());
        };
        let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(request, repository, id, &query);
        }
        let name = path.replace("/blobs/", "@").replace("/manifests/", ":");
        if request.method != "PUT" {
            let headers = vec![("Content-Type", OCI_MANIFEST.to_owned())];
            let found = self.content.get(&name);
            return found.map_or((404, Vec::new(), Vec::new()), |content| (200, headers, content.clone()));
        }
        let repository = name.split(':').next().unwrap();
        self.content.insert(format!("{repository}:{}", digest(&request.body)), request.body.clone());
        self.content.insert(name, request.body.clone());
        (201, Vec::new(), Vec::new())
    }

    fn upload(
        &mut self,
        request: &Seen,
        repository: &str,
        id: &str,
        query: &BTreeMap<String, String>,
    ) -> Answer {
        let mounted = query.get("mount").zip(query.get("from"));
        let mounted =
            mounted.and_then(|(digest, from)| Some((digest, self.content.get(&format!("{from}@{digest}"))?)));
        match (request.method.as_str(), mounted, id.parse::<usize>()) {
            ("POST", Some((digest, content)), _) if self.mounts => {
                self.content.insert(format!("{repository}@{digest}"), content.clone());
                (201, Vec::new(), Vec::new())
            }
            ("POST", ..) => {
                self.uploads.push(Vec::new());
                let place = format!("/v2/{repository}/blobs/uploads/{}", self.uploads.len() - 1);
                (202, vec![("Location", place)], Vec::new())
            }
            ("PATCH", _, Ok(number)) => {
                self.uploads[number].extend(&request.body);
                (202, Vec::new(), Vec::new())
            }
            ("PUT", _, Ok(number)) => {
                let content = std::mem::take(&mut self.uploads[number]);
                assert_eq!(digest(&content), query["digest"]);
                self.content.insert(format!("{repository}@{}", query["digest"]), content);
                (201, Vec::new(), Vec::new())
            }
            _ => (204, Vec::new(), Vec::new()),
        }
    }
}
