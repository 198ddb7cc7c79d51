//! Programs that `tests/run` downloads into the target directory, because Debian has no packages of them.

use std::path::{Path, PathBuf};

/// Returns a path in the directory of the downloaded tools.
pub fn place(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("tools").join(path)
}

/// Returns the path of a downloaded client.
#[track_caller]
pub fn client(name: &str) -> PathBuf {
    let place = place("clients").join(name);
    assert!(place.exists(), "{}: does not exist; tests/run downloads it", place.display());
    place
}
