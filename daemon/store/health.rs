//! Health of the store: measurements every few seconds, in the pool of reads, and answers from memory in between.

use std::sync::Arc;

use super::capacity::Space;
use super::error::StoreError;
use super::inner::Store;
use super::measure::{Impairment, MaintenanceTotals, Measured};
use super::work::Kind;

impl Store {
    /// Measures the store and its disk for [`Store::measured`].
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn measure(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        let measure = move || {
            let _read = inner.disk.begin_read();
            let space = Space::of(&inner.disk.path(""))?;
            let index = inner.index.usage()?;
            let full = match inner.capacity.check(1) {
                Ok(()) => index.0 >= index.1,
                Err(StoreError::Full | StoreError::Quota) => true,
                Err(error) => return Err(error),
            };
            inner.measurements.last.store(Some(Arc::new(Measured {
                counts: inner.index.counts()?,
                uploads: inner.disk.upload_count(),
                total_bytes: space.total,
                free_bytes: space.free,
                index,
                full,
            })));
            Ok(())
        };
        self.0.work.run(Kind::Read, measure).await
    }

    /// Returns the last measurement, without waiting; `None` before the first one.
    pub fn measured(&self) -> Option<Measured> {
        self.0.measurements.last.load().as_deref().copied()
    }

    /// Returns the totals of the collections and checks of this process, without waiting.
    pub fn maintenance_totals(&self) -> MaintenanceTotals {
        *self.0.measurements.totals.lock()
    }

    /// Returns why the store does not serve all requests, without waiting; `None` while it does.
    pub fn impairment(&self) -> Option<Impairment> {
        if self.0.disk.check_writable().is_err() {
            return Some(Impairment::ReadOnly);
        }
        if self.0.disk.delay().warning().is_some() {
            return Some(Impairment::Hanging);
        }
        self.measured().filter(|measured| measured.full).map(|_| Impairment::Full)
    }
}
