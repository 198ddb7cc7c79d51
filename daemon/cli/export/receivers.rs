//! The receivers of an export: inventories, or older exports, of which `--for` and the medium tell.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::super::failure::Failure;
use crate::oci::Digest;
use crate::transfer::content_list::{CONTENT_LIST, ContentList, MAX_LIST};
use crate::transfer::export::{ExportError, Medium};
use crate::transfer::inventory::{FOLDER, Inventory, WantedContent};

/// Members at the start of an archive among which the list of contents is.
const FIRST_MEMBERS: usize = 16;

/// A receiver, and the content that it has.
pub(super) struct Receiver {
    /// The file that tells of it.
    pub(super) source: String,
    /// The id of its registry; empty for an older export.
    pub(super) id: String,
    pub(super) digests: BTreeSet<Digest>,
    pub(super) wanted: Vec<WantedContent>,
}

/// Content that an export leaves out or adds.
#[derive(Default)]
pub(super) struct Differences {
    /// Content that all receivers have.
    pub(super) have: BTreeSet<Digest>,
    /// Content that a receiver misses.
    pub(super) wanted: BTreeSet<WantedContent>,
    /// The sources that were considered.
    pub(super) sources: Vec<String>,
}

impl Differences {
    /// Compares the receivers. An inventory of the registry that exports does not count; it may be on the medium as well.
    pub(super) fn of(receivers: Vec<Receiver>, own_id: Option<&str>) -> Self {
        let mut differences = Differences::default();
        let others = receivers.into_iter().filter(|one| own_id.is_none_or(|own| one.id != own));
        for (number, receiver) in others.enumerate() {
            if number == 0 {
                differences.have = receiver.digests;
            } else {
                differences.have.retain(|digest| receiver.digests.contains(digest));
            }
            differences.wanted.extend(receiver.wanted);
            differences.sources.push(receiver.source);
        }
        differences
    }
}

/// Reads the inventories in a folder of a medium. A file that is no inventory is an error: an export that ignores it would be
/// too large without notice.
pub(super) fn on_medium(medium: &Medium) -> Result<Vec<Receiver>, Failure> {
    let failed = |error: ExportError| Failure::failed(error);
    let mut receivers = Vec::new();
    for name in medium.list(FOLDER).map_err(failed)? {
        if Path::new(&name).extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = format!("{FOLDER}/{name}");
        let path = medium.path_of(&name);
        if let Some(mut file) = medium.open_file(&name).map_err(failed)? {
            let bytes = read(&mut file).map_err(|error| cannot_read(&path, &error))?;
            receivers.push(inventory(&path, &bytes)?);
        }
    }
    Ok(receivers)
}

/// Reads the receivers of which a file or directory tells.
pub(super) fn of_path(path: &Path) -> Result<Vec<Receiver>, Failure> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| cannot_read(&name, &error);
    if path.is_dir() {
        let medium = Medium::open(path).map_err(Failure::failed)?;
        let receivers = on_medium(&medium)?;
        if !receivers.is_empty() {
            return Ok(receivers);
        }
        let Some(mut list) = medium.open_file(CONTENT_LIST).map_err(Failure::failed)? else {
            return Err(Failure::failed(format!("{name} has neither {FOLDER}/*.txt nor {CONTENT_LIST}")));
        };
        return Ok(vec![content_list(&name, &read(&mut list).map_err(failed)?)?]);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut first = [0; 512];
    let count = file.read(&mut first).map_err(failed)?;
    file.rewind().map_err(failed)?;
    if first.get(257..262) == Some(b"ustar") {
        return Ok(vec![content_list(&name, &list_of_archive(file).map_err(failed)?)?]);
    }
    let bytes = read(&mut file).map_err(failed)?;
    let is_list = first[..count].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    Ok(vec![if is_list { content_list(&name, &bytes)? } else { inventory(&name, &bytes)? }])
}

fn cannot_read(path: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot read {path}: {error}"))
}

/// Reads a whole file, but one byte more than is allowed at most.
fn read(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_LIST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the list of contents of an archive, which is one of its first members.
fn list_of_archive(file: File) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries()?.take(FIRST_MEMBERS) {
        let entry = entry?;
        if *entry.path_bytes() == *CONTENT_LIST.as_bytes() {
            let mut bytes = Vec::new();
            entry.take(MAX_LIST as u64 + 1).read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    Err(std::io::Error::other(format!("the archive has no {CONTENT_LIST} among its first members")))
}

fn inventory(source: &str, bytes: &[u8]) -> Result<Receiver, Failure> {
    let parsed = Inventory::parse(&String::from_utf8_lossy(bytes));
    let parsed =
        parsed.map_err(|error| Failure::failed(format!("{source}: {error}; delete it or write it again")))?;
    let Inventory { id, digests, wanted, .. } = parsed;
    Ok(Receiver { source: source.into(), id, digests, wanted })
}

fn content_list(source: &str, bytes: &[u8]) -> Result<Receiver, Failure> {
    let list = ContentList::parse(bytes).map_err(|error| Failure::failed(format!("{source}: {error}")))?;
    let digests = list.digests().cloned().collect();
    Ok(Receiver { source: source.into(), id: String::new(), digests, wanted: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn receiver(id: &str, has: &[&[u8]]) -> Receiver {
        let digests = has.iter().map(|bytes| Hasher::digest(Algorithm::Sha256, bytes)).collect();
        Receiver { source: id.into(), id: id.into(), digests, wanted: Vec::new() }
    }

    #[test]
    fn content_of_all_receivers_is_left_out_but_not_that_of_the_registry_itself() {
        let receivers =
            || vec![receiver("a", &[b"1", b"2"]), receiver("b", &[b"2", b"3"]), receiver("own", &[b"9"])];
        let differences = Differences::of(receivers(), Some("own"));
        assert_eq!(differences.have, receiver("", &[b"2"]).digests);
        assert_eq!(differences.sources, ["a", "b"]);
        assert!(Differences::of(receivers(), None).have.is_empty());
    }
}
