//! The store: the only room that changes the data directory. It holds blobs, manifests, tags and unfinished uploads.
//!
//! **Interface.** [`Store`] has one method per operation of the domain; they take and return the types of `oci`. Single
//! lookups read mapped memory and are plain functions. Everything that may wait for the disk is `async` and runs on
//! blocking threads, or on the index writer's thread.
//!
//! **Guarantees.** An acknowledged change survives a power cut, by write-ahead order: sync the content, rename it to
//! its blob, sync the directory, commit the index; a forgotten blob is removed after the commit. The index writer commits all waiting changes together (group
//! commit). A client that disconnects never stops a change half-way. Memory, threads and descriptors are bounded,
//! whatever clients send and whatever is stored.
//!
//! **On error.** [`StoreError`] has a kind per cause. The first write or sync that fails closes the latch: the store is
//! read-only until a restart, and pulls continue. A full disk, a lack of descriptors or memory, and obstacles in the
//! place of a file fail the request only. A corrupt index is repaired or rebuilt by the next start; a corrupt blob by
//! the next push.
//!
//! **On disk.** `blobs/` and `index.json` are an OCI image layout; `index/` has the LMDB index, `uploads/` unfinished
//! uploads. `docs/reference/format.md` has it to the byte.
//!
//! The modules, in groups from the interface down to the ground. A file needs only files of its own group and of those below;
//! `tests/architecture` reads this table and refuses arrows that run back up. A module below another one is in its group,
//! unless it is named here itself.
//!
//! | group | modules |
//! |---|---|
//! | opening and closing | `open`, `recover`, `rebuild`, `faults` |
//! | transfers | `transfers`, `transfer_content`, `name_images`, `inventory` |
//! | collection | `gc`, `tag_retention`, `unmatched_rules` |
//! | check | `check`, `layout_check` |
//! | operations | `pull`, `push`, `upload`, `discovery`, `management`, `whole_repository`, `repair`, `heal`, `verify`, `usage`, `feed`, `daily` (totals of days), `job_records`, `identity`, `secret`, `health`, `status`, `copy` |
//! | lists of the admin page | `overview`, `untagged`, `contents`, `summary`, `attachments`, `damage` |
//! | the store | `inner` (handle and shared state), `settings`, `locks`, `measure`, `summaries`, `repository_pages`, `pulls` (recent pulls) |
//! | `index.json` | `layout`, `layout_writer`, `layout_rescue`, `layout_reader`, `layout_journal`, `layout_format`, `layout_checksum` |
//! | uploads | `upload_owner`, `upload_phase`, `uploads`, `upload_limit`, `sessions`, `session_lock`, `hashes`, `spool`, `capacity` |
//! | the index: its writer | `index`, `index/reads`, `index/writer`, `index/batch`, `index/page_retry`, `index/feed` |
//! | the index: LMDB | `index/lmdb` |
//! | the index: its log | `index/log_tables`, `index/wal`, `index/pending` |
//! | the index: its port | `index/metadata_store`, `index/changed_names` |
//! | the index: changes | `index/changes` |
//! | the index: tables | `index/tables` |
//! | limits | `work`, `holder`, `buffers`, `blob` |
//! | files | `files`, `disk`, `thread_locks`, `upload_files`, `blob_store` (the port of blobs), `blob_files`, `index_files`, `top_files`, `obstacles`, `shutdown_marker` |
//! | values | `transfer_leases` (leases of transfers), `signed`, `capacity_limits`, `immutable`, `retention`, `listing`, `version_order`, `upload_id`, `index/event`, `index/tables/candidates`, `gc/report`, `gc/waiting`, `check/report` |
//! | ground | `random`, `error`, `error_kinds`, `index_error`, `index_failure`, `latch`, `reported`, `manifest_cache`, `delay`, `clock`, `regular_file`, `page_cache`, `problem` (errors without HTTP), `sys` |

mod attachments;
mod blob;
mod blob_files;
mod blob_store;
mod buffers;
mod capacity;
mod capacity_limits;
mod check;
mod clock;
mod contents;
mod copy;
mod daily;
mod damage;
mod delay;
mod discovery;
mod disk;
mod error;
mod error_kinds;
mod faults;
mod feed;
mod files;
#[cfg(fuzzing)]
mod fuzz;
mod gc;
mod hashes;
mod heal;
mod health;
mod holder;
mod identity;
mod immutable;
mod index;
mod index_error;
mod index_failure;
mod index_files;
mod inner;
#[cfg(test)]
mod interleaving;
mod inventory;
mod job_records;
mod latch;
mod layout;
mod layout_check;
mod layout_checksum;
mod layout_format;
mod layout_journal;
mod layout_reader;
mod layout_rescue;
mod layout_writer;
mod listing;
mod locks;
mod management;
mod manifest_cache;
mod measure;
mod name_images;
mod obstacles;
mod open;
mod overview;
mod page_cache;
mod problem;
mod pull;
mod pulls;
mod push;
mod random;
mod rebuild;
mod recover;
mod regular_file;
mod repair;
mod reported;
mod repository_pages;
mod retention;
mod secret;
mod session_lock;
mod sessions;
mod settings;
mod shutdown_marker;
mod signed;
mod spool;
mod status;
mod summaries;
mod summary;
mod sys;
mod tag_retention;
#[cfg(test)]
mod test_store;
mod thread_locks;
mod top_files;
mod transfer_content;
mod transfer_leases;
mod transfers;
mod unmatched_rules;
mod untagged;
mod upload;
mod upload_files;
mod upload_id;
#[cfg(test)]
mod upload_interleavings;
mod upload_limit;
mod upload_owner;
mod upload_phase;
#[cfg(test)]
mod upload_tests;
mod uploads;
mod usage;
mod verify;
mod version_order;
mod whole_repository;
mod work;

pub use self::blob::BlobReader;
pub use self::capacity_limits::{CapacityLimits, NameLimits};
pub use self::check::{
    Affected, CheckEvent, CheckOptions, CheckPosition, CheckProgress, CheckReport, Fault, FaultFound, Outcome,
};
pub use self::contents::{ContentState, MAX_DOCUMENT};
pub use self::copy::{CopyOutcome, ImageCopy};
pub use self::daily::DayTotals;
pub use self::damage::{DamagedImage, KnownDamage};
pub use self::delay::DiskDelay;
pub use self::discovery::{Referrers, ReferrersQuery};
pub use self::error::{IndexError, StoreError};
pub use self::feed::{Activity, EventPage, EventsRead, StoredEvent};
#[cfg(fuzzing)]
pub use self::fuzz::{is_sound_index, journal_has_batches, names_in_layout, rows_in_log};
pub use self::gc::{CollectedItem, CollectionReport, LastCollection, StopRequest, WaitingContent};
pub use self::holder::Holder;
pub use self::immutable::ImmutableRule;
pub use self::index::changes::name_image::{
    Kept, MissingContent, Named, OtherNames, TagOutcome, TagPolicy, WantedTag,
};
pub use self::index::inspect::{Inspection, inspect};
pub use self::index::tables::candidates::Amount;
pub use self::index::tables::sparse::Presence;
pub use self::index::{
    Cause, Counts, Day, DayCounts, Event, EventId, EventKind, FailedLogin, FeedBounds, JobMoment, JobOutcome,
    JobRow, ManifestEntry, Note, NoteKind, Origin, Page, ParseEventIdError,
};
pub use self::inner::Store;
pub use self::inventory::{Holes, SparsePosition};
pub use self::listing::{
    FoundNames, FoundTag, ListPage, ListQuery, NAMESPACES, NameQuery, NamespaceCount, Repositories,
    RepositoryOrder, RepositoryOverview, TagOrder, TotalSize, Visible, describe_tags,
};
pub use self::locks::{Occupancy, Ownership, occupancy};
pub use self::management::Delete;
pub use self::measure::{Impairment, MaintenanceTotals, Measured};
pub use self::name_images::{ImageImport, ImportedManifest};
pub use self::overview::{ListedTag, Overview, ReferrersOverview, TagOverview};
pub use self::push::{ManifestPush, Mount};
pub use self::retention::{CollectionPolicy, GracePeriods, RetentionRule};
pub use self::settings::{IndexHealth, OwnerKind, Role, Settings};
pub use self::signed::{SignedList, SignedPush, SignedRoot};
pub use self::spool::{LargePlace, Spool};
pub use self::status::{SavedStatus, Status, daemon_runs, read_only_reason, saved_status, was_closed};
pub use self::summaries::{ReadPermit, Summary};
pub use self::transfer_content::SizedDigest;
pub use self::transfer_leases::{Purpose, TransferError};
pub use self::transfers::{OwnTransfer, Transfer};
pub use self::untagged::{KeptUntagged, Untagged};
pub use self::upload::Upload;
pub use self::upload_id::{ParseUploadIdError, UploadId};
pub use self::uploads::UnfinishedUpload;
pub use self::work::POOLED_THREADS;

use self::inner::Inner;
use self::work::{blocking, detached};
