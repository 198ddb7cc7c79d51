//! A disk that is really full: a small file system in memory, which needs root to be mounted.

use std::process::Command;

use crate::support::*;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(directory.path()));
        SmallDisk(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_push_without_room_is_refused_and_everything_else_goes_on() {
    let disk = SmallDisk::mount();
    let daemon = Daemon::at(&disk.0.path().join("data"));
    let (manifest, bytes) = daemon.push_image("a", "1", b"layer");
    let large = vec![1u8; 20 << 20];
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(&large));
    let refused = daemon.request("POST", &path).body(&large).send().expect(507);
    assert_eq!(refused.code(), "DENIED");
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    // An upload that met the end of the disk has what was counted and nothing else.
    let location =
        daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202).named("location");
    daemon.request("PATCH", &location).body(&large).send().expect(507);
    let range = daemon.get(&location).expect(204).named("range");
    let length = range.trim_start_matches("0-").parse::<usize>().unwrap() + 1;
    let part = digest(&large[..length]);
    daemon.request("PUT", &format!("{location}?digest={part}")).body(b"").send().expect(201);
    let file = daemon.data.join("blobs/sha256").join(part.trim_start_matches("sha256:"));
    assert_eq!(std::fs::metadata(file).unwrap().len(), length as u64);
    daemon.request("DELETE", &format!("/v2/a/blobs/{part}")).send().expect(202);
    daemon.push_image("b", "1", b"there is room for this");
    daemon.request("DELETE", &format!("/v2/a/manifests/{manifest}")).send().expect(202);
}
