//! Referrers: the list of a registry that has one, else the index under the fallback tag.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::error::{ClientError, refusal};
use super::lists::read_page;
use super::registry::{Call, RegistryClient};
use super::scope::Scope;
use crate::oci::{
    Descriptor, Digest, MAX_REFERRERS, MediaType, Reference, RepositoryName, referrers_of_index,
};

impl RegistryClient {
    /// Returns the digests of the manifests whose subject is this digest.
    ///
    /// # Errors
    /// [`ClientError`], as all methods.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<BTreeSet<Digest>, ClientError> {
        if self.lists_referrers.load(Ordering::Relaxed) {
            if let Some(found) = self.listed_referrers(repository, digest).await? {
                return Ok(found);
            }
            self.lists_referrers.store(false, Ordering::Relaxed);
        }
        let Some(index) = self.manifest(repository, &fallback(digest)?).await? else {
            return Ok(BTreeSet::new());
        };
        Ok(referrers_of_index(&index.bytes, MAX_REFERRERS).into_keys().collect())
    }

    /// Reads the list; `None` if the registry has no such lists.
    async fn listed_referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BTreeSet<Digest>>, ClientError> {
        let mut target = self.target(format!("/v2/{repository}/referrers/{digest}"));
        let mut found = BTreeSet::new();
        loop {
            let response =
                self.call(&Call::new(Method::GET, target.clone(), Scope::pull(repository))).await?;
            if response.status != StatusCode::OK {
                let error = refusal(target.to_string(), response).await;
                let is_unsupported =
                    !error.is_transient() || error.status() == Some(StatusCode::NOT_IMPLEMENTED);
                // A list that ends too early would leave out signatures without a word.
                return if is_unsupported && found.is_empty() { Ok(None) } else { Err(error) };
            }
            let (bytes, next) = read_page(&target, response).await?;
            // Some hosts answer unknown paths with a page of theirs.
            if !is_index(&bytes) {
                let malformed =
                    || ClientError::Answer(format!("{target}: the list of referrers is not an index"));
                return if found.is_empty() { Ok(None) } else { Err(malformed()) };
            }
            let page = referrers_of_index(&bytes, MAX_REFERRERS);
            let before = found.len();
            found.extend(page.into_keys());
            match next {
                Some(next) if found.len() > before && found.len() < MAX_REFERRERS => target = next,
                Some(_) | None => return Ok(Some(found)),
            }
        }
    }

    /// Adds a referrer to the index under the fallback tag of its subject, for a registry that lists none by itself.
    ///
    /// # Errors
    /// [`ClientError`], as all methods.
    pub async fn add_to_fallback_tag(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> Result<(), ClientError> {
        let tag = fallback(subject)?;
        let known = self.manifest(repository, &tag).await?;
        let index = with_referrer(known.as_ref().map(|index| &index.bytes[..]), referrer);
        let malformed = || ClientError::Answer(format!("{repository}:{tag} is not an index of referrers"));
        let Some(text) = index.map_err(|NotAnIndex| malformed())? else { return Ok(()) };
        self.put_manifest(repository, &tag, (&MediaType::oci_index(), &text)).await.map(drop)
    }
}

fn fallback(digest: &Digest) -> Result<Reference, ClientError> {
    digest
        .fallback_tag()
        .parse()
        .map_err(|error| ClientError::Answer(format!("{digest} has no fallback tag: {error}")))
}

/// Returns true for the JSON of an index, whatever its entries are.
fn is_index(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Entries {
        #[serde(rename = "manifests")]
        _manifests: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Entries>(bytes).is_ok()
}

/// The manifest under a fallback tag is not an index.
#[derive(Debug, PartialEq, Eq)]
struct NotAnIndex;

/// Returns the index with a referrer more; `None` if it has it.
fn with_referrer(index: Option<&[u8]>, referrer: &Descriptor) -> Result<Option<Bytes>, NotAnIndex> {
    let mut index = match index {
        Some(bytes) => serde_json::from_slice::<Value>(bytes).map_err(|_| NotAnIndex)?,
        None => json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }),
    };
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or(NotAnIndex)?;
    let digest = referrer.digest.to_string();
    if entries.iter().any(|entry| entry["digest"] == digest.as_str()) {
        return Ok(None);
    }
    entries.push(serde_json::to_value(referrer).map_err(|_| NotAnIndex)?);
    Ok(Some(index.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn descriptor(content: &[u8]) -> Descriptor {
        Descriptor {
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            digest: Hasher::digest(Algorithm::Sha256, content),
            size: content.len() as u64,
            artifact_type: Some("example/signature".into()),
            annotations: [("k".to_owned(), "v".to_owned())].into(),
        }
    }

    #[test]
    fn only_an_index_is_a_list_of_referrers() {
        assert!(is_index(br#"{"manifests":[{"digest":1}]}"#) && is_index(br#"{"manifests":[]}"#));
        for other in [b"<html>".as_slice(), b"{}", b"[]", br#"{"manifests":null}"#, b""] {
            assert!(!is_index(other));
        }
    }

    #[test]
    fn fallback_index_gets_each_referrer_once() {
        let (first, second) = (descriptor(b"a"), descriptor(b"bc"));
        let one = with_referrer(None, &first).unwrap().unwrap();
        assert_eq!(with_referrer(Some(&one), &first), Ok(None));
        let two = with_referrer(Some(&one), &second).unwrap().unwrap();
        let listed = referrers_of_index(&two, 10);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[&first.digest].clone().into_descriptor(), first);
        for other in [b"{}".as_slice(), b"no JSON", b"{\"manifests\":1}"] {
            assert_eq!(with_referrer(Some(other), &first), Err(NotAnIndex));
        }
    }
}
