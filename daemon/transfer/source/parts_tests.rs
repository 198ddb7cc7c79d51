#![expect(clippy::disallowed_methods, reason = "the tests write media")]

use std::io::Write;

use super::*;

fn write(directory: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = directory.join(name);
    tempfile::NamedTempFile::new_in(directory)
        .map(|mut file| {
            file.write_all(text).unwrap();
            file.persist(&path).unwrap();
        })
        .unwrap();
    path
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).unwrap();
    let mut text = String::new();
    let mut parts = Parts::open(file, &[path.to_owned()]).map_err(|error| error.to_string())?;
    parts.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn successors_are_joined_and_gaps_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let first = write(at, "x.tar.001", b"abc");
    write(at, "x.tar.002", b"def");
    write(at, "x.tar.003", b"g");
    assert_eq!(read(&first).unwrap(), "abcdefg");
    write(at, "x.tar.005", b"h");
    assert!(read(&first).unwrap_err().contains("x.tar.004 is missing"));
    let second = write(at, "y.001", b"abc");
    write(at, "y.002", b"de");
    write(at, "y.003", b"f");
    assert!(read(&second).unwrap_err().contains("y.002 has 2 bytes"));
    assert!(read(&at.join("x.tar.002")).unwrap_err().contains("x.tar.001 is missing"));
}

#[test]
fn parts_of_zarf_match_their_description() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let first = write(at, "p.part000", br#"{"Sha256Sum":"x","Bytes":5,"Count":2}"#);
    write(at, "p.part001", b"abc");
    assert!(read(&first).unwrap_err().contains("p.part002 is missing"));
    write(at, "p.part002", b"de");
    assert_eq!(read(&first).unwrap(), "abcde");
    write(at, "p.part002", b"def");
    assert!(read(&first).unwrap_err().contains("6 bytes together"));
}

#[test]
fn parts_on_a_command_line_are_one_archive() {
    let paths = ["b.tar", "x.tar.002", "x.tar.001", "-"].map(PathBuf::from);
    let groups = group(&paths);
    assert_eq!(groups.len(), 3);
    assert_eq!(groups[1], ["x.tar.001", "x.tar.002"].map(PathBuf::from));
}

#[test]
fn links_to_parts_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = directory.path();
    let first = write(at, "x.tar.001", b"abc");
    let secret = write(outside.path(), "secret", b"key");
    std::os::unix::fs::symlink(&secret, at.join("x.tar.002")).unwrap();
    assert!(read(&first).unwrap_err().contains("symbolic link"));
    std::fs::rename(at.join("x.tar.002"), at.join("x.tar.004")).unwrap();
    assert!(read(&first).unwrap_err().contains("x.tar.002 is missing"));
}
