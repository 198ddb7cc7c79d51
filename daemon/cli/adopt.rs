//! `holdfast adopt`: takes over the images of registry:2's data directory.
//!
//! The directory is read with the rights of the user; the owner of the store gets only bytes.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::control_sink::ControlSink;
use super::format::{count, size};
use super::output::{event_line, print_line};
use super::owner::{Access, INTERRUPTED, Invocation, with_owner};
use super::progress::ProgressPrinter;
use super::{Failure, print};
use crate::config::Config;
use crate::control::TransferPurpose;
use crate::oci::Pattern;
use crate::transfer::adopt::{
    Adopted, AdoptedImage, AdoptionObserver, ImageState, RepositorySelection, Settings, Tree, adopt,
    open_file,
};
use crate::transfer::{Pace, Phase, SinkError};

#[derive(Args)]
pub(super) struct Options {
    /// Directory that registry:2 is configured with (rootdirectory); it contains docker/registry/v2
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Delete content from the directory once it is stored here, so that no space is needed for two copies; stop registry:2
    /// first
    #[arg(long = "move")]
    moves: bool,
    /// Adopt only these repositories; * matches any text
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Text before the names of the repositories, such as old/
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Show what would be adopted, without changing anything
    #[arg(long)]
    dry_run: bool,
    /// Print events as JSON, one per line
    #[arg(long)]
    json: bool,
}

/// Adopts images and prints a line for each of them; fails if one was not adopted.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    if let Some(only) = options.only.iter().find(|only| only.contains([':', '@'])) {
        return Err(Failure::misuse(format!(
            "--only {only}: give a repository, without a tag; all its tags are adopted"
        )));
    }
    if config.import.signers.is_some() {
        return Err(Failure::failed("adopt cannot be used while import.signers is set"));
    }
    let tree = Arc::new(Tree::open(&options.directory).map_err(Failure::failed)?);
    if options.moves && !options.dry_run {
        refuse_open_files(&tree)?;
    }
    let is_same_disk = std::fs::metadata(&config.storage.path).is_ok_and(|data| data.dev() == tree.device());
    let settings = Settings {
        selection: RepositorySelection {
            only: options.only.iter().cloned().map(Pattern::from).collect(),
            prefix: options.prefix.clone(),
        },
        moves: options.moves,
        // Removed content makes no room within a quota.
        is_same_disk: is_same_disk && config.storage.capacity.quota.is_none(),
        dry_run: options.dry_run,
    };
    let purpose = if options.moves && is_same_disk { TransferPurpose::Move } else { TransferPurpose::Import };
    let mut output = Output {
        json: options.json,
        pace: Pace::new(Phase::Adopt),
        printer: ProgressPrinter::new(options.json),
    };
    let adopted = with_owner(config, invocation, Access::Any, async |client| {
        // Signals end the work between two steps of it, and the store in good order.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
        let mut sink = ControlSink::open(client, purpose).await.map_err(Failure::failed)?;
        let adopted = tokio::select! {
            adopted = adopt(tree, &mut sink, &settings, &mut output) => adopted.map_err(Failure::failed),
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        };
        sink.close().await;
        adopted
    });
    output.printer.clear();
    let adopted = adopted?;
    if options.json {
        print(&event_line("done", report(&adopted)))?;
    } else {
        for note in &adopted.notes {
            print_line(note);
        }
        for skipped in &adopted.skipped {
            print_line(&format!("skipped   {}: {}", skipped.name, skipped.reason));
        }
        print(&summary(&adopted, options))?;
    }
    conclusion(&adopted, options)
}

/// Prints progress and the outcomes of images as they come.
struct Output {
    json: bool,
    pace: Pace,
    printer: ProgressPrinter,
}

impl AdoptionObserver for Output {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        if let Some(progress) = self.pace.due(done, total) {
            self.printer.show(&progress);
        }
    }

    fn image(&mut self, image: AdoptedImage) {
        self.printer.clear();
        let text = if self.json {
            event_line("item", serde_json::to_value(&image).unwrap_or_default())
        } else {
            format!("{}\n", line(&image))
        };
        // A closed pipe must not stop the work.
        let _ = print(&text);
    }
}

/// Refuses to move files that a process has open: registry:2 still runs.
fn refuse_open_files(tree: &Tree) -> Result<(), Failure> {
    match open_file(tree).map_err(Failure::failed)? {
        None => Ok(()),
        Some(file) => Err(Failure::failed(format!(
            "process {} has {} open; stop registry:2 before its content is moved, or adopt it without --move",
            file.process,
            file.path.display()
        ))),
    }
}

fn interrupted() -> Failure {
    let line = "interrupted; finished images are in the registry, run the command again to continue";
    Failure { code: INTERRUPTED, line: line.into() }
}

/// Formats the outcome of an image.
fn line(image: &AdoptedImage) -> String {
    let word = match image.outcome {
        ImageState::Adopted => "adopted  ",
        ImageState::Present => "present  ",
        ImageState::Planned => "to adopt ",
        ImageState::Kept => "kept     ",
        ImageState::Incomplete => "incomplete",
        ImageState::Refused => "refused  ",
    };
    match &image.reason {
        Some(reason) => format!("{word} {}: {reason}", image.names),
        None => format!("{word} {} {}", image.names, size(image.bytes)),
    }
}

fn summary(adopted: &Adopted, options: &Options) -> String {
    let mut text = counts(adopted, options.dry_run);
    if options.moves && adopted.removed > 0 {
        text += &format!("freed {} in {}\n", size(adopted.removed), options.directory.display());
    }
    if !options.dry_run && adopted.adopted > adopted.present {
        text += MAPPING;
    }
    text
}

/// Formats the counts, without those that are zero.
fn counts(adopted: &Adopted, dry_run: bool) -> String {
    let new = adopted.adopted - adopted.present;
    let mut parts = match (new, adopted.images) {
        (_, 0) => vec!["no image found".to_owned()],
        (0, _) if dry_run => vec![format!("{} present, 0 to adopt", adopted.present)],
        (0, _) => vec![format!("{} present, 0 adopted", adopted.present)],
        (new, images) => {
            let verb = if dry_run { "would adopt" } else { "adopted" };
            vec![format!("{verb} {new} of {} ({})", count(images, "image"), size(adopted.bytes))]
        }
    };
    if new > 0 && adopted.present > 0 {
        parts.push(format!("{} present", adopted.present));
    }
    if adopted.failed > 0 {
        parts.push(format!("{} not adopted", adopted.failed));
    }
    if !adopted.skipped.is_empty() {
        parts.push(format!("{} skipped", count(adopted.skipped.len(), "name")));
    }
    parts.join(", ") + "\n"
}

/// The use of the configuration of registry:2 with Holdfast.
const MAPPING: &str = "
The configuration of registry:2 works here, too:
  config.yml              holdfast config check --config config.yml, then holdfast serve config.yml
  http.addr               listen
  http.tls.certificate    tls.certificate, tls.key
  storage.filesystem      storage.path; this registry has its own directory
  auth.htpasswd.path      auth.htpasswd; lines with bcrypt hashes ($2y$) stay as they are
All settings: docs/how-to/from-registry-2.md
";

fn report(adopted: &Adopted) -> serde_json::Value {
    let skipped: Vec<_> =
        adopted.skipped.iter().map(|one| json!({ "name": one.name, "reason": one.reason })).collect();
    json!({
        "images": adopted.images,
        "skipped": skipped,
        "notes": adopted.notes,
        "adopted": adopted.adopted,
        "present": adopted.present,
        "failed": adopted.failed,
        "bytes": adopted.bytes,
        "removed": adopted.removed,
        "stopped": adopted.stopped.as_ref().map(ToString::to_string),
    })
}

fn conclusion(adopted: &Adopted, options: &Options) -> Result<(), Failure> {
    if adopted.stopped == Some(SinkError::Interrupted) {
        return Err(interrupted());
    }
    if let Some(error) = &adopted.stopped {
        let left = adopted.images - adopted.adopted - adopted.failed;
        let left = count(left, "image");
        return Err(Failure::failed(format!("{error}; {left} left, run the command again to continue")));
    }
    let mut parts = Vec::new();
    if adopted.failed > 0 {
        parts.push(format!("{} not adopted", count(adopted.failed, "image")));
    }
    if !adopted.skipped.is_empty() {
        parts.push(format!("{} skipped", count(adopted.skipped.len(), "name")));
    }
    if parts.is_empty() && adopted.images == 0 && !options.only.is_empty() {
        let (directory, only) = (options.directory.display(), options.only.join(" --only "));
        return Err(Failure::failed(format!("no image in {directory} matches --only {only}")));
    }
    if parts.is_empty() {
        return Ok(());
    }
    let source = match adopted.partly_moved {
        0 => "their source is unchanged".to_owned(),
        partly => format!("the source of {} is no longer whole", count(partly, "image")),
    };
    Err(Failure::failed(format!("{}, see above; {source}", parts.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(outcome: ImageState, reason: Option<&str>) -> AdoptedImage {
        AdoptedImage {
            names: "team/app:1".into(),
            repository: "team/app".into(),
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            tags: Vec::new(),
            outcome,
            reason: reason.map(str::to_owned),
            bytes: 3 << 20,
        }
    }

    #[test]
    fn each_image_has_a_line() {
        let adopted = format!("adopted   team/app:1 {}", size(3 << 20));
        assert_eq!(line(&image(ImageState::Adopted, None)), adopted);
        assert_eq!(line(&image(ImageState::Refused, Some("x"))), "refused   team/app:1: x");
    }

    #[test]
    fn anything_that_was_not_adopted_is_a_failure() {
        let options = Options {
            directory: "old".into(),
            moves: true,
            only: vec!["nosuch".into()],
            prefix: String::new(),
            dry_run: false,
            json: false,
        };
        let conclusion = |adopted: &Adopted| conclusion(adopted, &options);
        let failed = conclusion(&Adopted::default()).unwrap_err();
        assert_eq!(failed.line, "no image in old matches --only nosuch");
        let adopted = Adopted { images: 3, adopted: 3, ..Adopted::default() };
        assert!(conclusion(&adopted).is_ok());
        let failed = conclusion(&Adopted { adopted: 2, failed: 1, ..adopted }).unwrap_err();
        assert_eq!(failed.line, "1 image not adopted, see above; their source is unchanged");
        let partly = Adopted { images: 3, adopted: 2, failed: 1, partly_moved: 1, ..Adopted::default() };
        let failed = conclusion(&partly).unwrap_err();
        assert!(failed.line.ends_with("the source of 1 image is no longer whole"), "{}", failed.line);
        let stopped = Some(SinkError::Full("no space".into()));
        let failed =
            conclusion(&Adopted { images: 3, adopted: 1, stopped, ..Adopted::default() }).unwrap_err();
        assert_eq!(failed.line, "no space; 2 images left, run the command again to continue");
    }

    #[test]
    fn counts_that_are_zero_are_left_out() {
        let present = Adopted { images: 2, adopted: 2, present: 2, ..Adopted::default() };
        assert_eq!(counts(&present, false), "2 present, 0 adopted\n");
        let some = Adopted { images: 3, failed: 1, present: 1, ..present };
        assert_eq!(
            counts(&some, false),
            format!("adopted 1 of 3 images ({}), 1 present, 1 not adopted\n", size(0))
        );
    }
}
