//! Media that fail: EIO at each read and each write, media that are read-only or full.

use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::support::kill_points::failing;
use crate::support::small_disk::SmallDisk;

/// More calls than a command makes on its medium.
const MOST: usize = 300;
const READS: &str = "read,pread64,readv,preadv";

fn images_of(daemon: &Daemon) -> usize {
    Contents::of(daemon).tags.len()
}

/// Returns all files of a medium, and its folders.
fn paths(medium: &Path) -> Vec<PathBuf> {
    run(Command::new("find").arg(medium)).lines().map(PathBuf::from).collect()
}

#[test]
fn errors_while_a_medium_is_read_end_in_whole_images_and_the_next_run_completes() {
    let (media, images) = layout(2, 300_000);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name);
    media.write_to(&at("layout"));
    media.write_tar(&at("x.tar"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(at("x.tar")).unwrap()).unwrap();
    std::fs::write(at("x.tar.gz"), encoder.finish().unwrap()).unwrap();
    for (name, fewest) in [("layout", 8), ("x.tar", 10), ("x.tar.gz", 3)] {
        let (medium, mut failed) = (at(name), 0);
        let files = paths(&medium);
        for number in 1.. {
            assert!(number < MOST, "{name} is read without end");
            let daemon = Daemon::start();
            let mut command = import(&daemon, &medium);
            command.arg("--no-inventory");
            let output = failing(&command, READS, number, &files).output().unwrap();
            if output.status.success() {
                break;
            }
            failed += 1;
            let told = text(&output);
            assert!(
                output.status.code() == Some(1) && told.contains("os error 5"),
                "{name} {number}: {told}"
            );
            // Those that have a name are whole.
            assert!(images_of(&daemon) < images.len(), "{name} {number}: {told}");
            run(&mut command);
            assert_has(&daemon, &images);
        }
        assert!(failed >= fewest, "{name}: {failed} calls failed");
    }
}

#[test]
fn errors_while_an_export_is_read_back_or_compared_name_the_path() {
    let daemon = Daemon::start();
    daemon.push_image("app", "1", &noise(1, 300_000));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let undisturbed = root.join("undisturbed");
    std::fs::create_dir(&undisturbed).unwrap();
    for output in ["layout", "x.tar"] {
        run(&mut export(&daemon, &["--all"], &undisturbed.join(output)));
        let files: Vec<PathBuf> = paths(&undisturbed.join(output));
        // Of a new export everything is read back; a second one compares first.
        for second in [false, true] {
            let mut failed = 0;
            for number in 1.. {
                assert!(number < MOST, "{output} is read without end");
                let place = root.join(format!("{output}-{second}-{number}"));
                std::fs::create_dir(&place).unwrap();
                let command = export(&daemon, &["--all"], &place.join(output));
                if second {
                    run(&mut export(&daemon, &["--all"], &place.join(output)));
                }
                let names = files.iter().map(|file| place.join(file.strip_prefix(&undisturbed).unwrap()));
                let both = names.flat_map(|name| [format!("{}.new", name.display()).into(), name]);
                let ended =
                    failing(&command, READS, number, &both.collect::<Vec<PathBuf>>()).output().unwrap();
                let told = text(&ended);
                if ended.status.success() {
                    break;
                }
                failed += 1;
                assert!(
                    ended.status.code() == Some(1)
                        && told.contains(place.to_str().unwrap())
                        && told.contains("os error 5"),
                    "{output} {number}: {told}"
                );
                run(&mut export(&daemon, &["--all"], &place.join(output)));
                run(Command::new("diff").arg("-r").arg(undisturbed.join(output)).arg(place.join(output)));
                std::fs::remove_dir_all(&place).unwrap();
            }
            assert!(failed >= 2, "{output} {second}: {failed} calls failed");
        }
    }
}

#[test]
fn an_inventory_that_cannot_be_written_is_a_note() {
    let (media, images) = layout(1, 5_000);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let daemon = Daemon::start();
    let plain = root.join("plain");
    media.write_to(&plain);
    run(&mut import(&daemon, &plain));
    let have = std::fs::read_dir(plain.join("holdfast/have")).unwrap().next().unwrap().unwrap().file_name();
    // Calls on names are made by no other part of the command; writes and syncs go to its other files as well.
    for calls in ["mkdirat", "unlinkat", "renameat", "write", "fsync"] {
        let mut noted = 0;
        for number in 1.. {
            assert!(number < MOST, "{calls} have no end");
            let medium = root.join(format!("{calls}-{number}"));
            media.write_to(&medium);
            let folder = medium.join("holdfast/have");
            let mut files = vec![folder.join(format!("{}.new", have.to_str().unwrap())), folder.clone()];
            files.retain(|_| matches!(calls, "write" | "fsync"));
            let output = failing(&import(&daemon, &medium), calls, number, &files).output().unwrap();
            let told = text(&output);
            assert!(output.status.success(), "{calls} {number}: {told}");
            let is_noted = told.contains("has no inventory of this registry") && told.contains("os error 5");
            if !is_noted {
                assert!(folder.join(&have).exists(), "{calls} {number}: {told}");
                break;
            }
            noted += 1;
            // The next run leaves it.
            run(&mut import(&daemon, &medium));
            let left = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(left.collect::<Vec<_>>(), std::slice::from_ref(&have), "{calls} {number}");
        }
        assert!(noted >= 1, "{calls}: {noted} failures were noted");
    }
    assert_has(&daemon, &images);
}

#[test]
fn read_only_and_full_media_are_imported_without_an_inventory() {
    let (media, images) = layout(2, 100_000);
    for state in ["read-only", "full"] {
        let disk = SmallDisk::mount(2);
        let medium = disk.path().join("layout");
        media.write_to(&medium);
        if state == "full" {
            disk.leave_free(0);
        } else {
            disk.make_read_only();
        }
        let daemon = Daemon::start();
        let told = run(&mut import(&daemon, &medium));
        assert!(told.contains("has no inventory of this registry"), "{state}: {told}");
        assert_has(&daemon, &images);
        for output in ["layout", "other", "x.tar"] {
            let place = disk.path().join(output);
            let refused = export(&daemon, &["--all"], &place).output().unwrap();
            let told = text(&refused);
            assert_eq!(refused.status.code(), Some(1), "{state} {output}: {told}");
            assert!(told.contains(disk.path().to_str().unwrap()), "{state} {output}: {told}");
        }
    }
}
