//! `holdfast gc`: a collection, beside a running daemon or without one.
//!
//! Fails with an error of the store; items that were freed before it stay freed.

use std::io::Write;

use clap::Args;

use super::format::{amount, count, size};
use super::{Failure, print, recover_offline, runtime, store_settings};
use crate::config::Config;
use crate::store::{CollectedItem, CollectionPolicy, CollectionReport, Role, Store};

#[derive(Args)]
pub(super) struct Options {
    /// Show what would be freed, without freeing anything
    #[arg(long)]
    dry_run: bool,
    /// Grace period: how long content stays after its last use, instead of gc.grace. 0s frees it at once, and may make a
    /// running push fail
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a collection and prints its report.
pub(super) fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let mut policy = CollectionPolicy { by_operator: true, ..config.gc.policy.clone() };
    if let Some(grace) = &options.grace {
        policy.grace = crate::config::duration("--grace", grace).map_err(Failure::misuse)?;
    }
    super::privileges::enter(config)?;
    let _log = crate::service::start_logging(log::LevelFilter::Warn).map_err(Failure::failed)?;
    let (report, taken) = runtime()?.block_on(collect(config, &policy, options))?;
    if options.json {
        let mut text = serde_json::to_value(report).map_err(Failure::failed)?;
        text["taken"] = serde_json::to_value(taken).map_err(Failure::failed)?;
        return print(&format!("{text:#}\n"));
    }
    print(&summary(&report))
}

async fn collect(
    config: &Config,
    policy: &CollectionPolicy,
    options: &Options,
) -> Result<(CollectionReport, Vec<CollectedItem>), Failure> {
    if !options.dry_run {
        // After a rebuild, unnamed blobs may be those of names that were lost.
        if recover_offline(config).await.map_err(Failure::failed)? {
            return Err(Failure::failed(
                "the index was rebuilt and names may be lost, so nothing was collected; push what is missing, then run \
                 `holdfast gc` again",
            ));
        }
    }
    let store = Store::open(store_settings(config), Role::Command).await.map_err(Failure::failed)?;
    let mut taken = Vec::new();
    let mut observe = |one: CollectedItem| {
        if options.json {
            taken.push(one);
        } else {
            // A closed pipe must not stop the collection.
            let _ = writeln!(std::io::stdout(), "{}", line(&one));
        }
    };
    let report = store.collect(policy, options.dry_run, &mut observe).await;
    let closed = store.close().await;
    let report = report.map_err(Failure::failed)?;
    closed.map_err(Failure::failed)?;
    Ok((report, taken))
}

fn line(item: &CollectedItem) -> String {
    match item {
        CollectedItem::Tag { repository, tag, digest } => format!("tag       {repository}:{tag} {digest}"),
        CollectedItem::Manifest { repository, digest } => format!("manifest  {repository}@{digest}"),
        CollectedItem::Blob { digest, bytes } => format!("blob      {digest} {}", size(*bytes)),
        CollectedItem::Upload { id, bytes } => format!("upload    {id} {}", size(*bytes)),
    }
}

fn summary(report: &CollectionReport) -> String {
    let verb = if report.dry_run { "would free" } else { "freed" };
    let repositories = count(report.repositories, "repository");
    let mut text = format!("scanned {repositories} in {} ms\n", report.milliseconds);
    text += &format!(
        "{verb} {}, {}, {}, {}\n",
        count(report.freed_tags, "tag"),
        count(report.freed_manifests, "manifest"),
        amount(report.freed_blobs, "blob"),
        amount(report.freed_uploads, "upload")
    );
    text += &format!("kept {} that manifests reference\n", amount(report.kept_needed, "blob"));
    text += &format!("kept {} within the grace period\n", amount(report.kept_young, "blob"));
    text += &format!("kept {} that have not expired\n", amount(report.kept_uploads, "upload"));
    if report.found > 0 {
        text += &format!("found {} missing in the index\n", count(report.found, "file"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};
    use crate::store::Amount;

    #[test]
    fn each_item_has_a_line() {
        let digest = Hasher::digest(Algorithm::Sha256, b"x");
        let repository: crate::oci::RepositoryName = "a/b".parse().unwrap();
        let tag = CollectedItem::Tag {
            repository: repository.clone(),
            tag: "1".parse().unwrap(),
            digest: digest.clone(),
        };
        assert_eq!(line(&tag), format!("tag       a/b:1 {digest}"));
        let manifest = CollectedItem::Manifest { repository, digest: digest.clone() };
        assert_eq!(line(&manifest), format!("manifest  a/b@{digest}"));
        assert_eq!(
            line(&CollectedItem::Blob { digest: digest.clone(), bytes: 11 }),
            format!("blob      {digest} 11 B")
        );
        assert_eq!(line(&CollectedItem::Upload { id: "u".into(), bytes: 1536 }), "upload    u 1.5 KiB");
    }

    #[test]
    fn a_summary_names_what_was_freed_and_what_was_kept() {
        let report = CollectionReport {
            repositories: 2,
            freed_tags: 1,
            freed_blobs: Amount { count: 3, bytes: 11 },
            milliseconds: 5,
            ..CollectionReport::default()
        };
        let text = summary(&report);
        assert!(
            text.starts_with("scanned 2 repositories in 5 ms\nfreed 1 tag, 0 manifests, 3 blobs (11 B),"),
            "{text}"
        );
        assert!(
            text.contains("kept 0 blobs (0 B) within the grace period\n") && !text.contains("found"),
            "{text}"
        );
        let dry = summary(&CollectionReport { dry_run: true, found: 1, ..report });
        assert!(
            dry.contains("would free 1 tag") && dry.ends_with("found 1 file missing in the index\n"),
            "{dry}"
        );
    }
}
