//! What is counted of each repository is what it has, whatever happened to it.

use std::collections::BTreeMap;
use std::process::Command;

use heed::types::Bytes;

use crate::support::*;

/// Manifests, tags and bytes.
type Counted = (u64, u64, u64);

fn command(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

/// Reads numbers as postcard writes them.
fn number(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            return number;
        }
    }
}

/// Opens the index beside the daemon or without it, and gives the rows of its tables without their checksums.
fn with_index<T>(daemon: &Daemon, then: impl FnOnce(&heed::Env, &heed::RoTxn) -> T) -> T {
    let mut options = heed::EnvOpenOptions::new();
    let options = options.max_dbs(32).map_size(64 << 20);
    // SAFETY: the tests of a process use directories of their own, and the file is one of LMDB.
    #[expect(unsafe_code, reason = "there is no other way to open an index")]
    let index = unsafe { options.open(daemon.data.join("index")) }.unwrap();
    let found = {
        let txn = index.read_txn().unwrap();
        then(&index, &txn)
    };
    index.prepare_for_closing().wait();
    found
}

fn rows(index: &heed::Env, txn: &heed::RoTxn, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let table = index.open_database::<Bytes, Bytes>(txn, Some(table)).unwrap().unwrap();
    let row = |row: heed::Result<(&[u8], &[u8])>| {
        let (key, value) = row.unwrap();
        (key.to_vec(), value[..value.len() - 4].to_vec())
    };
    table.iter(txn).unwrap().map(row).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the index has counted of each repository with a manifest, and what the rows say.
fn counted_and_recounted(daemon: &Daemon) -> (BTreeMap<String, Counted>, BTreeMap<String, Counted>) {
    with_index(daemon, |index, txn| {
        let mut counted = BTreeMap::new();
        for (name, row) in rows(index, txn, "repositories") {
            let row = &mut &row[..];
            let (manifests, tags, bytes) = (number(row), number(row), number(row));
            counted.insert(text(&name), (manifests, tags, bytes));
        }
        for (name, row) in rows(index, txn, "blob_totals") {
            let before = counted.insert(text(&name), (0, 0, number(&mut &row[..])));
            assert!(before.is_none(), "both tables have {}", text(&name));
        }
        let mut recounted: BTreeMap<String, Counted> = BTreeMap::new();
        for table in ["manifests", "tags", "links"] {
            for (key, row) in rows(index, txn, table) {
                let name = text(key.split(|byte| *byte == 0).next().unwrap());
                let (row, entry) = (&mut &row[..], recounted.entry(name).or_default());
                if table == "tags" {
                    entry.1 += 1;
                    continue;
                }
                if table == "manifests" {
                    let digest = number(row) as usize;
                    *row = &row[digest..];
                    entry.0 += 1;
                }
                entry.2 += number(row);
            }
        }
        (counted, recounted)
    })
}

#[track_caller]
fn compare(daemon: &Daemon, when: &str) {
    let (counted, recounted) = counted_and_recounted(daemon);
    assert_eq!(counted, recounted, "{when}");
    command(daemon, &["check"]);
}

#[test]
fn sums_of_repositories_stay_right() {
    let mut daemon = Daemon::with(&[("HOLDFAST_GC_INTERVAL", "off")]);
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
    compare(&daemon, "a tag that moved");
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
    daemon.restart_after_end();
    for number in [3, 5] {
        delete(&daemon, &format!("/v2/late/manifests/{}", images[number].0));
    }
    compare(&daemon, "the last manifest of a repository went");
    daemon.push_image("late", "back", b"layer 3");
    compare(&daemon, "it came back");
    command(&daemon, &["gc", "--grace", "0s"]);
    compare(&daemon, "another collection");
}

/// Replaces the first row of a table by one with a right checksum.
fn put(daemon: &Daemon, table: &str, change: impl Fn(&mut Vec<u8>)) {
    let (key, mut value) = with_index(daemon, |index, txn| rows(index, txn, table).remove(0));
    change(&mut value);
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), &(key.len() as u64).to_le_bytes(), &key, &value] {
        hasher.update(part);
    }
    value.extend(hasher.finalize().to_le_bytes());
    let mut options = heed::EnvOpenOptions::new();
    let options = options.max_dbs(32).map_size(64 << 20);
    // SAFETY: no other process has it open, and this one has closed it.
    #[expect(unsafe_code, reason = "there is no other way to open an index")]
    let index = unsafe { options.open(daemon.data.join("index")) }.unwrap();
    let mut txn = index.write_txn().unwrap();
    let rows = index.open_database::<Bytes, Bytes>(&txn, Some(table)).unwrap().unwrap();
    rows.put(&mut txn, &key, &value).unwrap();
    txn.commit().unwrap();
    index.prepare_for_closing().wait();
}

#[test]
fn a_check_finds_wrong_sums() {
    for (table, kinds) in [("repositories", vec!["index", "miscounted"]), ("blob_totals", vec!["index"])] {
        let mut daemon = Daemon::start();
        daemon.push_image("a", "1", b"layer");
        daemon.push_blob("b", b"no manifest");
        daemon.stop();
        // The bytes of a repository are the third number of the first table, and the only one of the second.
        put(&daemon, table, |row| row[if table == "repositories" { 2 } else { 0 }] ^= 1);
        daemon.restart_after_end();
        let (counted, recounted) = counted_and_recounted(&daemon);
        assert_eq!(counted, recounted, "{table}: a start finds it, too");
        put(&daemon, table, |row| row[if table == "repositories" { 2 } else { 0 }] ^= 1);
        let mut command = Command::new(BINARY);
        let output =
            command.env_clear().args(["check", "--json", "--data"]).arg(&daemon.data).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found: Vec<&str> =
            report["list"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(found, kinds, "{report}");
    }
}
