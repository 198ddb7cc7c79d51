//! `holdfast gc`.

use std::io::Write;

use clap::Args;

use super::format::{amount, count, size};
use super::settings::collection_policy;
use super::{Failure, print, recover_offline, runtime, store_settings};
use crate::config::Config;
use crate::store::{Policy, Report, Role, Store, Taken};

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
    let mut policy = Policy { by_hand: true, ..collection_policy(config) };
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
    policy: &Policy,
    options: &Options,
) -> Result<(Report, Vec<Taken>), Failure> {
    if !options.dry_run {
        // The blobs that no name needs may be those of the names that were lost just now.
        if recover_offline(config).await.map_err(Failure::failed)? {
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
