//! `holdfast gc`: a collection, beside a running daemon or without one.
//!
//! Fails with an error of the store; items that were freed before it stay freed.

use std::io::Write;

use clap::Args;

use super::words::{amount, count, size};
use super::{Failure, print, put_in_order, runtime, store_settings};
use crate::config::Config;
use crate::store::{Immutable, Policy, Report, Retention, Role, Store, Taken};

#[derive(Args)]
pub(super) struct Options {
    /// Shows what would be freed, without freeing anything
    #[arg(long)]
    dry_run: bool,
    /// Grace period: how long content stays after its last use, instead of gc.grace. 0s frees it at once, and may make a
    /// running push fail
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs a collection and prints its report.
pub(super) fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let mut policy = Policy { by_hand: true, ..policy(config) };
    if let Some(grace) = &options.grace {
        policy.grace = crate::config::duration("--grace", grace).map_err(Failure::misuse)?;
    }
    super::owner::enter(config)?;
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
    policy: &Policy,
    options: &Options,
) -> Result<(Report, Vec<Taken>), Failure> {
    if !options.dry_run {
        // After a rebuild, unnamed blobs may be those of names that were lost.
        if put_in_order(config).await.map_err(Failure::failed)? {
            return Err(Failure::failed(
                "the index was rebuilt and names may be lost, so nothing was collected; push what is missing, then run \
                 `holdfast gc` again",
            ));
        }
    }
    let store = Store::open(store_settings(config), Role::Beside).await.map_err(Failure::failed)?;
    let mut taken = Vec::new();
    let mut observe = |one: Taken| {
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

/// Returns the rules of a collection in this configuration.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        grace: config.gc.grace,
        uploads_expire: config.gc.uploads_expire,
        retention: retention(config),
        by_hand: false,
    }
}

/// Returns the retention rules in this configuration.
pub(super) fn retention(config: &Config) -> Vec<Retention> {
    let rules = config.retention.iter().map(|rule| Retention {
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        newest: rule.keep_newest,
        younger: rule.keep_younger,
        tags: rule.keep_tags.iter().cloned().map(Into::into).collect(),
        untagged: rule.remove_untagged,
    });
    rules.collect()
}

/// Returns the rules for immutable tags in this configuration.
pub(super) fn immutable(config: &Config) -> Vec<Immutable> {
    let rules = config.immutable.iter().map(|rule| Immutable {
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        tags: rule.tags.iter().cloned().map(Into::into).collect(),
        delete: rule.delete,
    });
    rules.collect()
}

fn line(item: &Taken) -> String {
    match item {
        Taken::Tag { repository, tag, digest } => format!("tag       {repository}:{tag} {digest}"),
        Taken::Manifest { repository, digest } => format!("manifest  {repository}@{digest}"),
        Taken::Blob { digest, bytes } => format!("blob      {digest} {}", size(*bytes)),
        Taken::Upload { id, bytes } => format!("upload    {id} {}", size(*bytes)),
    }
}

fn summary(report: &Report) -> String {
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
        let tag =
            Taken::Tag { repository: repository.clone(), tag: "1".parse().unwrap(), digest: digest.clone() };
        assert_eq!(line(&tag), format!("tag       a/b:1 {digest}"));
        let manifest = Taken::Manifest { repository, digest: digest.clone() };
        assert_eq!(line(&manifest), format!("manifest  a/b@{digest}"));
        assert_eq!(
            line(&Taken::Blob { digest: digest.clone(), bytes: 11 }),
            format!("blob      {digest} 11 B")
        );
        assert_eq!(line(&Taken::Upload { id: "u".into(), bytes: 1536 }), "upload    u 1.5 KiB");
    }

    #[test]
    fn a_summary_names_what_was_freed_and_what_was_kept() {
        let report = Report {
            repositories: 2,
            freed_tags: 1,
            freed_blobs: Amount { count: 3, bytes: 11 },
            milliseconds: 5,
            ..Report::default()
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
        let dry = summary(&Report { dry_run: true, found: 1, ..report });
        assert!(
            dry.contains("would free 1 tag") && dry.ends_with("found 1 file missing in the index\n"),
            "{dry}"
        );
    }
}
