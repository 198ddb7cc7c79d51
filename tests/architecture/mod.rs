//! Holds the table of rooms in ARCHITECTURE.md, and that of the groups of the store, against the code.

mod imports;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may call.
const ROOMS: [(&str, &[&str]); 19] = [
    ("base", &[]),
    ("oci", &[]),
    ("queue", &[]),
    ("jobs", &[]),
    ("store", &["oci", "queue"]),
    ("access", &["oci", "queue"]),
    ("wire", &["access", "oci"]),
    ("registry", &["wire", "store", "access", "oci", "metrics"]),
    ("control", &["wire", "registry", "store", "transfer", "access", "oci", "jobs", "metrics"]),
    ("admin", &["wire", "store", "access", "oci", "queue", "jobs", "transfer", "intake"]),
    ("server", &["wire", "registry", "admin", "access", "tls", "oci", "jobs", "metrics"]),
    ("tls", &[]),
    ("transfer", &["oci"]),
    ("egress", &[]),
    ("client", &["egress", "oci"]),
    ("intake", &["transfer", "store", "access", "oci"]),
    ("service", &[]),
    ("metrics", &[]),
    ("config", &["access", "oci", "server", "service", "store", "tls", "wire"]),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

fn daemon() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("daemon")
}

#[test]
fn rooms_call_only_the_rooms_of_the_map() {
    for (room, allowed) in ROOMS {
        for file in sources(&daemon().join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for called in text.split("crate::").skip(1) {
                let called = called.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                assert!(
                    called == room || called == "base" || allowed.contains(&called),
                    "{} calls {called}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_three_small_files_and_only_main_ends_the_process() {
    for file in sources(&daemon()) {
        let text = fs::read_to_string(&file).unwrap();
        let unsafe_files = ["store/sys.rs", "store/index/lmdb/mapping.rs", "server/tcp_info.rs"];
        let may_be_unsafe = unsafe_files.iter().any(|name| file.ends_with(name));
        assert!(may_be_unsafe || !text.contains("unsafe {"), "{}", file.display());
        assert!(!text.contains("process::exit"), "{}", file.display());
        let is_main = file.ends_with("main.rs");
        assert!(is_main || !text.contains("std::env::var"), "{}", file.display());
    }
}

#[test]
fn lmdb_is_named_only_in_its_back_end() {
    for file in sources(&daemon()) {
        let is_back_end = file.starts_with(daemon().join("store/index/lmdb"));
        let text = fs::read_to_string(&file).unwrap();
        assert!(is_back_end || !text.contains("heed"), "{}", file.display());
    }
}

#[test]
fn files_named_in_the_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for paper in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/explanation/architecture.md",
        "docs/decisions/0007-hand-written-parsers.md",
    ] {
        let text = fs::read_to_string(root.join(paper)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            // A command has arguments after its path.
            let named = quoted.split_whitespace().next().unwrap_or_default();
            let of_a_room = ROOMS.iter().any(|(room, _)| named.starts_with(&format!("{room}/")));
            let top = ["tests/", "config/", "benches/", "docs/", "daemon/", ".ci/", "systemd/", "packaging/"];
            if of_a_room || top.iter().any(|top| named.starts_with(top)) {
                let path = if of_a_room && !named.starts_with("config/h") {
                    daemon().join(named)
                } else {
                    root.join(named)
                };
                assert!(path.exists(), "{paper} names {named}, which is not there");
            }
        }
    }
}

#[test]
fn every_file_is_compiled() {
    for top in ["daemon", "tests", "benches"] {
        let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(top));
        let files: Vec<&PathBuf> =
            files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect();
        let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        for file in &files {
            let (folder, stem) = (file.parent().unwrap(), file.file_stem().unwrap().to_str().unwrap());
            let (folder, name) = match stem {
                "main" | "lib" => continue,
                "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
                stem => (folder, stem),
            };
            let declarations = [format!("mod {name};"), format!("#[path = \"{name}.rs\"]")];
            let may_declare = |parent: &Path| {
                parent.parent() == Some(folder) || parent == folder.with_extension("rs").as_path()
            };
            let is_declared = files.iter().zip(&texts).any(|(parent, text)| {
                may_declare(parent) && declarations.iter().any(|declared| text.contains(declared))
            });
            assert!(is_declared, "{} is in no module", file.display());
        }
    }
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let circles = imports::Imports::read(&daemon(), &sources(&daemon())).circles();
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n"));
}
