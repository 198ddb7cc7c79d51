//! The process under a service manager: socket activation, readiness and watchdog notifications, the log, and the limit of
//! open files. Without systemd, notifications do nothing and the log goes to stderr.

mod access_file;
mod client_limit;
mod descriptors;
mod entry;
mod error;
mod inherited_sockets;
mod json_line;
mod local_socket;
mod logger;
mod notify;
mod text_line;

pub use self::access_file::AccessFile;
pub use self::descriptors::{DescriptorBudget, raise_descriptor_limit};
pub use self::error::ServiceError;
pub use self::inherited_sockets::InheritedSockets;
pub use self::local_socket::{ShortPath, SocketFile, bind_control_socket};
pub use self::logger::{
    AccessLog, LogGuard, LogSettings, has_journal, set_level, start_logging, start_logging_as,
};
pub use self::notify::{alive, ready, reloading, starting, status, stopping, watchdog};
