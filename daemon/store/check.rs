//! Checking: every blob against its digest, every manifest against what it points at, the index against the files, and
//! `index.json` against the index.
//!
//! It goes on beside the daemon, in short reads of the index; what looks wrong is looked at once more before it is
//! called so, since pushes, deletes and collections go on meanwhile.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use serde::Serialize;

use super::error::{StoreError, is_lack_of_resources};
use super::index::ManifestEntry;
use super::index::candidates::{Amount, TagAge};
use super::index::rows::LinkExceptionRow;
use super::{Role, Store, blob, blocking, buffers};
use crate::oci::{Algorithm, Digest, Hasher, LinkKind, Manifest, Reference, RepositoryName, Tag};

/// How many rows one read of the index looks at.
const PAGE: usize = 1000;

/// How many bytes the disk is asked for at once, ahead of what is hashed.
const AHEAD: u64 = 4 << 20;

/// How a check is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// How many bytes are read in a second at most.
    pub rate: Option<u64>,
    /// Whether what is broken is moved aside, so that the next push heals it.
    pub repair: bool,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The index has a blob that is not on the disk.
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The index has another length for a blob than its file has.
    Length {
        /// The blob.
        digest: Digest,
        /// What the index says, in bytes.
        indexed: u64,
        /// What the file has, in bytes.
        actual: u64,
    },
    /// The content of a blob is not what its digest says.
    Rotten {
        /// The blob.
        digest: Digest,
        /// What its content has.
        actual: Digest,
    },
    /// The disk does not give the content of a blob.
    Unreadable {
        /// The blob.
        digest: Digest,
        /// What the system said.
        error: String,
    },
    /// A manifest is none.
    NoManifest {
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A manifest points at a blob that its repository does not have.
    Incomplete {
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// What it points at.
        missing: Digest,
    },
    /// What is counted of a repository is not what it has.
    Miscounted {
        /// The repository.
        repository: RepositoryName,
    },
    /// The index does not read to its end, or its tables do not agree.
    Index,
    /// `index.json` is damaged, or does not say what the index says.
    Layout {
        /// What is wrong with it.
        problem: String,
    },
    /// A tag names a manifest that its repository does not have.
    Dangling {
        /// Its repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it names.
        digest: Digest,
    },
}

impl Fault {
    /// Whether the content is well and the index is not.
    fn is_of_the_index(&self) -> bool {
        matches!(
            self,
            Fault::Length { .. }
                | Fault::NoManifest { .. }
                | Fault::Miscounted { .. }
                | Fault::Index
                | Fault::Dangling { .. }
        )
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blobs that have been read.
    pub done: Amount,
    /// Blobs that there are.
    pub all: Amount,
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Blobs and manifests that were read.
    pub blobs: Amount,
    /// Manifests, counted once for each repository.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Files that the index does not know; the next collection sees to them.
    pub unknown_files: u64,
    /// Things that are wrong.
    pub faults: u64,
    /// Of these, blobs that were moved aside and wait to be pushed again, or were found again.
    pub repaired: u64,
    /// Of these, contradictions in the index, which go when it is made again.
    pub index_faults: u64,
    /// Of these, faults of `index.json`, which is written again from the index.
    pub layout_faults: u64,
}

/// What a check tells while it goes on.
pub enum Event {
    /// Something is wrong; whether it was repaired.
    Fault(Fault, bool),
    /// So far it has come.
    Progress(Progress),
}

impl Store {
    /// Checks everything; `observe` is told of what is wrong, and of the progress.
    ///
    /// # Errors
    /// What the index says, or a lack of descriptors or memory. A blob that cannot be read otherwise is a fault and no error.
    pub async fn check(
        &self,
        options: CheckOptions,
        observe: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Checked, StoreError> {
        let _running = self.0.measurements.check_begins();
        let checked = self.check_now(options, observe).await;
        self.0.measurements.note(|jobs| {
            jobs.check.end(checked.as_ref().err());
            jobs.faults = checked.as_ref().map_or(jobs.faults, |checked| Some(checked.faults));
        });
        checked
    }

    async fn check_now(
        &self,
        options: CheckOptions,
        observe: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Checked, StoreError> {
        let mut check = Check { store: self, options, observe, checked: Checked::default(), pace: None };
        let index_is_healthy = check.index().await?;
        // A repair goes by rows that may be wrong: the index is made again first.
        check.options.repair &= index_is_healthy;
        check.layout(index_is_healthy).await?;
        check.blobs().await?;
        let mut last = None;
        loop {
            let page = self.all_repositories(last, PAGE).await?;
            for repository in &page.items {
                check.repository(repository).await?;
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { break };
            last = Some(name.to_string());
        }
        for algorithm in Algorithm::ALL {
            let store = self.clone();
            check.checked.unknown_files +=
                blocking(move || store.unknown_files(algorithm)).await?.len() as u64;
        }
        Ok(check.checked)
    }
}

struct Check<'a> {
    store: &'a Store,
    options: CheckOptions,
    observe: &'a mut (dyn FnMut(Event) + Send),
    checked: Checked,
    /// When reading began.
    pace: Option<Instant>,
}

impl Check<'_> {
    async fn blobs(&mut self) -> Result<(), StoreError> {
        let counts = self.store.0.index.counts()?;
        let all = Amount { count: counts.blobs, bytes: counts.bytes };
        let mut after = None;
        loop {
            let index = Arc::clone(&self.store.0.index);
            let page = blocking(move || index.blobs_after(after.as_ref(), PAGE)).await?;
            for (digest, size) in &page {
                self.blob(digest, *size).await?;
                (self.observe)(Event::Progress(Progress { done: self.checked.blobs, all }));
            }
            after = page.last().map(|(digest, _)| digest.clone());
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        let (fault, file) = blocking(move || store.read_against_digest(&wanted, size)).await?;
        self.checked.blobs.add(size);
        self.keep_pace().await;
        let Some(fault) = fault else { return Ok(()) };
        if !self.store.0.index.knows_blob(digest)? {
            // Collected meanwhile.
            return Ok(());
        }
        let repair = self.options.repair && !fault.is_of_the_index();
        let repaired = repair && self.store.set_aside(digest, file).await?;
        self.fault(fault, repaired);
        Ok(())
    }

    /// Sleeps for as long as more was read than may be.
    async fn keep_pace(&mut self) {
        let Some(rate) = self.options.rate.filter(|rate| *rate > 0) else { return };
        let began = *self.pace.get_or_insert_with(Instant::now);
        let due = Duration::from_millis(self.checked.blobs.bytes.saturating_mul(1000) / rate);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
    }

    fn fault(&mut self, fault: Fault, repaired: bool) {
        self.checked.faults += 1;
        self.checked.repaired += u64::from(repaired);
        self.checked.index_faults += u64::from(fault.is_of_the_index());
        self.checked.layout_faults += u64::from(matches!(fault, Fault::Layout { .. }));
        (self.observe)(Event::Fault(fault, repaired));
    }

    async fn repository(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
            let page = blocking(move || index.manifests_after(&name, after.as_ref(), PAGE)).await?;
            for entry in &page {
                self.checked.manifests += 1;
                self.manifest(repository, entry).await?;
            }
            after = page.last().map(|entry| entry.digest.clone());
            if after.is_none() {
                self.counted(repository).await?;
                self.links(repository).await?;
                return self.tags(repository).await;
            }
        }
    }

    async fn counted(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
        if !blocking(move || index.repository_adds_up(&name)).await? {
            self.fault(Fault::Miscounted { repository: repository.clone() }, false);
        }
        Ok(())
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<(), StoreError> {
        let (store, name, entry) = (self.store.clone(), repository.clone(), entry.clone());
        let faults = blocking(move || store.faults_of(&name, &entry)).await?;
        for fault in faults {
            let repaired = match &fault {
                Fault::Incomplete { repository, missing, .. } if self.options.repair => {
                    let (repository, digest) = (repository.clone(), missing.clone());
                    let writer = self.store.writer()?;
                    writer.submit(move |batch| batch.link_again(&repository, &digest)).await?
                }
                _ => false,
            };
            self.fault(fault, repaired);
        }
        Ok(())
    }

    async fn tags(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name) = (self.store.clone(), repository.clone());
            let (page, dangling) = blocking(move || {
                let page = store.0.index.tags_after(&name, after.as_ref(), PAGE)?;
                let dangling = store.dangling(&name, &page)?;
                Ok((page, dangling))
            })
            .await?;
            self.checked.tags += page.len() as u64;
            for one in dangling {
                let (repository, tag, digest) = (repository.clone(), one.tag, one.digest);
                self.fault(Fault::Dangling { repository, tag, digest }, false);
            }
            after = page.into_iter().next_back().map(|last| last.tag);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Checks that the index agrees with itself; returns true if it does.
    async fn index(&mut self) -> Result<bool, StoreError> {
        match self.store.verify_index().await {
            Err(StoreError::Unready) => {
                self.fault(Fault::Index, false);
                Ok(false)
            }
            verified => verified.map(|()| true),
        }
    }

    /// Checks `index.json`. The daemon repairs it in any case, since it writes it at each change; from a damaged index it is
    /// not written, for it may be all that has the names.
    async fn layout(&mut self, index_is_healthy: bool) -> Result<(), StoreError> {
        let Some(problem) = self.store.fault_of_layout(index_is_healthy).await? else { return Ok(()) };
        let repair = index_is_healthy && (self.options.repair || self.store.0.role == Role::Daemon);
        let repaired = repair && self.store.rewrite_layout().await?;
        self.fault(Fault::Layout { problem }, repaired);
        Ok(())
    }

    /// Checks that each blob that a repository has is a file of its length. The files themselves are read elsewhere,
    /// which misses those that the table of blobs does not have.
    async fn links(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name) = (self.store.clone(), repository.clone());
            let (last, faults) = blocking(move || store.faults_of_links(&name, after.as_ref())).await?;
            for fault in faults {
                self.fault(fault, false);
            }
            after = last;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

impl Store {
    /// Returns the tags of a page that still name a manifest which their repository does not have.
    fn dangling(&self, repository: &RepositoryName, page: &[TagAge]) -> Result<Vec<TagAge>, StoreError> {
        let index = &self.0.index;
        let mut dangling = Vec::new();
        for one in page {
            let by_digest = Reference::Digest(one.digest.clone());
            let by_tag = Reference::Tag(one.tag.clone());
            if index.manifest(repository, &by_digest)?.is_none()
                && index.manifest(repository, &by_tag)?.is_some_and(|entry| entry.digest == one.digest)
            {
                dangling.push(one.clone());
            }
        }
        Ok(dangling)
    }

    /// Returns the faults of a page of the blobs that a repository has, after the digest `after`, and the last of them.
    fn faults_of_links(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
    ) -> Result<(Option<Digest>, Vec<Fault>), StoreError> {
        let index = &self.0.index;
        let page = index.links_after(repository, after, PAGE)?;
        let mut faults = Vec::new();
        for (digest, size) in &page {
            if let Some(fault) = self.fault_of_file(digest, *size)?
                // A delete or a collection may have come in between.
                && index.blob(repository, digest)?.is_some_and(|row| row.size == *size)
            {
                faults.push(fault);
            }
        }
        Ok((page.into_iter().next_back().map(|(digest, _)| digest), faults))
    }

    /// Returns the fault of content that a repository has and the table of blobs does not have with this length; the
    /// check of the blobs finds the others.
    fn fault_of_file(&self, digest: &Digest, size: u64) -> Result<Option<Fault>, StoreError> {
        match self.0.index.blob_size(digest)? {
            Some(known) if known == size => return Ok(None),
            _ => {}
        }
        let digest = digest.clone();
        Ok(Some(match self.0.disk.blob_length(&digest)? {
            None => Fault::Missing { digest },
            Some(actual) => Fault::Length { digest, indexed: size, actual },
        }))
    }
}

impl Store {
    /// Reads a blob from the medium; what is wrong with it, and which file it was.
    fn read_against_digest(
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
            // That says nothing of the blob.
            Err(error @ StoreError::OutOfResources { .. }) => return Err(error),
            Err(error) => return Ok((Some(unreadable(&error)), None)),
        };
        let metadata = file.metadata().ok();
        let inode = metadata.as_ref().map(MetadataExt::ino);
        let actual = metadata.map_or(0, |metadata| metadata.len());
        Ok(match hash(&mut file, digest.algorithm()) {
            Ok(found) if found == *digest && actual == indexed => (None, inode),
            Ok(found) if found == *digest => {
                (Some(Fault::Length { digest: digest.clone(), indexed, actual }), inode)
            }
            Ok(actual) => (Some(Fault::Rotten { digest: digest.clone(), actual }), inode),
            Err(error) if is_lack_of_resources(&error) => return Err(StoreError::io("read a blob", error)),
            Err(error) => (Some(unreadable(&error)), inode),
        })
    }

    /// What is wrong with a manifest that can be read; one that cannot is a blob with a fault of its own.
    fn faults_of(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<Vec<Fault>, StoreError> {
        if let Some(fault) = self.fault_of_file(&entry.digest, entry.size)? {
            let is_there =
                self.0.index.manifest(repository, &Reference::Digest(entry.digest.clone()))?.is_some();
            return Ok(Vec::from_iter(is_there.then_some(fault)));
        }
        let bytes = match blob::read_whole(&self.0.disk, &entry.digest, entry.size) {
            Ok(bytes) => bytes,
            Err(error @ StoreError::OutOfResources { .. }) => return Err(error),
            Err(_) => return Ok(Vec::new()),
        };
        let (repository, digest) = (repository.clone(), entry.digest.clone());
        let Ok(manifest) = Manifest::parse(&bytes, Some(&entry.media_type)) else {
            return Ok(vec![Fault::NoManifest { repository, digest }]);
        };
        let mut faults = Vec::new();
        for link in manifest.links().iter().filter(|link| link.kind == LinkKind::Blob) {
            let index = &self.0.index;
            let by_digest = |digest: &Digest| index.manifest(&repository, &Reference::Digest(digest.clone()));
            let here = index.blob(&repository, &link.digest)?.is_some() || by_digest(&link.digest)?.is_some();
            // A client that deleted the blob from the repository wanted that.
            let is_deleted =
                index.link_exception(&repository, &link.digest)? == Some(LinkExceptionRow::Deleted);
            if !here && !is_deleted && by_digest(&digest)?.is_some() {
                let (repository, digest, missing) = (repository.clone(), digest.clone(), link.digest.clone());
                faults.push(Fault::Incomplete { repository, digest, missing });
            }
        }
        Ok(faults)
    }
}

/// Hashes a file as it is on the medium.
fn hash(file: &mut File, algorithm: Algorithm) -> std::io::Result<Digest> {
    // What the system has in memory may be better than what the card has. A system that cannot forget it reads
    // what it has.
    let _ = fadvise(&*file, 0, None, Advice::DontNeed);
    let _ = fadvise(&*file, 0, None, Advice::Sequential);
    let (mut hasher, mut buffer) = (Hasher::new(algorithm), vec![0; buffers::SIZE]);
    let (mut position, mut asked) = (0, 0);
    loop {
        if position + AHEAD / 2 >= asked {
            // The disk fetches this while what came before is hashed.
            let _ = fadvise(&*file, asked, NonZeroU64::new(AHEAD), Advice::WillNeed);
            asked += AHEAD;
        }
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
        position += buffer.len() as u64;
    }
}
