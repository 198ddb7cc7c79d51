//! Archives that are damaged, hostile or written by unusual programs: a clear error or the whole images, never a part.

use std::io::Write;

use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;
use tar::EntryType::{self, Regular, Symlink, XHeader};

use super::*;

/// Distance of the places at which archives are cut.
const STEP: usize = 64 << 10;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Returns the bytes of an archive with these files.
fn archive(media: &Media) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    media.write_tar(file.path());
    std::fs::read(file.path()).unwrap()
}

/// Imports bytes as a file and as a stream, each into a registry of its own; returns the outputs.
fn import_both(bytes: &[u8]) -> [(Daemon, Output); 2] {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let (one, two) = (Daemon::start(), Daemon::start());
    let outputs = (import(&one, file.path()).output().unwrap(), import_stream(&two, file.path()));
    [(one, outputs.0), (two, outputs.1)]
}

#[track_caller]
fn assert_imported(bytes: &[u8], images: &[Image]) {
    for (daemon, output) in import_both(bytes) {
        assert!(output.status.success(), "{}", text(&output));
        assert_has(&daemon, images);
    }
}

/// Asserts that nothing is imported, and that the reason contains `words`.
#[track_caller]
fn assert_refused(bytes: &[u8], words: &str) {
    for (daemon, output) in import_both(bytes) {
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
        assert_eq!(Contents::of(&daemon).tags.len(), 0, "{}", text(&output));
    }
}

#[test]
fn compressed_archives_that_end_anywhere_leave_no_image() {
    let (media, images) = layout(3, 200_000);
    let (plain, directory) = (archive(&media), tempfile::tempdir().unwrap());
    for (name, bytes) in [("x.tar.gz", gzip(&plain)), ("x.tar.zst", zstd(&plain))] {
        let (daemon, file) = (Daemon::start(), directory.path().join(name));
        let last = [bytes.len() - 9, bytes.len() - 4, bytes.len() - 1];
        for end in [1, 3, 9].into_iter().chain((STEP..bytes.len()).step_by(STEP)).chain(last) {
            std::fs::write(&file, &bytes[..end]).unwrap();
            let output = import(&daemon, &file).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} {end}: {}", text(&output));
            assert!(text(&output).contains(name), "{name} {end}: {}", text(&output));
            daemon.get("/v2/app0/tags/list").expect(404);
        }
        std::fs::write(&file, &bytes).unwrap();
        run(&mut import(&daemon, &file));
        assert_has(&daemon, &images);
    }
}

#[test]
fn bytes_behind_an_archive_are_told_from_its_continuation() {
    let (media, images) = layout(2, 5_000);
    let plain = archive(&media);
    let (first, second) = plain.split_at(plain.len() / 2);
    let join = |parts: &[&[u8]]| parts.concat();
    assert_imported(&join(&[&plain, b"what a tape had before"]), &images);
    assert_imported(&join(&[&gzip(first), &gzip(second)]), &images);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    assert_imported(&join(&[&zstd(first), &skippable, &zstd(second), &skippable]), &images);
    assert_refused(&join(&[&gzip(&plain), b"no member of gzip"]), "gzip");
    assert_refused(&join(&[&zstd(&plain), b"no frame"]), "zstd");
    // A window of 1 GiB.
    assert_refused(
        &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00],
        "exceeds the limit of 128 MiB",
    );
}

/// A tar whose headers a test writes itself.
#[derive(Default)]
struct RawTar(Vec<u8>);

impl RawTar {
    /// Adds a member; `size` is what its header says.
    fn member(&mut self, kind: EntryType, name: &str, size: u64, content: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        let field = &mut header.as_old_mut().name;
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name.as_bytes()[..length]);
        if kind == Symlink {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_cksum();
        self.0.extend(header.as_bytes());
        if kind != Symlink {
            self.0.extend(content);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
        }
        self
    }

    fn file(&mut self, name: &str, content: &[u8]) -> &mut Self {
        self.member(Regular, name, content.len() as u64, content)
    }

    /// Adds a file behind PAX records of these keys and values.
    fn with_pax(&mut self, records: &[(&str, &str)], name: &str, content: &[u8]) -> &mut Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while format!("{length}{rest}").len() > length {
                length += 1;
            }
            text.extend(format!("{length}{rest}").bytes());
        }
        self.member(XHeader, "PaxHeaders/x", text.len() as u64, &text).file(name, content)
    }

    fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// Returns the files of a layout with one image, and the image.
fn one_image() -> (Vec<(String, Vec<u8>)>, Image) {
    let (media, images) = layout(1, 5_000);
    (media.files().map(|(name, content)| (name.to_owned(), content.to_vec())).collect(), images[0].clone())
}

#[test]
fn headers_that_contradict_each_other_refuse_the_archive() {
    let (files, image) = one_image();
    let layer = format!("blobs/{}", digest(&noise(1, 5_000)).replace(':', "/"));
    let with = |records: &[(&str, &str)]| {
        let mut tar = RawTar::default();
        for (name, content) in &files {
            if *name == layer {
                tar.with_pax(records, name, content);
            } else {
                tar.file(name, content);
            }
        }
        tar.end()
    };
    assert_imported(&with(&[("size", "5000")]), std::slice::from_ref(&image));
    assert_imported(&with(&[("mtime", "1.5"), ("SCHILY.xattr.user.x", "y")]), &[image]);
    for size in ["0", "4999", "5001", "9223372036854775807"] {
        assert_refused(&with(&[("size", size)]), "two sizes");
    }
    for size in ["18446744073709551616", "-1", "", "5000 "] {
        assert_refused(&with(&[("size", size)]), "no number");
    }
    assert_refused(&with(&[("size", "5000"), ("size", "0")]), "described twice");
    // A size that no archive has, in the header itself.
    let mut tar = RawTar::default();
    tar.member(Regular, &layer, 0o77_777_777_777, b"short");
    assert_refused(&tar.end(), "truncated");
}

#[test]
fn names_of_members_are_normalised_or_passed_over() {
    let (files, image) = one_image();
    let images = [image];
    let tops = ["./", "././/", "top/", "./top/"];
    for top in tops {
        let mut tar = RawTar::default();
        for (name, content) in &files {
            tar.file(&format!("{top}{name}"), content);
        }
        assert_imported(&tar.end(), &images);
    }
    // A folder with a name of 300 bytes, and hostile members between those of the layout.
    let long = "d".repeat(300);
    let mut tar = RawTar::default();
    tar.file("../../../../../../tmp/out", b"x").file("/etc/passwd", b"x").file("a\nb", b"x");
    tar.member(Symlink, "blobs/link", 0, b"/etc/passwd").member(EntryType::Fifo, "pipe", 0, b"");
    tar.member(EntryType::Block, "disk", 0, b"").member(EntryType::Directory, "blobs/", 0, b"");
    // A device, and sparse files in both forms, under names of content.
    tar.member(EntryType::Char, "blobs/sha256/null", 0, b"");
    let sparse = format!("blobs/{}", digest(b"sparse").replace(':', "/"));
    tar.with_pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")], &sparse, b"sparse");
    tar.member(EntryType::GNUSparse, "blobs/sha256/old", 6, b"sparse");
    tar.with_pax(&[("path", &"n".repeat(4000))], "short", b"x").with_pax(&[("path", "")], "none", b"x");
    for (name, content) in &files {
        tar.with_pax(&[("path", &format!("{long}/{name}"))], "short", content);
    }
    assert_imported(&tar.end(), &images);
}

#[test]
fn two_images_with_one_name_are_both_refused_and_the_others_go_in() {
    let images = [1, 2, 3].map(|seed| Image::of(&noise(seed, 5_000)));
    let names = ["hub.lan/app0:1", "app1:1", "other.lan/app1:1"];
    let described = |(image, name): (&Image, &&str)| image.descriptor(&[("io.containerd.image.name", *name)]);
    let index: Vec<Value> = images.iter().zip(&names).map(described).collect();
    let mut media = Media::default();
    media.layout("", &images.iter().collect::<Vec<_>>(), &index);
    for (daemon, output) in import_both(&archive(&media)) {
        let told = text(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let refused = told.lines().filter(|line| line.starts_with("app1:1 ") && line.contains("refused"));
        assert_eq!(refused.count(), 2, "{told}");
        assert_eq!(Contents::of(&daemon).tags, [("app0:1".to_owned(), images[0].digest.clone())].into());
    }
}

#[test]
fn of_two_members_of_one_name_the_right_one_counts() {
    let (files, image) = one_image();
    let layer = noise(1, 5_000);
    for wrong_first in [true, false] {
        let mut tar = RawTar::default();
        for (name, content) in &files {
            let wrong = noise(9, content.len());
            let is_layer = *content == layer;
            if is_layer && wrong_first {
                tar.file(name, &wrong);
            }
            tar.file(name, content);
            if is_layer && !wrong_first {
                tar.file(name, &wrong);
            }
        }
        assert_imported(&tar.end(), std::slice::from_ref(&image));
    }
}

/// Formats JSON with the line ends of other systems.
fn crlf(text: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(text).unwrap();
    format!("{value:#}\n").replace('\n', "\r\n").into_bytes()
}

#[test]
fn documents_may_have_the_line_ends_of_other_systems() {
    let (files, image) = one_image();
    let mut tar = RawTar::default();
    for (name, content) in &files {
        let edited = if name.starts_with("blobs/") { content.clone() } else { crlf(content) };
        tar.file(name, &edited);
    }
    assert_imported(&tar.end(), std::slice::from_ref(&image));
    // Links of registry:2, and the marker of skopeo's directories.
    let (daemon, directory) = (Daemon::start(), tempfile::tempdir().unwrap());
    let mut media = Media::default();
    media.registry_tree("team/tree", Some("1"), &image);
    let link = "docker/registry/v2/repositories/team/tree/_manifests/tags/1/current/link";
    media.add(link, format!("{}\r\n", image.digest).as_bytes());
    media.write_to(&directory.path().join("tree"));
    run(&mut import(&daemon, &directory.path().join("tree")));
    let mut media = Media::default();
    media.skopeo_directory("", &image).add("version", b"Directory Transport Version: 1.1\r\n");
    media.write_to(&directory.path().join("skopeo:1"));
    run(&mut import(&daemon, &directory.path().join("skopeo:1")));
    let tags = ["skopeo:1", "team/tree:1"].map(|name| (name.to_owned(), image.digest.clone()));
    assert_eq!(Contents::of(&daemon).tags, tags.into());
    // The content list of an export, an inventory, signers and a signature.
    let (stick, key) = (directory.path().join("stick"), directory.path().join("key"));
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    run(&mut export(&daemon, &["--all"], &stick));
    let list = stick.join("holdfast/export.json");
    std::fs::write(&list, crlf(&std::fs::read(&list).unwrap())).unwrap();
    let sign = ["-q", "-Y", "sign", "-n", "holdfast-export", "-f", key.to_str().unwrap()];
    run(Command::new("ssh-keygen").args(sign).arg(&list));
    let edit = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap().replace('\n', "\r\n");
        std::fs::write(path, text).unwrap();
    };
    edit(&stick.join("holdfast/export.json.sig"));
    let public = std::fs::read_to_string(directory.path().join("key.pub")).unwrap();
    let signers = directory.path().join("signers");
    std::fs::write(&signers, format!("# us\r\n\r\nops {}\r\n", public.trim())).unwrap();
    let site = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    run(import(&site, &stick).arg("--signers").arg(&signers));
    assert_eq!(Contents::of(&site), Contents::of(&daemon));
    let have = std::fs::read_dir(stick.join("holdfast/have")).unwrap().next().unwrap().unwrap().path();
    edit(&have);
    let told =
        run(&mut export(&daemon, &["--all", "--for", have.to_str().unwrap()], &directory.path().join("x")));
    assert!(told.contains("left out: 2 blobs"), "{told}");
}
