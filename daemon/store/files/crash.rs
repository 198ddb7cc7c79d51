//! A crashing file layer: an operation of the store fails, or the machine stops before it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::FileOperation;
use super::durable::{Model, Tree, Unsynced, read_tree};
use super::observer::{Observer, Registration, observe};
use crate::base::Lock;

/// The operation that does not succeed, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Never,
    /// The machine stops before the operation: it fails, and so do all later ones.
    Stop(usize),
    /// The operation fails with this error; later ones do not.
    Fail(usize, i32),
}

/// The files that are left after a stop.
pub(super) struct Left {
    /// By the pessimistic model, with empty files in the place of unsynced content.
    pub(super) empty: Tree,
    /// The same, with zeros.
    pub(super) zeros: Tree,
    /// By the optimistic model: everything so far, as after a kill of the process.
    pub(super) all: Tree,
}

struct State {
    model: Model,
    operations: Vec<String>,
    has_stopped: bool,
    left: Option<Left>,
}

/// The crashing file layer of a data directory.
pub(super) struct Crash {
    root: std::path::PathBuf,
    at: At,
    state: Lock<State>,
}

impl Crash {
    /// Puts the layer below the stores that are opened at this path.
    pub(super) fn observe(root: &Path, at: At) -> (Arc<Self>, Registration) {
        let state = State { model: Model::of(root), operations: Vec::new(), has_stopped: false, left: None };
        let crash = Arc::new(Crash { root: root.to_owned(), at, state: Lock::new(state) });
        let observed = observe(root, Arc::clone(&crash) as Arc<dyn Observer>);
        (crash, observed)
    }

    /// Returns true once the machine has stopped.
    pub(super) fn has_stopped(&self) -> bool {
        self.state.lock().has_stopped
    }

    /// Returns the operations so far, as text.
    pub(super) fn operations(&self) -> Vec<String> {
        self.state.lock().operations.clone()
    }

    /// Returns the files that the stop left.
    pub(super) fn take_left(&self) -> Option<Left> {
        self.state.lock().left.take()
    }

    /// Returns the files that a power cut would leave now.
    pub(super) fn after_power_cut(&self, unsynced: Unsynced) -> Tree {
        self.state.lock().model.after_power_cut(unsynced)
    }

    fn text(&self, operation: FileOperation<'_>) -> String {
        let name = |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        match operation {
            FileOperation::Open(path) => format!("open {}", name(path)),
            FileOperation::Create(path) => format!("create {}", name(path)),
            FileOperation::Write => "write".into(),
            FileOperation::SetLength => "set length".into(),
            FileOperation::Sync(_) => "sync".into(),
            FileOperation::SyncDirectory(path) => format!("sync directory {}", name(path)),
            FileOperation::Rename(from, to) => format!("rename {} to {}", name(from), name(to)),
            FileOperation::Link(file, link) => format!("link {} as {}", name(file), name(link)),
            FileOperation::RemoveFile(path) => format!("remove {}", name(path)),
            FileOperation::RemoveDirectory(path) => format!("remove directory {}", name(path)),
            FileOperation::CreateDirectory(path) => format!("create directory {}", name(path)),
        }
    }
}

impl Observer for Crash {
    fn before(&self, operation: FileOperation<'_>) -> io::Result<()> {
        if matches!(operation, FileOperation::Open(_)) {
            return Ok(());
        }
        let mut state = self.state.lock();
        let failed = || io::Error::from_raw_os_error(libc::EIO);
        if state.has_stopped {
            return Err(failed());
        }
        state.operations.push(self.text(operation));
        match self.at {
            At::Stop(number) if number == state.operations.len() => {
                let left = Left {
                    empty: state.model.after_power_cut(Unsynced::Empty),
                    zeros: state.model.after_power_cut(Unsynced::Zeros),
                    all: read_tree(&self.root),
                };
                (state.left, state.has_stopped) = (Some(left), true);
                Err(failed())
            }
            At::Fail(number, error) if number == state.operations.len() => {
                Err(io::Error::from_raw_os_error(error))
            }
            At::Never | At::Stop(_) | At::Fail(..) => Ok(()),
        }
    }

    fn after(&self, operation: FileOperation<'_>, error: Option<&io::Error>) {
        let mut state = self.state.lock();
        if error.is_none() && !state.has_stopped {
            state.model.learn(operation);
        }
    }
}
