//! Reading of blobs from the medium.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Advice, fadvise};

use super::report::Fault;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::store::error::{StoreError, is_lack_of_resources};
use crate::store::{Store, buffers};

/// The number of bytes that the disk reads ahead of the hash.
const READ_AHEAD: u64 = 4 << 20;

impl Store {
    /// Reads a blob from the medium and compares it with its digest and its length in the index; blocking. Returns the
    /// fault, and the inode of the file that was read.
    ///
    /// # Errors
    /// A lack of descriptors or memory, which says nothing about the blob.
    pub(super) fn read_against_digest(
        &self,
        digest: &Digest,
        indexed: u64,
    ) -> Result<(Option<Fault>, Option<u64>), StoreError> {
        let unreadable = |error: &dyn std::fmt::Display| Fault::Unreadable {
            digest: digest.clone(),
            error: error.to_string(),
        };
        let mut file = match self.0.disk.open_blob(digest) {
            Ok(file) => file,
            Err(StoreError::Damaged(_)) => {
                return Ok((Some(Fault::Missing { digest: digest.clone() }), None));
            }
            Err(error @ StoreError::OutOfResources { .. }) => return Err(error),
            Err(error) => return Ok((Some(unreadable(&error)), None)),
        };
        let metadata = file.metadata().ok();
        let inode = metadata.as_ref().map(MetadataExt::ino);
        let length = metadata.map_or(0, |metadata| metadata.len());
        match hash(&mut file, digest.algorithm()) {
            Ok(found) => Ok((compare((digest, indexed), (found, length)), inode)),
            Err(error) if is_lack_of_resources(&error) => Err(StoreError::io("read a blob", error)),
            Err(error) => Ok((Some(unreadable(&error)), inode)),
        }
    }
}

/// Compares the digest and the length that the index has for a blob with those of its file.
pub(super) fn compare((digest, indexed): (&Digest, u64), (found, actual): (Digest, u64)) -> Option<Fault> {
    if found != *digest {
        return Some(Fault::Corrupt { digest: digest.clone(), actual: found });
    }
    (actual != indexed).then(|| Fault::Length { digest: digest.clone(), indexed, actual })
}

/// Hashes a file as it is on the medium.
fn hash(file: &mut File, algorithm: Algorithm) -> std::io::Result<Digest> {
    // The page cache may have a healthy copy of content that is corrupt on the medium, so the cached pages are dropped.
    // Where the system cannot do that, the cached copy is checked.
    let _ = fadvise(&*file, 0, None, Advice::DontNeed);
    let _ = fadvise(&*file, 0, None, Advice::Sequential);
    let (mut hasher, mut buffer) = (Hasher::new(algorithm), vec![0; buffers::SIZE]);
    let (mut position, mut requested) = (0, 0);
    loop {
        if position + READ_AHEAD / 2 >= requested {
            // The disk reads these bytes while the ones before them are hashed.
            let _ = fadvise(&*file, requested, NonZeroU64::new(READ_AHEAD), Advice::WillNeed);
            requested += READ_AHEAD;
        }
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
        position += buffer.len() as u64;
    }
}
