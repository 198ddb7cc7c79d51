//! `holdfast gc`.

use std::io::Write;

use clap::Args;

use super::words::{amount, count, size};
use super::{Failure, print, put_in_order, runtime, store_settings};
use crate::config::Config;
use crate::store::{Immutable, Policy, Report, Retention, Role, Store, Taken};

#[derive(Args)]
pub(super) struct Options {
    /// Only shows what would be freed
    #[arg(long)]
    dry_run: bool,
    /// How long something stays after its last use has gone, instead of gc.grace; 0s frees at once, and may fail a
    /// push that goes on
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Collects once, beside a running daemon or without one.
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
        // The blobs that no name needs may be those of the names that were lost just now.
        if put_in_order(config).await.map_err(Failure::failed)? {
            return Err(Failure::failed(
                "the index was made again and names may be lost; nothing is collected: push what is missing, then run \
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
            // A reader that has gone away does not stop the collection.
            let _ = writeln!(std::io::stdout(), "{}", line(&one));
        }
    };
    let report = store.collect(policy, options.dry_run, &mut observe).await;
    let closed = store.close().await;
    let report = report.map_err(Failure::failed)?;
    closed.map_err(Failure::failed)?;
    Ok((report, taken))
}

/// What a collection may take by this configuration.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        grace: config.gc.grace,
        uploads_expire: config.gc.uploads_expire,
        retention: retention(config),
        by_hand: false,
    }
}

/// The rules of this configuration.
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

/// The tags that can be set once by this configuration.
pub(super) fn immutable(config: &Config) -> Vec<Immutable> {
    let rules = config.immutable.iter().map(|rule| Immutable {
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        tags: rule.tags.iter().cloned().map(Into::into).collect(),
        delete: rule.delete,
    });
    rules.collect()
}

fn line(taken: &Taken) -> String {
    match taken {
        Taken::Tag { repository, tag, digest } => format!("tag       {repository}:{tag} {digest}"),
        Taken::Manifest { repository, digest } => format!("manifest  {repository}@{digest}"),
        Taken::Blob { digest, bytes } => format!("blob      {digest} {}", size(*bytes)),
        Taken::Upload { id, bytes } => format!("upload    {id} {}", size(*bytes)),
    }
}

fn summary(report: &Report) -> String {
    let verb = if report.dry_run { "would free" } else { "freed" };
    let repositories = count(report.repositories, "repository");
    let mut text = format!("looked at {repositories} in {} ms\n", report.milliseconds);
    text += &format!(
        "{verb} {}, {}, {}, {}\n",
        count(report.freed_tags, "tag"),
        count(report.freed_manifests, "manifest"),
        amount(report.freed_blobs, "blob"),
        amount(report.freed_uploads, "upload")
    );
    text += &format!("kept {} that a manifest needs\n", amount(report.kept_needed, "blob"));
    text += &format!("kept {} that a push may be counting on\n", amount(report.kept_young, "blob"));
    text += &format!("kept {} that may go on\n", amount(report.kept_uploads, "upload"));
    if report.found > 0 {
        text += &format!("found {} that the index did not know\n", count(report.found, "file"));
    }
    text
}
