//! A client that pushes, moves tags, deletes and pulls at random in its own repository, and checks each response
//! against a model of the possible states: after a request without a response, more than one state is possible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{OCI_MANIFEST, Request, digest, image};

/// Number of different images of a generation. All clients push the same ones, so that blobs are shared.
const IMAGES: u32 = 12;
const TAGS: u8 = 4;
/// State of a manifest that was never pushed: it cannot exist, and can be missing.
const NEVER_PUSHED: (bool, bool) = (false, true);
/// Lease of a blob that a HEAD has found, with a grace period of two seconds.
const LEASE: Duration = Duration::from_secs(1);
const CONFIG: &[u8] = b"{\"os\":\"linux\"}";

/// Outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    /// No response, or a 5xx: the change may have been made or not.
    Unknown,
}

/// A client with its model.
pub struct Client {
    address: SocketAddr,
    repository: String,
    random: u64,
    /// Possible images of each tag: exactly one, unless a response is missing.
    tags: BTreeMap<u8, BTreeSet<Option<u32>>>,
    generation: u32,
    /// For each manifest: whether it can exist, and whether it can be missing.
    manifests: BTreeMap<u32, (bool, bool)>,
    /// Steps taken, for failure messages.
    history: Vec<String>,
    /// Number of acknowledged changes.
    pub acknowledged: u64,
}

/// Returns the layer of an image, from a hundred bytes to a few hundred thousand.
pub fn layer(image: u32) -> Vec<u8> {
    let length = 100usize << (image % IMAGES);
    let bytes = (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8);
    format!("layer of {image} ").bytes().chain(bytes).collect()
}

/// Returns the manifest of an image.
pub fn manifest(number: u32) -> Vec<u8> {
    let mut manifest: Value =
        serde_json::from_slice(&image(&digest(CONFIG), &digest(&layer(number)), None)).unwrap();
    manifest["annotations"] = serde_json::json!({ "number": number.to_string() });
    serde_json::to_vec(&manifest).unwrap()
}

/// Returns the number of the image in a manifest, after checking all its bytes.
fn image_number(bytes: &[u8]) -> u32 {
    let read: Value = serde_json::from_slice(bytes).unwrap();
    let number = read["annotations"]["number"].as_str().unwrap().parse().unwrap();
    assert_eq!(bytes, manifest(number), "the manifest differs from the pushed one");
    number
}

impl Client {
    pub fn new(address: SocketAddr, number: u64, seed: u64) -> Self {
        let random = (seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
        Client {
            address,
            repository: format!("client{number}"),
            random,
            tags: (0..TAGS).map(|tag| (tag, BTreeSet::from([None]))).collect(),
            generation: 0,
            manifests: BTreeMap::new(),
            history: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Continues with a daemon at another address.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Returns a pseudo-random number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, &format!("/v2/{}/{path}", self.repository))
    }

    /// Sends a change that may also be refused with a status of `refused`.
    fn send(&mut self, request: Request, done: u16, refused: &[u16]) -> Outcome {
        let outcome = match request.try_send() {
            Ok(answer) if answer.status == done => Outcome::Done,
            Ok(answer) if refused.contains(&answer.status) => Outcome::Refused,
            Ok(answer) if answer.status >= 500 => Outcome::Unknown,
            Ok(answer) => panic!("{answer:?} after {:#?}", self.last()),
            Err(_) => Outcome::Unknown,
        };
        self.acknowledged += u64::from(outcome == Outcome::Done);
        if let Some(last) = self.history.last_mut() {
            last.push_str(&format!(" {outcome:?}"));
        }
        outcome
    }

    fn last(&self) -> &[String] {
        &self.history[self.history.len().saturating_sub(40)..]
    }

    /// Takes a random step; returns false if the server did not respond, or failed.
    pub fn step(&mut self) -> bool {
        let (tag, number) = (self.below(u64::from(TAGS)) as u8, self.below(u64::from(IMAGES)) as u32);
        let number = self.generation * IMAGES + number;
        let kind = self.below(10);
        self.history.push(match kind {
            0..=4 => format!("push {number} as t{tag}"),
            5..=6 => format!("delete t{tag}"),
            7 => format!("delete {number}"),
            _ => format!("pull t{tag}"),
        });
        match kind {
            0..=4 => self.push(tag, number),
            5..=6 => self.delete_tag(tag),
            7 => self.delete_manifest(number),
            _ => self.pull(tag),
        }
    }

    fn push(&mut self, tag: u8, number: u32) -> bool {
        let (content, began) = (layer(number), Instant::now());
        if !self.push_blob(CONFIG) || !self.push_blob(&content) {
            return false;
        }
        let request = self.request("PUT", &format!("manifests/t{tag}"));
        let request = request.header("Content-Type", OCI_MANIFEST).body(&manifest(number));
        let outcome = self.send(request, 201, &[400]);
        if outcome == Outcome::Refused {
            // Allowed only on a busy machine, where the lease of a blob has expired.
            assert!(began.elapsed() > LEASE, "a blob is lost: {:#?}", self.last());
            return true;
        }
        let before = self.tags[&tag].clone();
        if outcome == Outcome::Done {
            self.tags.insert(tag, BTreeSet::from([Some(number)]));
            self.manifests.insert(number, (true, false));
        } else {
            self.tags.entry(tag).or_default().insert(Some(number));
            self.manifests.entry(number).or_insert(NEVER_PUSHED).0 = true;
        }
        // After a push without a response, the images that the tag may have named may be untagged or not.
        for image in before.into_iter().flatten().filter(|_| outcome == Outcome::Unknown) {
            self.manifests.entry(image).or_insert(NEVER_PUSHED).1 |= self.may_be_untagged(image);
        }
        outcome == Outcome::Done
    }

    fn push_blob(&mut self, content: &[u8]) -> bool {
        let digest = digest(content);
        let head = self.request("HEAD", &format!("blobs/{digest}")).try_send();
        match head.map(|answer| answer.status) {
            Ok(200) => return true,
            Ok(404) => {}
            _ => return false,
        }
        if self.below(3) == 0 {
            let request = self.request("POST", &format!("blobs/uploads/?digest={digest}"));
            return self.send(request.body(content), 201, &[]) == Outcome::Done;
        }
        // Another client may have the blob, or may be losing it.
        let from = if self.below(2) == 0 { String::new() } else { format!("&from=client{}", self.below(4)) };
        let path = format!("blobs/uploads/?mount={digest}{from}");
        let Ok(start) = self.request("POST", &path).body(b"").try_send() else { return false };
        if start.status >= 500 {
            return false;
        }
        if start.status == 201 {
            return true;
        }
        let location = start.expect(202).required_header("location");
        let patch = Request::new(self.address, "PATCH", &location).chunked(content);
        if self.send(patch, 202, &[]) != Outcome::Done {
            return false;
        }
        let put = Request::new(self.address, "PUT", &format!("{location}?digest={digest}"));
        self.send(put.body(b""), 201, &[]) == Outcome::Done
    }

    /// Returns true if no tag certainly names an image.
    fn may_be_untagged(&self, number: u32) -> bool {
        !self.tags.values().any(|may| may.len() == 1 && may.contains(&Some(number)))
    }

    fn delete_tag(&mut self, tag: u8) -> bool {
        let request = self.request("DELETE", &format!("manifests/t{tag}"));
        let outcome = self.send(request, 202, &[404]);
        let before = self.tags[&tag].clone();
        match outcome {
            Outcome::Done => {
                assert!(before.iter().any(Option::is_some), "t{tag} did not exist: {:#?}", self.last());
                self.tags.insert(tag, BTreeSet::from([None]));
            }
            Outcome::Refused => {
                assert!(before.contains(&None), "t{tag} is lost: {:#?}", self.last());
                self.tags.insert(tag, BTreeSet::from([None]));
                return true;
            }
            Outcome::Unknown => {
                self.tags.entry(tag).or_default().insert(None);
            }
        }
        // A collection takes the manifest later, unless another tag names it.
        for image in before.into_iter().flatten() {
            self.manifests.entry(image).or_insert(NEVER_PUSHED).1 |= self.may_be_untagged(image);
        }
        outcome == Outcome::Done
    }

    fn delete_manifest(&mut self, number: u32) -> bool {
        let path = format!("manifests/{}", digest(&manifest(number)));
        let outcome = self.send(self.request("DELETE", &path), 202, &[404]);
        let (can_exist, can_be_missing) = *self.manifests.entry(number).or_insert(NEVER_PUSHED);
        match outcome {
            Outcome::Done => assert!(can_exist, "{number} did not exist: {:#?}", self.last()),
            Outcome::Refused => assert!(can_be_missing, "{number} is lost: {:#?}", self.last()),
            Outcome::Unknown => {
                self.manifests.insert(number, (true, true));
                for may in self.tags.values_mut().filter(|may| may.contains(&Some(number))) {
                    may.insert(None);
                }
                return false;
            }
        }
        self.manifests.insert(number, (false, true));
        for may in self.tags.values_mut() {
            if may.remove(&Some(number)) {
                may.insert(None);
            }
        }
        true
    }

    fn pull(&mut self, tag: u8) -> bool {
        let Ok(answer) = self.request("GET", &format!("manifests/t{tag}")).try_send() else { return false };
        if answer.status >= 500 {
            return false;
        }
        let found = (answer.status == 200).then(|| image_number(&answer.body));
        assert!(
            self.tags[&tag].contains(&found),
            "t{tag} is {found:?} and not one of {:?}: {:#?}",
            self.tags[&tag],
            self.last()
        );
        true
    }

    /// Reads everything back, byte for byte, after a restart of the server, and updates the model to what exists.
    /// Returns the number of images.
    pub fn verify(&mut self) -> usize {
        self.history.push("verify".into());
        for tag in 0..TAGS {
            let answer = self.request("GET", &format!("manifests/t{tag}")).send();
            let found = match answer.status {
                200 => Some(image_number(&answer.body)),
                404 => None,
                status => panic!("{status} for t{tag} after {:#?}", self.last()),
            };
            let may = &self.tags[&tag];
            assert!(may.contains(&found), "t{tag} is {found:?} and not one of {may:?}: {:#?}", self.last());
            self.tags.insert(tag, BTreeSet::from([found]));
        }
        let mut images = 0;
        for (number, (can_exist, can_be_missing)) in std::mem::take(&mut self.manifests) {
            let bytes = manifest(number);
            let answer = self.request("GET", &format!("manifests/{}", digest(&bytes))).send();
            let there = answer.status == 200;
            assert!(
                if there { can_exist } else { can_be_missing },
                "{number}: {}: {:#?}",
                answer.status,
                self.last()
            );
            let tagged = self.tags.values().any(|may| may.contains(&Some(number)));
            assert!(there || !tagged, "{number} has a tag and is gone: {:#?}", self.last());
            if there {
                assert_eq!(answer.body, bytes);
                images += usize::from(self.verify_blobs(number, can_be_missing));
            }
            // The next generation has other images; of the older ones only tagged ones are still checked.
            if tagged {
                self.manifests.insert(number, (true, false));
            }
        }
        self.generation += 1;
        images
    }

    /// Returns true if an image has its blobs. If a collection may take the image (`may_go`), it may be gone by now,
    /// but only as a whole.
    fn verify_blobs(&self, number: u32, may_go: bool) -> bool {
        for content in [CONFIG, &layer(number)] {
            let answer = self.request("GET", &format!("blobs/{}", digest(content))).send();
            if answer.status == 404 && may_go {
                let manifest = format!("manifests/{}", digest(&manifest(number)));
                let status = self.request("GET", &manifest).send().status;
                assert_eq!(status, 404, "{number} exists without a blob: {:#?}", self.last());
                return false;
            }
            assert_eq!(answer.status, 200, "a blob of {number}: {:#?}", self.last());
            assert!(
                answer.body == content,
                "a blob of {number} differs from the pushed one: {:#?}",
                self.last()
            );
        }
        true
    }
}
