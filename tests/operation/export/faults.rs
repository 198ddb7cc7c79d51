//! Media that are full, small or hostile, and damage in the store.

use super::*;

/// A small file system that root mounts, unmounted on drop.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn tmpfs(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()));
        Mounted(directory)
    }

    /// Mounts FAT32 from an image file; `None` where no loop device can be had.
    fn fat32(image: &Path, size: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::File::create(image).unwrap().set_len(size).unwrap();
        run(Command::new("mkfs.vfat").args(["-F", "32"]).arg(image));
        let mounted =
            Command::new("mount").args(["-o", "loop"]).arg(image).arg(directory.path()).output().unwrap();
        if !mounted.status.success() {
            eprintln!("skipped: no loop device: {}", stderr(&mounted));
            return None;
        }
        Some(Mounted(directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn medium_without_space_is_refused_before_the_first_byte() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", &noise(1, 3_000_000));
    let disk = Mounted::tmpfs("2m");
    for output in ["layout", "x.tar"] {
        let refused = export(&daemon, &["--all"], &disk.0.path().join(output)).output().unwrap();
        assert_eq!(code(&refused), 1);
        assert!(stderr(&refused).contains("nothing was written"), "{}", stderr(&refused));
        assert!(files(disk.0.path()).is_empty());
    }
}

#[test]
fn medium_that_fills_up_fails_with_the_path_and_continues() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", &noise(1, 3_000_000));
    let disk = Mounted::tmpfs("4m");
    let directory = tempfile::tempdir().unwrap();
    run(&mut export(&daemon, &["--all"], &directory.path().join("x.tar")));
    let file = disk.0.path().join("x.tar");
    let mut child = export(&daemon, &["--all", "--rate", "1MB"], &file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let new = disk.0.path().join("x.tar.new");
    let began = std::time::Instant::now();
    while std::fs::metadata(&new).map_or(0, |status| status.len()) < 500_000 {
        assert!(began.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let other = disk.0.path().join("other");
    std::fs::write(&other, vec![1; 2_500_000]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains("x.tar.new") && text.contains("No space left"), "{text}");
    std::fs::remove_file(other).unwrap();
    let text = run(&mut export(&daemon, &["--all"], &file));
    assert!(text.contains("already there"), "{text}");
    assert!(std::fs::read(&file).unwrap() == std::fs::read(directory.path().join("x.tar")).unwrap());
}

#[test]
fn file_named_holdfast_beside_the_output_is_left_alone() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", b"one");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("holdfast"), "a program").unwrap();
    run(&mut export(&daemon, &["--all"], &directory.path().join("all.tar")));
    let found: Vec<String> = files(directory.path()).into_keys().collect();
    assert_eq!(found, ["all.tar", "holdfast"]);
    // A layout needs a folder of this name.
    let refused = export(&daemon, &["--all"], directory.path()).output().unwrap();
    let text = stderr(&refused);
    assert!(code(&refused) == 1 && text.contains("/holdfast") && text.contains("Not a directory"), "{text}");
    assert_eq!(std::fs::read(directory.path().join("holdfast")).unwrap(), b"a program");
}

#[test]
fn fat_holds_layouts_and_parts() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::fat32(&directory.path().join("image"), 64 << 20) else { return };
    let daemon = Daemon::start();
    for number in 0..3 {
        push(&daemon, "team/app", &number.to_string(), &noise(number + 1, 1_500_000));
    }
    for (output, split) in [("layout", "auto"), ("cut", "1MiB"), ("x.tar", "1MiB"), ("y.tar", "auto")] {
        let text = run(&mut export(&daemon, &["--all", "--split", split], &disk.0.path().join(output)));
        assert!(text.contains("is complete and was read back; the medium can be unplugged"), "{text}");
        assert_eq!(text.contains("cut into parts: 3 blobs"), output == "cut", "{text}");
    }
    let found = files(disk.0.path());
    let of = |folder: &str| -> BTreeMap<String, Vec<u8>> {
        found
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix(folder)?.to_owned(), bytes.clone())))
            .collect()
    };
    assert_whole(&of("layout/"));
    let parts: Vec<u8> = found
        .iter()
        .filter(|(name, _)| name.starts_with("x.tar."))
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    assert!(parts == found["y.tar"], "the parts have other bytes");
    // Blobs in parts, as the list of contents says.
    let cut = of("cut/");
    let list = json_of(&cut, "holdfast/export.json");
    for blob in list["blobs"].as_array().unwrap() {
        let name = path_of(blob["digest"].as_str().unwrap());
        let content = match blob["part"].as_u64() {
            Some(part) => {
                assert_eq!((part, cut[&format!("{name}.001")].len()), (1 << 20, 1 << 20));
                [cut[&format!("{name}.001")].clone(), cut[&format!("{name}.002")].clone()].concat()
            }
            None => cut[&name].clone(),
        };
        assert_eq!(path_of(&digest(&content)), name);
    }
    run(&mut export(&daemon, &["--all", "--split", "1MiB"], &disk.0.path().join("cut")));
}

#[test]
fn damaged_content_is_left_out_with_its_images() {
    let daemon = Daemon::start();
    let whole = push(&daemon, "a", "1", &noise(1, 200_000));
    let (flipped, deleted) =
        (push(&daemon, "b", "1", &noise(2, 200_000)), push(&daemon, "c", "1", &noise(3, 200_000)));
    let file = daemon.data.join(path_of(&flipped.layer));
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[100_000] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, damaged).unwrap();
    std::fs::remove_file(daemon.data.join(path_of(&deleted.layer))).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for output in ["layout", "x.tar"] {
        let place = directory.path().join(output);
        let partly = export(&daemon, &["--all"], &place).output().unwrap();
        assert_eq!(code(&partly), 1);
        let text = stderr(&partly);
        assert!(text.contains("not exported: b:1") && text.contains(&flipped.layer), "{text}");
        assert!(text.contains("not exported: c:1") && text.contains(&deleted.layer), "{text}");
        let found = match output {
            "layout" => files(&place),
            _ => members(&std::fs::read(&place).unwrap()).into_iter().collect(),
        };
        assert_whole(&found);
        let index = json_of(&found, "index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(index["manifests"][0]["digest"], whole.digest.as_str());
    }
    let piped = export(&daemon, &["b"], Path::new("-")).output().unwrap();
    assert_eq!(code(&piped), 1);
    assert!(stderr(&piped).contains("incomplete"), "{}", stderr(&piped));
    let none = export(&daemon, &["b"], &directory.path().join("y.tar")).output().unwrap();
    assert!(code(&none) == 1 && stderr(&none).contains("nothing can be exported"), "{}", stderr(&none));
}

#[test]
fn foreign_layouts_and_planted_links_are_left_alone() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", b"one");
    let directory = tempfile::tempdir().unwrap();
    let (foreign, target) = (directory.path().join("foreign"), directory.path().join("target"));
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("index.json"), "{}").unwrap();
    let refused = export(&daemon, &["--all"], &foreign).output().unwrap();
    assert!(
        code(&refused) == 1 && stderr(&refused).contains("no export of holdfast"),
        "{}",
        stderr(&refused)
    );
    let stick = directory.path().join("stick");
    std::fs::create_dir_all(stick.join("holdfast")).unwrap();
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, stick.join("blobs")).unwrap();
    let refused = export(&daemon, &["--all"], &stick).output().unwrap();
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(files(&target).is_empty());
    std::fs::remove_file(stick.join("blobs")).unwrap();
    std::os::unix::fs::symlink(target.join("file"), stick.join("index.json.new")).unwrap();
    run(&mut export(&daemon, &["--all"], &stick));
    assert!(files(&target).is_empty());
    assert_whole(&files(&stick));
}

#[test]
fn a_damaged_manifest_is_no_absent_one() {
    let mut daemon = Daemon::start();
    let (arm, amd) = (push_for(&daemon, "a", "arm", b"arm", "arm64"), push(&daemon, "a", "amd", b"amd"));
    push_index(&daemon, "a", "all", &[(&arm, "arm64"), (&amd, "amd64")]);
    let file = daemon.data.join(path_of(&arm.digest));
    let mut damaged = std::fs::read(&file).unwrap();
    let at = damaged.iter().position(|byte| *byte == b'2').unwrap();
    damaged[at] = b'3';
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, damaged).unwrap();
    // It may have the right bytes in memory.
    daemon.stop_and_restart();
    let directory = tempfile::tempdir().unwrap();
    let partly = export(&daemon, &["--all"], &directory.path().join("x.tar")).output().unwrap();
    let text = stderr(&partly);
    assert_eq!(code(&partly), 1, "{text}");
    for name in ["a:arm", "a:all"] {
        assert!(text.contains(&format!("not exported: {name}: {} cannot be read", arm.digest)), "{text}");
    }
    assert!(text.contains("holdfast check names the damage") && !text.contains("does not have"), "{text}");
}
