//! The records of background jobs in the index. They are lost with it, and jobs begin anew then.

use std::sync::Arc;

use super::error::StoreError;
use super::index::JobRow;
use super::index::changes::jobs::NoteJob;
use super::{Store, blocking, detached};

impl Store {
    /// Returns the records of all jobs, by name.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn job_records(&self) -> Result<Vec<(String, JobRow)>, StoreError> {
        let index = Arc::clone(&self.0.index);
        blocking(move || index.job_rows()).await
    }

    /// Stores the record of a job; durable on return.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Index`].
    pub async fn note_job(&self, name: &str, row: JobRow) -> Result<(), StoreError> {
        let (writer, name) = (self.writer()?, name.to_owned());
        detached(async move { writer.submit(NoteJob { name, row }).await }).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_store::TestStore;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_record_is_read_back() {
        let test = TestStore::open().await;
        assert_eq!(test.store.job_records().await.unwrap(), []);
        let row = JobRow { text: "freed 3 blobs".into(), failures: 2, ..JobRow::default() };
        test.store.note_job("gc", row.clone()).await.unwrap();
        assert_eq!(test.store.job_records().await.unwrap(), [("gc".to_owned(), row)]);
        test.store.close().await.unwrap();
    }
}
