//! The store: the only room that changes the data directory. It holds blobs, manifests, tags and unfinished uploads.
//!
//! **Interface.** [`Store`] has one method per operation of the domain; they take and return the types of `oci`. Single
//! lookups read mapped memory and are plain functions. Everything that may wait for the disk is `async` and runs on
//! blocking threads, or on the index writer's thread.
//!
//! **Guarantees.** An acknowledged change survives a power cut, by write-ahead order: sync the content, rename it to
//! its blob, sync the directory, commit the index. The index writer commits all waiting changes together (group
//! commit). A client that disconnects never stops a change half-way. Memory, threads and descriptors are bounded,
//! whatever clients send and whatever is stored.
//!
//! **On error.** [`StoreError`] has a kind per cause. The first write or sync that fails closes the latch: the store is
//! read-only until a restart, and pulls continue. A full disk, a lack of descriptors or memory, and obstacles in the
//! place of a file fail the request only. A corrupt index is repaired or rebuilt by the next start; a corrupt blob by
//! the next push.
//!
//! **On disk.** `blobs/` and `index.json` are an OCI image layout; `index/` has the LMDB index, `uploads/` unfinished
//! uploads, `trash/` blobs that a collection has removed from the index. `docs/format.md` has it to the byte.
//!
//! The modules, in groups from the interface down to the files:
//!
//! | group | modules |
//! |---|---|
//! | the store | `inner` (handle and shared state), `settings`, `open` (opening and closing) |
//! | operations | `pull`, `push`, `discovery`, `management`, `health`, `status`, `secret` |
//! | lists of the admin page | `overview`, `listing`, `version_order`, `summary`, `summaries` |
//! | collection | `gc`, `retention`, `tag_retention`, `immutable`, `verify` |
//! | check and repair | `check`, `layout_check`, `repair` |
//! | recovery of the index | `recover`, `rebuild`, `shutdown_marker`, `faults`, `index_failure` |
//! | `index.json` | `layout`, `layout_reader`, `layout_format`, `layout_checksum` |
//! | uploads | `uploads`, `upload`, `sessions`, `hashes`, `upload_id`, `upload_limit`, `spool` |
//! | the index | `index` |
//! | limits | `capacity`, `capacity_limits`, `work`, `holder`, `buffers`, `measure` |
//! | files | `disk`, `upload_files`, `blob_files`, `index_files`, `top_files`, `obstacles`, `locks`, `blob` |
//! | ground | `error`, `latch`, `reported`, `delay`, `clock`, `regular_file`, `problem` (errors without HTTP), `sys` |

mod blob;
mod blob_files;
mod buffers;
mod capacity;
mod capacity_limits;
mod check;
mod clock;
mod delay;
mod discovery;
mod disk;
mod error;
mod faults;
#[cfg(fuzzing)]
mod fuzz;
mod gc;
mod hashes;
mod health;
mod holder;
mod immutable;
mod index;
mod index_failure;
mod index_files;
mod inner;
mod latch;
mod layout;
mod layout_check;
mod layout_checksum;
mod layout_format;
mod layout_reader;
mod listing;
mod locks;
mod management;
mod measure;
mod obstacles;
mod open;
mod overview;
mod problem;
mod pull;
mod push;
mod rebuild;
mod recover;
mod regular_file;
mod repair;
mod reported;
mod retention;
mod secret;
mod sessions;
mod settings;
mod shutdown_marker;
mod spool;
mod status;
mod summaries;
mod summary;
mod sys;
mod tag_retention;
#[cfg(test)]
mod test_store;
mod top_files;
mod upload;
mod upload_files;
mod upload_id;
mod upload_limit;
#[cfg(test)]
mod upload_tests;
mod uploads;
mod verify;
mod version_order;
mod work;

pub use self::blob::BlobReader;
pub use self::capacity_limits::{CapacityLimits, NameLimits};
pub use self::check::{CheckEvent, CheckOptions, CheckProgress, CheckReport, Fault};
pub use self::delay::DiskDelay;
pub use self::discovery::{Referrers, ReferrersQuery};
pub use self::error::StoreError;
#[cfg(fuzzing)]
pub use self::fuzz::names_in_layout;
pub use self::gc::{CollectedItem, CollectionReport, LastCollection};
pub use self::holder::Holder;
pub use self::immutable::ImmutableRule;
pub use self::index::candidates::Amount;
pub use self::index::inspect::{Inspection, inspect};
pub use self::index::{Counts, ManifestEntry, Page};
pub use self::inner::Store;
pub use self::listing::{
    ListPage, ListQuery, NAMESPACES, Repositories, RepositoryOrder, RepositoryOverview, TagOrder, TotalSize,
};
pub use self::measure::{Impairment, JobState, JobStates, Measured};
pub use self::overview::{Overview, ReferrersOverview, TagOverview};
pub use self::retention::{CollectionPolicy, GracePeriods, RetentionRule};
pub use self::settings::{IndexHealth, Role, Settings};
pub use self::spool::{LargePlace, Spool};
pub use self::status::{Status, daemon_runs, status};
pub use self::summaries::{ReadPermit, Summary};
pub use self::upload::Upload;
pub use self::upload_id::{ParseUploadIdError, UploadId};
pub use self::uploads::UnfinishedUpload;
pub use self::work::POOLED_THREADS;

use self::inner::Inner;
use self::work::{blocking, detached};
