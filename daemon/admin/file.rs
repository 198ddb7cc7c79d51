//! The download of one layer of an image or file of an artifact: always an attachment, so that stored content never becomes a page.

use std::net::IpAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};

use super::error::AdminError;
use super::request::AdminRequest;
use super::response::OK;
use crate::access::Action;
use crate::oci::{DescriptorView, Digest, ManifestView, Reference, RepositoryName};
use crate::store::BlobReader;
use crate::wire::{BodyError, Chunks, Response, ResponseBody, confine, empty};

/// The longest name of a downloaded file.
const LONGEST_NAME: usize = 120;

/// The extensions of files by the ends of their media types.
const EXTENSIONS: [(&[&str], &str); 4] = [
    (&[".tar"], ".tar"),
    (&[".tar+gzip", ".tar.gzip"], ".tar.gz"),
    (&[".tar+zstd", ".tar.zstd"], ".tar.zst"),
    (&["+json"], ".json"),
];

/// Returns the descriptor of a blob in a manifest that the user may pull.
pub(super) async fn described(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    manifest: &Digest,
    blob: &Digest,
) -> Result<DescriptorView, AdminError> {
    request.check(Action::Pull, name)?;
    let store = &request.admin.store;
    let _permit = store.acquire_read_permit().await?;
    let entry = store.manifest(name, &Reference::Digest(manifest.clone()))?;
    let contents = ManifestView::parse(&store.read_manifest_for_page(&entry).await?.unwrap_or_default());
    let mut parts = contents.layers.items.into_iter().chain(contents.blobs.items);
    let found = parts.find(|part| part.digest == *blob);
    found.ok_or_else(|| AdminError::NotFound("This manifest has no such file.".into()))
}

/// Sends a layer of an image, or a file of an artifact.
pub(super) async fn send(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    manifest: &Digest,
    blob: &Digest,
) -> Result<Response, AdminError> {
    let part = described(request, name, manifest, blob).await?;
    let store = &request.admin.store;
    let size = store.blob(name, blob)?;
    let reader = store.read_blob(blob, 0, size).await?;
    let mut response = empty(OK);
    if !request.is_head() {
        let download = FileDownload { reader, digest: blob.clone(), client: request.context.client };
        *response.body_mut() = ResponseBody::Stream(Box::new(download));
    }
    let headers = response.headers_mut();
    confine(headers);
    headers.insert(CONTENT_LENGTH, size.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let disposition = format!("attachment; filename=\"{}\"", file_name(&part));
    let disposition = HeaderValue::from_str(&disposition);
    headers.insert(CONTENT_DISPOSITION, disposition.unwrap_or(HeaderValue::from_static("attachment")));
    Ok(response)
}

/// Returns the name of the file: the last part of its title in letters that every system accepts, or its digest with the
/// extension of its type.
fn file_name(part: &DescriptorView) -> String {
    let name = part.title().and_then(|title| title.rsplit(['/', '\\']).next()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    let name: String = name.chars().take(LONGEST_NAME).map(allowed).collect();
    // A name of dots is a directory, and one with a dot first is hidden.
    let name = name.trim_start_matches('.');
    if !name.is_empty() {
        return name.to_owned();
    }
    let media_type = part.media_type.as_deref().unwrap_or_default();
    let known = EXTENSIONS.iter().find(|(ends, _)| ends.iter().any(|end| media_type.ends_with(end)));
    format!("{}{}", &part.digest.hex()[..12], known.map_or("", |(_, extension)| extension))
}

/// The body of the download.
struct FileDownload {
    reader: BlobReader,
    digest: Digest,
    client: IpAddr,
}

impl Chunks for FileDownload {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.reader.poll_chunk(context).map_err(|error| {
            log::error!(client:% = self.client; "cannot send {} to its end: {error}", self.digest);
            BodyError
        })
    }

    fn remaining(&self) -> u64 {
        self.reader.remaining()
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn file_names_are_plain() {
        let part = |media_type: &str, title: Option<&str>| {
            let annotations = title.map(|title| serde_json::json!({"org.opencontainers.image.title": title}));
            let part = serde_json::json!({"digest": worst_case::digest(), "mediaType": media_type, "annotations": annotations.unwrap_or_default()});
            file_name(&serde_json::from_str(&part.to_string()).unwrap())
        };
        let name = |title| part("a/b", title);
        for (media_type, extension) in [
            ("application/vnd.oci.image.layer.v1.tar", ".tar"),
            ("application/vnd.oci.image.layer.v1.tar+gzip", ".tar.gz"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", ".tar.gz"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", ".tar.zst"),
            ("application/spdx+json", ".json"),
        ] {
            assert_eq!(part(media_type, None), format!("{}{extension}", "a".repeat(12)));
        }
        assert_eq!(name(Some("dir/app-1.0+x.tar.gz")), "app-1.0+x.tar.gz");
        assert_eq!(name(Some("..\\..\\.bashrc")), "bashrc");
        assert_eq!(name(Some("a\"; b\r\nc")), "a___b__c");
        for nothing in [None, Some(""), Some(".."), Some("a/")] {
            assert_eq!(name(nothing), "a".repeat(12));
        }
    }
}
