//! Any set of images that is exported and imported is the same set, whatever was interrupted on the way.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use holdfast::oci::Algorithm;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::*;
use crate::support::images::{CONFIG, LAYER};

/// A manifest that is pushed, in one of three repositories.
#[derive(Clone, Debug)]
enum Push {
    /// An image with these of the shared layers.
    Image { repository: u8, layers: Vec<u8>, long: bool },
    /// An index of the last manifests of the repository.
    Index { repository: u8, children: usize, long: bool },
    /// A referrer of a manifest of the repository.
    Referrer { repository: u8, subject: usize, long: bool },
}

/// Kills the command or the daemon after a part of the time that the undisturbed run took, in percent.
#[derive(Clone, Copy, Debug)]
struct Kill {
    daemon: bool,
    after: u32,
}

fn push() -> impl Strategy<Value = Push> {
    let (repository, long) = (0..3u8, prop::bool::weighted(0.3));
    prop_oneof![
        4 => (repository.clone(), prop::collection::vec(0..6u8, 0..4), long)
            .prop_map(|(repository, layers, long)| Push::Image { repository, layers, long }),
        2 => (repository.clone(), 0..4usize, long)
            .prop_map(|(repository, children, long)| Push::Index { repository, children, long }),
        2 => (repository, 0..8usize, long)
            .prop_map(|(repository, subject, long)| Push::Referrer { repository, subject, long }),
    ]
}

fn kills() -> impl Strategy<Value = Vec<Kill>> {
    let kill = (any::<bool>(), 0..110u32).prop_map(|(daemon, after)| Kill { daemon, after });
    prop::collection::vec(kill, 2)
}

/// Pushes everything. Referrers have no tag, so that they travel with their subjects alone.
fn fill(daemon: &Daemon, pushes: &[Push]) {
    let mut known: BTreeMap<u8, Vec<Value>> = BTreeMap::new();
    for (number, one) in pushes.iter().enumerate() {
        let (Push::Image { repository, long, .. }
        | Push::Index { repository, long, .. }
        | Push::Referrer { repository, long, .. }) = *one;
        let to = Pusher { daemon, repository: format!("team/app{repository}") };
        let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let layer = |layer: u8| to.blob(algorithm, LAYER, &noise(layer.into(), usize::from(layer) * 30_000));
        let config = || to.blob(algorithm, CONFIG, format!("{{\"number\":{number}}}").as_bytes());
        let manifests = known.entry(repository).or_default();
        let manifest = match one {
            Push::Image { layers, .. } => {
                image_manifest(&config(), &layers.iter().map(|number| layer(*number)).collect::<Vec<_>>())
            }
            Push::Index { children, .. } => {
                let mut index = index_manifest(&manifests[manifests.len().saturating_sub(*children)..]);
                index["annotations"]["number"] = number.to_string().into();
                index
            }
            Push::Referrer { subject, .. } => {
                if manifests.is_empty() {
                    continue;
                }
                let mut referrer = image_manifest(&config(), &[]);
                referrer["subject"] = manifests[subject % manifests.len()].clone();
                referrer["artifactType"] = "application/x-signature".into();
                to.manifest(algorithm, None, &referrer);
                continue;
            }
        };
        // A manifest has the digest of the algorithm if no tag names it; its tag would be one of sha256.
        let tag = format!("v{number}");
        manifests.push(to.manifest(Algorithm::Sha256, Some(&tag), &manifest));
    }
}

/// Runs a command to its end; returns the time that it took.
fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    run(command);
    began.elapsed()
}

/// Starts a command, kills it or the daemon, and waits for its end.
fn interrupt(command: &mut Command, daemon: &mut Daemon, kill: Kill, whole: Duration) {
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(whole * kill.after / 100);
    if kill.daemon {
        daemon.kill_and_restart();
    } else {
        // It may have ended before.
        let _ = child.kill();
    }
    child.wait().unwrap();
}

fn check(pushes: &[Push], exports: &[Kill], imports: &[Kill], form: &str) {
    let mut home = Daemon::start();
    fill(&home, pushes);
    let expected = Contents::of(&home);
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    for place in [&first, &second] {
        std::fs::create_dir(place).unwrap();
    }
    let medium = first.join(form);
    let exported = timed(&mut export(&home, &["--all"], &medium));
    // An interrupted export continues to the same bytes.
    for kill in exports {
        interrupt(&mut export(&home, &["--all"], &second.join(form)), &mut home, *kill, exported);
    }
    run(&mut export(&home, &["--all"], &second.join(form)));
    run(Command::new("diff").arg("-r").args([&first, &second]));
    // An interrupted import continues to the same contents.
    let site = Daemon::start();
    let imported = timed(import(&site, &medium).arg("--no-inventory"));
    assert_eq!(Contents::of(&site), expected);
    drop(site);
    let mut site = Daemon::start();
    for kill in imports {
        interrupt(import(&site, &medium).arg("--no-inventory"), &mut site, *kill, imported);
        // Images that have a name are whole.
        Contents::of(&site);
    }
    run(&mut import(&site, &medium));
    assert_eq!(Contents::of(&site), expected);
    let again = run(&mut import(&site, &medium));
    assert!(again.contains("stored 0 blobs"), "{again}");
}

/// Few cases by default; `HOLDFAST_TEST_CASES=100 cargo test transfer::property` tries more.
#[test]
fn any_set_of_images_survives_export_and_import_with_interruptions() {
    let cases = std::env::var("HOLDFAST_TEST_CASES").map_or(4, |cases| cases.parse().unwrap());
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20,
        ..Config::default()
    });
    let form = prop_oneof![Just("layout"), Just("x.tar")];
    // An export of nothing is refused.
    let first = prop::collection::vec(0..6u8, 0..4).prop_map(|layers| Push::Image {
        repository: 0,
        layers,
        long: false,
    });
    let pushes = (first, prop::collection::vec(push(), 0..10));
    runner
        .run(&(pushes, kills(), kills(), form), |((first, pushes), exports, imports, form)| {
            check(&[vec![first], pushes].concat(), &exports, &imports, form);
            Ok(())
        })
        .unwrap();
}
