//! Deletes that need several transactions.

use super::*;
use crate::oci::{Algorithm, Hasher, Manifest};
use crate::store::disk::Disk;
use crate::store::index::database::Index;
use crate::store::index::push::NewManifest;
use crate::store::index::writer::Writer;
use crate::store::work::Cancel;

fn manifest(number: usize, subject: Option<&Digest>, tags: Vec<Tag>) -> NewManifest {
    let mut image = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [],
        "annotations": {"number": number.to_string()},
    });
    if let Some(subject) = subject {
        image["subject"] = serde_json::json!({"mediaType": "a/b", "digest": subject, "size": 1});
    }
    let bytes = serde_json::to_vec(&image).unwrap();
    let digest = Hasher::digest(Algorithm::Sha256, &bytes);
    let manifest = Manifest::parse(&bytes, None).unwrap();
    NewManifest {
        repository: repository(),
        manifest,
        digest,
        size: bytes.len() as u64,
        tags,
        timestamps: None,
    }
}

fn repository() -> RepositoryName {
    "a".parse().unwrap()
}

struct Opened {
    index: Arc<Index>,
    writer: Writer,
    _directory: tempfile::TempDir,
}

fn open() -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::open(directory.path(), |_| ()).unwrap());
    let index = Arc::new(Index::open(&disk, 16 << 20).unwrap());
    let (writer, _) = Writer::start(Arc::clone(&index), disk, || ()).unwrap();
    Opened { index, writer, _directory: directory }
}

impl Opened {
    async fn push(&self, new: NewManifest) {
        self.writer.submit(move |batch: &mut Batch| batch.index_manifest(&new)).await.unwrap();
    }

    async fn submit<T: Send + 'static>(
        &self,
        change: impl FnMut(&mut Batch) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.writer.submit(change).await.unwrap()
    }

    fn orphans(&self) -> usize {
        let txn = self.index.env.read_txn().unwrap();
        let rows = self.index.tables.orphans.rows(&txn).unwrap();
        rows.filter(|row| schema::decode::<OrphanRow>(row.as_ref().unwrap().1).unwrap().deleted).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn interrupted_delete_is_continued() {
    const REFERRERS: usize = 2 * AT_ONCE + 10;
    let opened = open();
    let subject = manifest(0, None, Vec::new());
    let digest = subject.digest.clone();
    opened.push(subject.clone()).await;
    for number in 1..=REFERRERS {
        opened.push(manifest(number, Some(&digest), Vec::new())).await;
    }
    let delete = ManifestDelete {
        repository: repository(),
        digest: digest.clone(),
        subject: None,
        immutable: Arc::default(),
    };
    let deleted = opened.submit(move |batch| batch.delete_manifest(&delete)).await;
    assert_eq!(deleted, Deleted::ReferrersLeft);
    // One page of orphans, and the row of the deleted manifest that marks the delete as unfinished.
    assert_eq!(opened.orphans(), AT_ONCE + 1);
    assert_eq!(opened.index.unfinished_deletes(&repository()).unwrap(), std::slice::from_ref(&digest));
    let mut after = None;
    loop {
        let (wanted, last) = (digest.clone(), after.take());
        let orphan = move |batch: &mut Batch| batch.orphan_referrers(&repository(), &wanted, last.as_ref());
        after = opened.submit(orphan).await;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(opened.orphans(), REFERRERS);
    assert!(opened.index.unfinished_deletes(&repository()).unwrap().is_empty());
    // A manifest that was pushed again keeps its referrers.
    opened.push(subject).await;
    let orphan = move |batch: &mut Batch| batch.orphan_referrers(&repository(), &digest, None);
    assert_eq!(opened.submit(orphan).await, None);
    assert_eq!(opened.orphans(), REFERRERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tag_set_during_the_search_is_deleted_with_its_manifest() {
    let opened = open();
    let tags = |range: std::ops::Range<usize>| -> Vec<Tag> {
        range.map(|number| format!("t{number}").parse().unwrap()).collect()
    };
    opened.push(manifest(0, None, tags(0..2))).await;
    let other = manifest(1, None, tags(2..2000));
    opened.push(other.clone()).await;
    let digest = manifest(0, None, Vec::new()).digest;
    let delete = Arc::new(ManifestDelete {
        repository: repository(),
        digest: digest.clone(),
        subject: None,
        immutable: Arc::default(),
    });
    let watch = opened.index.watch(&repository(), &digest);
    let whole = Arc::clone(&delete);
    assert_eq!(
        opened.submit(move |batch| batch.delete_manifest(&whole)).await,
        Deleted::TagsUnknown,
        "the repository has too many tags to search in the transaction"
    );
    let found = opened.index.tags_of_manifest(&repository(), &digest, &Cancel::default()).unwrap();
    assert_eq!(found, tags(0..2));
    // One tag is set, another moves to another manifest.
    opened.push(manifest(0, None, vec!["late".parse().unwrap()])).await;
    opened.push(manifest(1, None, tags(1..2))).await;
    assert_eq!(watch.recorded().len(), 1);
    let deleted = opened.submit(move |batch| batch.delete_watched_manifest(&delete, &found)).await;
    assert_eq!(deleted, Deleted::Whole);
    let listed = opened.index.tags(&repository(), None, 10_000).unwrap().items;
    assert_eq!(listed.len(), 1999);
    assert!(listed.iter().all(|tag| tag.as_str() != "late" && tag.as_str() != "t0"));
    assert!(opened.index.repository_adds_up(&repository()).unwrap());
}
