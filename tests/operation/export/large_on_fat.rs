//! A blob above 4 GiB on FAT, whose files have less. A kernel may lack FAT: strace makes `fstatfs` name it, and a limit of the length
//! of files makes longer writes fail, as FAT does.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::support::media::{Image as MediaImage, Media};

const SIZE: u64 = 5 << 30;
/// The free space that the test wants: the content of a registry, and the medium.
const WANTED: u64 = 14 << 30;
/// The longest file on FAT.
const LONGEST: u64 = (4 << 30) - 1;
/// The longest part.
const PART: u64 = (4 << 30) - (64 << 10);
/// The end of the layer.
const END: &[u8] = b"the end";

/// Makes an image layout whose layer takes no space; returns the digests of its manifest and of the layer.
fn write_layout(folder: &Path) -> (String, String) {
    let layer = folder.join("layer");
    let mut file = File::create(&layer).unwrap();
    file.seek(SeekFrom::Start(SIZE - END.len() as u64)).unwrap();
    file.write_all(END).unwrap();
    let sum = run(Command::new("sha256sum").arg(&layer));
    let layer_digest = format!("sha256:{}", sum.split_whitespace().next().unwrap());
    let config = br#"{"architecture":"arm64","os":"linux"}"#;
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": images::CONFIG, "digest": digest(config), "size": config.len()},
        "layers": [{"mediaType": images::LAYER, "digest": layer_digest, "size": SIZE}]});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let image = MediaImage {
        digest: digest(&manifest),
        media_type: OCI_MANIFEST,
        content: [(digest(config), config.to_vec()), (digest(&manifest), manifest.clone())].into(),
        manifest,
    };
    let mut media = Media::default();
    media.layout("", &[&image], &[image.descriptor(&[("io.containerd.image.name", "hub.lan/large:1")])]);
    media.write_to(folder);
    std::fs::rename(layer, folder.join(path_of(&layer_digest))).unwrap();
    (image.digest, layer_digest)
}

fn import(daemon: &Daemon, folder: &Path) {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["import", "--no-inventory"]).arg(folder).arg("--data").arg(&daemon.data);
    run(&mut command);
}

#[test]
fn blob_above_4_gib_is_cut_on_fat_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let disk = nix::sys::statvfs::statvfs(directory.path()).unwrap();
    if disk.blocks_available() * disk.fragment_size() < WANTED {
        eprintln!("skipped: the disk has less than 14 GiB free");
        return;
    }
    let layout = directory.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let (manifest, layer) = write_layout(&layout);
    let stick = directory.path().join("stick");
    let daemon = Daemon::start();
    import(&daemon, &layout);
    let exported = export(&daemon, &["--all"], &stick);
    let mut limited = Command::new("prlimit");
    limited.env_clear().env("PATH", "/usr/bin:/bin").arg(format!("--fsize={LONGEST}"));
    limited.args(["strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=fstatfs"]);
    // The first field of the result is the type of the file system.
    limited.args(["-e", "inject=fstatfs:poke_exit=@arg2=444d000000000000"]);
    let text = run(limited.arg(exported.get_program()).args(exported.get_args()));
    assert!(text.contains("cut into parts: 1 blob"), "{text}");
    drop(daemon);
    let length =
        |part: &str| stick.join(format!("{}{part}", path_of(&layer))).metadata().map(|file| file.len());
    assert_eq!((length(".001").unwrap(), length(".002").unwrap()), (PART, SIZE - PART));
    assert!(length("").is_err() && length(".003").is_err());
    let other = Daemon::start();
    import(&other, &stick);
    assert_eq!(digest(&other.get("/v2/large/manifests/1").expect(200).body), manifest);
    let stored = other.data.join("blobs").join(layer.replace(':', "/"));
    assert_eq!(stored.metadata().unwrap().len(), SIZE);
    let range = format!("bytes={}-", SIZE - END.len() as u64);
    let end = other.request("GET", &format!("/v2/large/blobs/{layer}")).header("Range", &range).send();
    assert_eq!(end.expect(206).body, END);
}
