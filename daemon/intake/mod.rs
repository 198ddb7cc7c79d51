//! Archives that the daemon imports by itself.
//!
//! | module | contents |
//! |---|---|
//! | `folder` | the import folder (`import.folder`): which archives are in it |
//! | `watch` | which of them are ready: unchanged for a minute, and not held back after a failure, also of an earlier process |
//! | `mover` | moves an archive to `done/` or `failed/`, with its report; a crash in between is repaired (`notes`) |
//! | `report` | the report as text |
//! | `multipart`, `stream` | the form of an upload on the admin page, and its file on the way to the engine |
//! | `possession`, `rights` | the sink of a user: push rights at the time of each name, and proof of possession |
//!
//! Other users may be able to write to the folder: no symbolic link is followed, a file is opened once, and it is moved only if
//! it is still the one that was read.

mod folder;
mod mover;
mod multipart;
mod notes;
mod possession;
mod report;
mod rights;
mod stream;
mod watch;

pub use self::folder::{Archive, Folder, FolderError, OpenError, archives_in, check_place};
pub use self::mover::{ATTEMPTS, ArchiveMover};
pub use self::multipart::{Multipart, MultipartError, Piece};
pub use self::possession::{ImportUser, UserSink};
pub use self::report::{error_report, is_done, result_report, summary};
pub use self::stream::{ByteReader, ByteSender, byte_stream};
pub use self::watch::{Pause, Watch};
