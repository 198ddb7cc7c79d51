//! Exports from another registry.

use super::stub::{Stub, serve_image};
use super::*;

#[test]
fn images_go_from_registry_2_to_another_holdfast_and_keep_their_digests() {
    let old = Registry2::with_user(USER.0, USER.1);
    let app = Image::of_layers(&[&noise(1, 400_000), b"x"]);
    let arm = Image::of_layers(&[&noise(2, 200_000)]);
    let multi = Image::index(&[&app, &arm]);
    for child in [&app, &arm] {
        old.push("team/multi", &child.digest, child);
    }
    old.push("team/app", "1", &app);
    old.push("team/app", "2", &arm);
    old.put("team/multi", "latest", &multi);
    old.push("private", "1", &arm);
    let directory = tempfile::tempdir().unwrap();
    let (address, medium) = (old.address.to_string(), path(&directory, "medium"));
    let from = |names: &[&str], medium: &str| {
        let mut arguments = vec!["export", "--from", &address, "--plain-http", "--username", USER.0];
        arguments.extend(["--password-stdin", "-o", medium]);
        arguments.extend(names);
        holdfast(&arguments, Some(USER.1))
    };
    let exported = done(&from(&["team/*"], &medium));
    assert!(exported.contains("team/app:1"), "{exported}");
    let layout = std::fs::read_to_string(format!("{medium}/index.json")).unwrap();
    assert!(!layout.contains("private") && layout.contains(&format!("{address}/team/app:2")), "{layout}");
    // What the medium has is not read again.
    let again = tempfile::tempdir().unwrap();
    let tar = path(&again, "one.tar");
    done(&from(&["team/app:1"], &tar));
    let first = std::fs::read(&tar).unwrap();
    done(&from(&["team/app:1"], &tar));
    assert!(std::fs::read(&tar).unwrap() == first);
    std::fs::write(&tar, &first[..first.len() / 2]).unwrap();
    done(&from(&["team/app:1"], &tar));
    assert!(std::fs::read(&tar).unwrap() == first);
    let (new, ca) = with_tls(&directory);
    let place = format!("https://localhost:{}", new.address.port());
    let to = [
        "import",
        "--to",
        &place,
        "--ca",
        ca.to_str().unwrap(),
        "--username",
        USER.0,
        "--password-stdin",
        &medium,
    ];
    done(&holdfast(&to, Some(USER.1)));
    let back = path(&directory, "back");
    let from_new = ["export", "--all", "--from", &place, "--ca", ca.to_str().unwrap(), "--username", USER.0];
    let mut from_new = from_new.to_vec();
    from_new.extend(["--password-stdin", "--host", &address, "-o", &back]);
    done(&holdfast(&from_new, Some(USER.1)));
    // Both registries give the same layout.
    for file in ["index.json", &format!("blobs/{}", multi.digest.replace(':', "/"))] {
        let read = |root: &str| std::fs::read(format!("{root}/{file}")).unwrap();
        assert_eq!(String::from_utf8(read(&back)), String::from_utf8(read(&medium)), "{file}");
    }
    let count = |root: &str| std::fs::read_dir(format!("{root}/blobs/sha256")).unwrap().count();
    assert_eq!(count(&back), count(&medium));
}

#[test]
fn registry_without_lists_serves_images_by_their_names() {
    let image = Image::of_layers(&[&noise(3, 50_000)]);
    let served = image.clone();
    let stub = Stub::start("127.0.0.1", move |request| serve_image(&served, request));
    let directory = tempfile::tempdir().unwrap();
    let (address, medium) = (stub.address.to_string(), path(&directory, "medium"));
    let from =
        |name: &str| holdfast(&["export", name, "--from", &address, "--plain-http", "-o", &medium], None);
    fails(&from("*"), 1, "does not list its repositories; name each one");
    fails(&from("app:2"), 1, "no image of the registry has this name");
    done(&from("app:1"));
    for (digest, content) in &image.content {
        let blob = std::fs::read(format!("{medium}/blobs/{}", digest.replace(':', "/"))).unwrap();
        assert!(blob == *content);
    }
}

#[test]
fn options_of_another_registry_are_refused_without_one() {
    for (arguments, words) in [
        (
            &["export", "a", "-o", "x", "--plain-http"][..],
            "--plain-http is for another registry; name that with --from",
        ),
        (&["import", "x", "--ca", "y"], "--ca is for another registry; name that with --to"),
        (&["import", "x", "--to", "http://hub.lan"], "--plain-http"),
        (&["import", "x", "--to", "hub.lan/team"], "has a path"),
        (&["import", "x", "--to", "https://u:p@hub.lan"], "--username"),
        (
            &["import", "-", "--to", "hub.lan", "--username", "u", "--password-stdin"],
            "both need standard input",
        ),
    ] {
        fails(&holdfast(arguments, None), 2, words);
    }
    let missing = holdfast(&["export", "a", "--from", "hub.lan", "--ca", "/nonexistent", "-o", "x"], None);
    fails(&missing, 1, "cannot read /nonexistent");
}
