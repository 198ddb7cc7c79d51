//! The totals in the row of a repository match its other rows after each operation.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::index_rows::{change_row, read_number, rows, with_index};
use crate::support::*;

/// The numbers of manifests, tags and bytes of a repository.
type Totals = (u64, u64, u64);

fn command(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the stored totals of each repository, and the totals of its rows.
fn stored_and_actual_totals(daemon: &Daemon) -> (BTreeMap<String, Totals>, BTreeMap<String, Totals>) {
    with_index(&daemon.data, |index, txn| {
        let mut stored = BTreeMap::new();
        for (name, row) in rows(index, txn, "repositories") {
            let row = &mut &row[..];
            let (manifests, tags, bytes) = (read_number(row), read_number(row), read_number(row));
            stored.insert(text(&name), (manifests, tags, bytes));
        }
        for (name, row) in rows(index, txn, "blob_totals") {
            let before = stored.insert(text(&name), (0, 0, read_number(&mut &row[..])));
            assert!(before.is_none(), "both tables have {}", text(&name));
        }
        let mut actual: BTreeMap<String, Totals> = BTreeMap::new();
        for table in ["manifests", "tags", "repository_blobs"] {
            for (key, row) in rows(index, txn, table) {
                let name = text(key.split(|byte| *byte == 0).next().unwrap());
                let (row, entry) = (&mut &row[..], actual.entry(name).or_default());
                if table == "tags" {
                    entry.1 += 1;
                    continue;
                }
                if table == "manifests" {
                    let digest = read_number(row) as usize;
                    *row = &row[digest..];
                    entry.0 += 1;
                }
                entry.2 += read_number(row);
            }
        }
        (stored, actual)
    })
}

#[track_caller]
fn compare(daemon: &Daemon, when: &str) {
    let (stored, actual) = stored_and_actual_totals(daemon);
    assert_eq!(stored, actual, "{when}");
    command(daemon, &["check"]);
}

#[test]
fn totals_stay_right_through_all_operations() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let delete = |daemon: &Daemon, path: &str| daemon.request("DELETE", path).send().expect(202);
    daemon.push_blob("early", b"before the first manifest");
    let path =
        format!("/v2/mounted/blobs/uploads/?mount={}&from=early", digest(b"before the first manifest"));
    daemon.request("POST", &path).body(b"").send().expect(201);
    compare(&daemon, "blobs without a manifest");
    let images: Vec<_> = (0..6)
        .map(|number| {
            let (name, layer) = (["early", "late"][number % 2], format!("layer {number}"));
            daemon.push_image(name, &format!("t{number}"), layer.as_bytes())
        })
        .collect();
    daemon.put_manifest("early", "again", OCI_MANIFEST, &images[0].1).expect(201);
    daemon.put_manifest("early", "again", OCI_MANIFEST, &images[0].1).expect(201);
    compare(&daemon, "pushes");
    daemon.put_manifest("early", "t2", OCI_MANIFEST, &images[4].1).expect(201);
    compare(&daemon, "a moved tag");
    delete(&daemon, "/v2/late/manifests/t1");
    delete(&daemon, &format!("/v2/early/manifests/{}", images[0].0));
    delete(&daemon, &format!("/v2/early/blobs/{}", digest(b"layer 4")));
    compare(&daemon, "deletes");
    command(&daemon, &["gc", "--grace", "0s"]);
    compare(&daemon, "a collection");
    daemon.kill_and_restart();
    compare(&daemon, "a kill");
    daemon.stop();
    command(&daemon, &["check", "--rebuild"]);
    compare(&daemon, "a rebuild");
    daemon.start_again();
    for number in [3, 5] {
        delete(&daemon, &format!("/v2/late/manifests/{}", images[number].0));
    }
    compare(&daemon, "the delete of the last manifest of a repository");
    daemon.push_image("late", "back", b"layer 3");
    compare(&daemon, "a push to it");
    command(&daemon, &["gc", "--grace", "0s"]);
    compare(&daemon, "another collection");
}

/// Changes the first row of a table, and its checksum.
fn change_first_row(daemon: &Daemon, table: &str, change: impl Fn(&mut Vec<u8>)) {
    let (key, _) = with_index(&daemon.data, |index, txn| rows(index, txn, table).remove(0));
    change_row(&daemon.data, table, &key, change);
}

#[test]
fn a_check_finds_wrong_totals() {
    for (table, kinds) in [("repositories", vec!["index", "miscounted"]), ("blob_totals", vec!["index"])] {
        let mut daemon = Daemon::start();
        daemon.push_image("a", "1", b"layer");
        daemon.push_blob("b", b"no manifest");
        daemon.stop();
        // The number of bytes is the third number in a row of the first table, and the only one in the second table.
        change_first_row(&daemon, table, |row| row[if table == "repositories" { 2 } else { 0 }] ^= 1);
        daemon.start_again();
        let (stored, actual) = stored_and_actual_totals(&daemon);
        assert_eq!(stored, actual, "{table}: the inspection at a start finds it, too");
        change_first_row(&daemon, table, |row| row[if table == "repositories" { 2 } else { 0 }] ^= 1);
        let mut command = Command::new(BINARY);
        let output =
            command.env_clear().args(["check", "--json", "--data"]).arg(&daemon.data).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found: Vec<&str> =
            report["list"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(found, kinds, "{report}");
    }
}
