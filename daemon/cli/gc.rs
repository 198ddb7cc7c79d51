//! `holdfast gc`: a collection, by the daemon or without one.
//!
//! Fails with an error of the store; items that were freed before it stay freed.

use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::background::{COLLECTION, collection_rules};
use super::format::{count, size};
use super::job_report::{Waiting, amount, number, text};
use super::output::{print_json, print_line, remark};
use super::owner::{Access, Client, Event, Invocation, with_owner};
use super::{Failure, print};
use crate::config::{Config, DataSource};
use crate::store::WaitingContent;

#[derive(Args)]
pub(super) struct Options {
    /// Show what would be freed, without freeing anything
    #[arg(long)]
    dry_run: bool,
    /// Grace period: how long content stays after its last use, instead of gc.grace. 0s frees it at once, and may make a
    /// running push fail
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    /// Look at all content and all files, as once a week, not only at what may have become unused
    #[arg(long)]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a collection and prints its report.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    if let Some(grace) = &options.grace {
        crate::config::duration("--grace", grace).map_err(Failure::misuse)?;
    }
    let collected = with_owner(config, invocation, Access::Any, async |client| {
        compare_rules(client, config, invocation)?;
        collect(client, options).await
    });
    let (mut report, taken) = collected?;
    if options.json {
        report["taken"] = taken.into();
        return print_json(&report);
    }
    print(&summary(&report))
}

/// Compares the rules of this configuration with those of the daemon, which collects by its own. Refuses a file that was named
/// with `--config`, and says so otherwise.
fn compare_rules(client: &Client, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let in_effect = client.status().collection_rules.as_ref();
    if in_effect.is_none_or(|rules| *rules == collection_rules(config)) {
        return Ok(());
    }
    let next = "reload the daemon to apply them (systemctl reload holdfast, or SIGHUP)";
    match &invocation.config {
        Some(file) => Err(Failure::failed(format!(
            "the running daemon collects by other rules than those of {}; if that is its file, {next}, else leave out --config, \
             or stop the daemon",
            file.display()
        ))),
        // A directory that is named may be served by any configuration.
        None if config.data_source != DataSource::UsualFile => Ok(()),
        None => {
            remark(&format!("the daemon collects by other rules than those of the configuration; {next}"));
            Ok(())
        }
    }
}

async fn collect(client: &mut Client, options: &Options) -> Result<(Value, Vec<Value>), Failure> {
    // After a rebuild, unnamed blobs may be those of names that were lost.
    if client.owns_store() && client.status().may_lack_names && !options.dry_run {
        return Err(Failure::failed(
            "the index was rebuilt and names may be lost, so nothing was collected; push what is missing, then run \
             `holdfast gc` again",
        ));
    }
    let mut wanted = json!({ "dry_run": options.dry_run });
    if let Some(grace) = &options.grace {
        wanted["grace"] = grace.as_str().into();
    }
    if options.full {
        wanted["full"] = true.into();
    }
    let (mut taken, mut waiting) = (Vec::new(), Waiting::default());
    let mut observe = |event| match event {
        Event::Progress(progress) => waiting.show(&progress),
        Event::Item(item) if options.json => taken.push(item),
        Event::Item(item) => print_line(&line(&item)),
    };
    let path = format!("jobs/{COLLECTION}");
    let mut done = client.stream(Method::POST, &path, Some(&wanted), &mut observe).await?;
    Ok((done.remove("report").unwrap_or_default(), taken))
}

/// Formats an item that was freed.
fn line(item: &Value) -> String {
    let bytes = size(number(item, "bytes"));
    let (repository, digest) = (text(item, "repository"), text(item, "digest"));
    match text(item, "kind") {
        "tag" => format!("tag       {repository}:{} {digest}", text(item, "tag")),
        "manifest" => format!("manifest  {repository}@{digest}"),
        "blob" => format!("blob      {digest} {bytes}"),
        "upload" => format!("upload    {} {bytes}", text(item, "id")),
        _ => format!("... {} that this command was too slow to read", count(number(item, "missed"), "item")),
    }
}

fn summary(report: &Value) -> String {
    let verb = if report["dry_run"] == true { "would free" } else { "freed" };
    let repositories = count(number(report, "repositories"), "repository");
    let mut text = format!("scanned {repositories} in {} ms\n", number(report, "milliseconds"));
    text += &format!(
        "{verb} {}, {}, {}, {}\n",
        count(number(report, "freed_tags"), "tag"),
        count(number(report, "freed_manifests"), "manifest"),
        amount(report, "freed_blobs", "blob"),
        amount(report, "freed_uploads", "upload")
    );
    text += &format!("kept {} that manifests reference\n", amount(report, "kept_needed", "blob"));
    let waiting = WaitingContent::deserialize(&report["waiting"]).unwrap_or_default();
    text += &match waiting.sentence() {
        // A shorter grace period frees nothing of it.
        Some(sentence) if waiting.waits_for_transfers() => format!("{sentence}\n"),
        Some(sentence) => format!("{sentence}; `holdfast gc --grace 0s` frees at once\n"),
        None => "nothing waits for the end of its grace period\n".to_owned(),
    };
    text += &format!("kept {} that have not expired\n", amount(report, "kept_uploads", "upload"));
    if number(report, "found") > 0 {
        text += &format!("found {} missing in the index\n", count(number(report, "found"), "file"));
    }
    for sentence in report["unmatched_rules"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text += &format!("warning: {sentence}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::oci::{Algorithm, Hasher};
    use crate::store::{Amount, CollectedItem, CollectionReport, WaitingContent};

    /// Formats an item as the daemon sends it.
    fn line(item: &CollectedItem) -> String {
        super::line(&serde_json::to_value(item).unwrap())
    }

    fn summary(report: &CollectionReport) -> String {
        super::summary(&serde_json::to_value(report).unwrap())
    }

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
            text.contains("nothing waits for the end of its grace period\n") && !text.contains("found"),
            "{text}"
        );
        let held = WaitingContent { blobs: Amount { count: 1, bytes: 11 }, ..WaitingContent::default() };
        let text = summary(&CollectionReport { waiting: held, ..report });
        assert!(text.contains("1 blob (11 B) waits for a running transfer\n"), "{text}");
        let due = WaitingContent { until: Some(0), ..held };
        let text = summary(&CollectionReport { waiting: due, ..report });
        assert!(text.contains("; `holdfast gc --grace 0s` frees at once\n"), "{text}");
        let dry = summary(&CollectionReport { dry_run: true, found: 1, ..report });
        assert!(
            dry.contains("would free 1 tag") && dry.ends_with("found 1 file missing in the index\n"),
            "{dry}"
        );
    }
}
