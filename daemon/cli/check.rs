//! `holdfast check`: a check of the data directory, beside a running daemon or without one.
//!
//! Exits with 1 if there are faults, also after a repair: clients have to push the repaired content again.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::format::{amount, count, size};
use super::{Failure, print, runtime, store_settings};
use crate::config::Config;
use crate::store::{
    self, CheckEvent, CheckOptions, CheckProgress, CheckReport, Fault, Role, Store, StoreError,
};

/// Interval between updates of the progress line.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Options {
    /// Maximum number of bytes to read per second, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Move corrupt blobs aside so that the next push replaces them, rewrite a damaged index.json from the index and, while
    /// no daemon runs, rebuild a damaged index
    #[arg(long)]
    repair: bool,
    /// Rebuild the index from index.json and the blobs before the check; no daemon may run
    #[arg(long)]
    rebuild: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a check and prints its report; fails if there are faults.
pub(super) fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let rate = options.rate.as_deref().map(|rate| crate::config::bytes("--rate", rate));
    let rate = rate.transpose().map_err(Failure::misuse)?;
    super::privileges::enter(config)?;
    // A rebuild logs the names that it drops, and where it keeps the previous index.
    let _log = crate::service::start_logging(log::LevelFilter::Warn).map_err(Failure::failed)?;
    let runtime = runtime()?;
    let how = CheckOptions { rate, repair: options.repair };
    let (checked, faults) = runtime.block_on(check_and_repair(config, how, options))?;
    if options.json {
        let mut text = serde_json::to_value(checked).map_err(Failure::failed)?;
        text["list"] = serde_json::to_value(&faults).map_err(Failure::failed)?;
        print(&format!("{text:#}\n"))?;
    } else {
        print(&summary(&checked))?;
    }
    match conclusion(&checked, options.repair) {
        Some(conclusion) => Err(Failure::failed(conclusion)),
        None => Ok(()),
    }
}

/// Runs a check, and a second one after a repair has rebuilt a damaged index.
async fn check_and_repair(
    config: &Config,
    how: CheckOptions,
    options: &Options,
) -> Result<(CheckReport, Vec<Fault>), Failure> {
    if options.repair || options.rebuild {
        match super::recover_offline(config).await {
            // The rebuild replaces the index anyway.
            Err(error) if options.rebuild => log::warn!("{error}"),
            in_order => drop(in_order.map_err(Failure::failed)?),
        }
    }
    let role = if options.rebuild { Role::Rebuild } else { Role::Command };
    let may_rebuild = || options.repair && !store::daemon_runs(&config.storage.path);
    let (checked, faults) = match check(config, how, role, options.json).await {
        // The failed check has marked the index as damaged, so that it is inspected now, and rebuilt.
        Err(StoreError::Index(error)) if may_rebuild() => {
            log::warn!("the index is damaged ({error})");
            super::recover_offline(config).await.map_err(Failure::failed)?;
            check(config, how, Role::Command, options.json).await.map_err(failed)?
        }
        first => first.map_err(failed)?,
    };
    if checked.index_faults > 0 && may_rebuild() {
        log::warn!("the index contradicts itself; rebuilding it");
        return check(config, how, Role::Rebuild, options.json).await.map_err(failed);
    }
    Ok((checked, faults))
}

/// Returns the number of faults and what the operator does next; `None` if there are no faults.
fn conclusion(checked: &CheckReport, repair: bool) -> Option<String> {
    let faults = count(checked.faults, "fault");
    let next = match (checked.faults, checked.index_faults) {
        (0, _) => return None,
        (all, 0) if all == checked.layout_faults => match checked.repaired {
            0 => "`holdfast check --repair` rewrites index.json from the index".to_owned(),
            _ => "index.json was rewritten from the index".to_owned(),
        },
        (_, 0) if repair => {
            format!("{} of them repaired; push the images named above again", checked.repaired)
        }
        (_, 0) => "run `holdfast check --repair`, then push these images again".to_owned(),
        _ => "the index contradicts itself: stop the daemon and run `holdfast check --repair`".to_owned(),
    };
    Some(format!("{faults}; {next}"))
}

fn failed(error: StoreError) -> Failure {
    Failure::failed(match error {
        StoreError::Index(error) => {
            format!("{error}; stop the daemon and run `holdfast check --repair`, which rebuilds the index")
        }
        error => error.to_string(),
    })
}

async fn check(
    config: &Config,
    how: CheckOptions,
    role: Role,
    json: bool,
) -> Result<(CheckReport, Vec<Fault>), StoreError> {
    let store = Store::open(store_settings(config), role).await?;
    let mut faults = Vec::new();
    let mut bar = Bar { shown: None, terminal: std::io::stderr().is_terminal() };
    let mut observe = |event| match event {
        CheckEvent::Progress(progress) => bar.show(progress),
        CheckEvent::Fault(fault, _) if json => faults.push(fault),
        CheckEvent::Fault(fault, repaired) => {
            bar.clear();
            let suffix = if repaired { " (repaired)" } else { "" };
            // A closed pipe must not stop the check.
            let _ = writeln!(std::io::stdout(), "{}{suffix}", line(&fault));
        }
    };
    let checked = store.check(how, &mut observe).await;
    bar.clear();
    let closed = store.close().await;
    let checked = checked?;
    closed?;
    Ok((checked, faults))
}

/// Progress line on stderr, shown only on a terminal.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    fn show(&mut self, CheckProgress { done, all }: CheckProgress) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            let text = format!("{} of {}", done.count, amount(all, "blob"));
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}, {} read", size(done.bytes));
        }
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(fault: &Fault) -> String {
    match fault {
        Fault::Missing { digest } => format!("missing      {digest}"),
        Fault::Length { digest, indexed, actual } => {
            format!("length       {digest}: {indexed} bytes in the index, {actual} bytes in the file")
        }
        Fault::Corrupt { digest, actual } => {
            format!("corrupt      {digest}: the content has the digest {actual}")
        }
        Fault::Unreadable { digest, error } => format!("unreadable   {digest}: {error}"),
        Fault::MalformedManifest { repository, digest } => format!("no manifest  {repository}@{digest}"),
        Fault::Incomplete { repository, digest, missing } => {
            format!("incomplete   {repository}@{digest}: {missing} is missing")
        }
        Fault::Miscounted { repository } => {
            format!("miscounted   {repository}: the index has a wrong number of tags, manifests or bytes")
        }
        Fault::Index => "index        rows are missing or contradict each other".to_owned(),
        Fault::Layout { problem } => format!("index.json   {problem}"),
        Fault::Dangling { repository, tag, digest } => {
            format!("dangling     {repository}:{tag}: {digest} does not exist")
        }
    }
}

fn summary(checked: &CheckReport) -> String {
    let mut text = format!(
        "checked {}, {} and {}: {}\n",
        amount(checked.blobs, "blob"),
        count(checked.manifests, "manifest"),
        count(checked.tags, "tag"),
        count(checked.faults, "fault")
    );
    if checked.unknown_files > 0 {
        let files = count(checked.unknown_files, "file");
        text += &format!("{files} not in the index; the next collection adds them\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher, RepositoryName};

    #[test]
    fn each_fault_has_a_line_that_names_its_object() {
        let digest = Hasher::digest(Algorithm::Sha256, b"x");
        let (repository, actual): (RepositoryName, _) = ("a/b".parse().unwrap(), digest.clone());
        let (tag, missing) = ("1".parse().unwrap(), digest.clone());
        let of_repository = || (repository.clone(), digest.clone());
        let (name, manifest) = of_repository();
        let faults = [
            (Fault::Missing { digest: digest.clone() }, "missing      "),
            (Fault::Length { digest: digest.clone(), indexed: 1, actual: 2 }, "length       "),
            (Fault::Corrupt { digest: digest.clone(), actual }, "corrupt      "),
            (Fault::Unreadable { digest: digest.clone(), error: "EIO".into() }, "unreadable   "),
            (
                Fault::MalformedManifest { repository: name.clone(), digest: manifest.clone() },
                "no manifest  a/b@",
            ),
            (Fault::Incomplete { repository: name.clone(), digest: manifest, missing }, "incomplete   a/b@"),
            (Fault::Dangling { repository: name, tag, digest: digest.clone() }, "dangling     a/b:1: "),
        ];
        for (fault, beginning) in faults {
            let line = line(&fault);
            assert!(line.starts_with(beginning) && line.contains(&digest.to_string()), "{line}");
        }
        assert!(line(&Fault::Miscounted { repository }).starts_with("miscounted   a/b: "));
        assert!(line(&Fault::Index).starts_with("index        "));
        assert_eq!(line(&Fault::Layout { problem: "damaged".into() }), "index.json   damaged");
    }

    #[test]
    fn the_conclusion_says_what_to_do_next() {
        let healthy = CheckReport::default();
        assert_eq!(conclusion(&healthy, false), None);
        let says = |checked: &CheckReport, repair, words: &str| {
            let conclusion = conclusion(checked, repair).unwrap();
            assert!(conclusion.contains(words), "{conclusion}");
        };
        let corrupt = CheckReport { faults: 2, ..healthy };
        says(&corrupt, false, "2 faults; run `holdfast check --repair`");
        says(&CheckReport { repaired: 1, ..corrupt }, true, "1 of them repaired; push the images");
        says(&CheckReport { index_faults: 1, ..corrupt }, false, "stop the daemon");
        let layout = CheckReport { faults: 1, layout_faults: 1, ..healthy };
        says(&layout, false, "`holdfast check --repair` rewrites index.json");
        says(&CheckReport { repaired: 1, ..layout }, true, "index.json was rewritten");
    }

    #[test]
    fn unknown_files_are_mentioned_only_if_there_are_any() {
        assert_eq!(
            summary(&CheckReport::default()),
            "checked 0 blobs (0 B), 0 manifests and 0 tags: 0 faults\n"
        );
        let unknown = CheckReport { unknown_files: 2, ..CheckReport::default() };
        assert!(summary(&unknown).ends_with("\n2 files not in the index; the next collection adds them\n"));
    }
}
