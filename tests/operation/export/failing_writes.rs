//! A medium that fails: strace makes one system call of the export fail with EIO, each in turn.

use super::*;
use crate::support::kill_points::failing;

/// More calls than an export makes.
const MAX_CALLS: usize = 200;

#[test]
fn export_that_cannot_write_names_the_path_and_continues() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", &noise(1, 100_000));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let undisturbed = root.join("undisturbed");
    std::fs::create_dir(&undisturbed).unwrap();
    for output in ["layout", "x.tar"] {
        run(&mut export(&daemon, &["--all"], &undisturbed.join(output)));
        let mut expected = files(&undisturbed);
        expected.retain(|name, _| name.starts_with(output));
        // Calls on names are made by no other part of the command; writes go to its log and sockets as well.
        for calls in ["renameat,mkdirat", "write,pwrite64,fsync,fdatasync,ftruncate,syncfs"] {
            let mut failed = 0;
            for number in 1..MAX_CALLS {
                let place = root.join(format!("{output}-{}-{number}", calls.len()));
                std::fs::create_dir(&place).unwrap();
                let of_names = calls.starts_with("renameat");
                let new = expected.keys().map(|name| place.join(format!("{name}.new")));
                let mut paths: Vec<PathBuf> = new.chain([place.clone(), place.join("layout")]).collect();
                paths.retain(|_| !of_names);
                let command = export(&daemon, &["--all"], &place.join(output));
                let ended = failing(&command, calls, number, &paths).output().unwrap();
                if code(&ended) == 0 {
                    break;
                }
                failed += 1;
                let text = stderr(&ended);
                assert!(
                    code(&ended) == 1
                        && text.contains(place.to_str().unwrap())
                        && text.contains("os error 5"),
                    "{output} {calls} {number}: {text}"
                );
                run(&mut export(&daemon, &["--all"], &place.join(output)));
                assert!(files(&place) == expected, "{output} {calls} {number}: other bytes");
                std::fs::remove_dir_all(&place).unwrap();
            }
            let fewest = if output == "layout" { 4 } else { 1 };
            assert!((fewest..MAX_CALLS - 1).contains(&failed), "{output} {calls}: {failed} calls failed");
        }
    }
}
