//! `holdfast check`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::format::{amount, count, size};
use super::{Failure, print, runtime, store_settings};
use crate::config::Config;
use crate::store::{self, CheckOptions, Checked, Event, Fault, Progress, Role, Store, StoreError};

/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Options {
    /// How much is read in a second at most, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Moves what is broken aside, so that the next push heals it, writes a damaged index.json again from the index, and
    /// while no daemon runs makes a broken index again
    #[arg(long)]
    repair: bool,
    /// Makes the index again from index.json and the blobs, before it checks; the daemon must not run
    #[arg(long)]
    rebuild: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Checks once, beside a running daemon or without one; fails where something is wrong.
pub(super) fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let rate = options.rate.as_deref().map(|rate| crate::config::bytes("--rate", rate));
    let rate = rate.transpose().map_err(Failure::misuse)?;
    super::privileges::enter(config)?;
    let how = CheckOptions { rate, repair: options.repair };
    // What a rebuild leaves out, and where the index that was there is kept, is in the log.
    let _log = crate::service::start_logging(log::LevelFilter::Warn).map_err(Failure::failed)?;
    let runtime = runtime()?;
    if options.repair || options.rebuild {
        match runtime.block_on(super::recover_offline(config)) {
            // The index is made again anyway.
            Err(error) if options.rebuild => log::warn!("{error}"),
            in_order => drop(in_order.map_err(Failure::failed)?),
        }
    }
    let role = if options.rebuild { Role::Rebuild } else { Role::Beside };
    let first = runtime.block_on(check(config, how, role, options.json));
    let (mut checked, mut faults) = match first {
        // It has left a note that the index is damaged: this time it is looked at, and made again.
        Err(StoreError::Index(error)) if options.repair && !store::daemon_runs(&config.storage.path) => {
            log::warn!("the index is damaged ({error})");
            runtime.block_on(super::recover_offline(config)).map_err(Failure::failed)?;
            runtime.block_on(check(config, how, Role::Beside, options.json)).map_err(failed)?
        }
        first => first.map_err(failed)?,
    };
    if checked.index_faults > 0 && options.repair && !store::daemon_runs(&config.storage.path) {
        log::warn!("the index contradicts itself; making it again");
        let again = runtime.block_on(check(config, how, Role::Rebuild, options.json));
        (checked, faults) = again.map_err(failed)?;
    }
    if options.json {
        let mut text = serde_json::to_value(checked).map_err(Failure::failed)?;
        text["list"] = serde_json::to_value(&faults).map_err(Failure::failed)?;
        print(&format!("{text:#}\n"))?;
    } else {
        print(&summary(&checked))?;
    }
    conclude(&checked, options.repair)
}

fn conclude(checked: &Checked, repair: bool) -> Result<(), Failure> {
    let faults = count(checked.faults, "fault");
    let next = match (checked.faults, checked.index_faults) {
        (0, _) => return Ok(()),
        (all, 0) if all == checked.layout_faults => match checked.repaired {
            0 => "`holdfast check --repair` writes index.json again from the index".to_owned(),
            _ => "index.json was written again from the index".to_owned(),
        },
        (_, 0) if repair => {
            format!("{} of them set aside or mended; push the images that are named again", checked.repaired)
        }
        (_, 0) => "`holdfast check --repair` lets the next push of these images heal them".to_owned(),
        _ => "the index contradicts itself: stop the daemon and run `holdfast check --repair`".to_owned(),
    };
    Err(Failure::failed(format!("{faults}; {next}")))
}

fn failed(error: StoreError) -> Failure {
    Failure::failed(match error {
        StoreError::Index(error) => {
            format!("{error}; stop the daemon and run `holdfast check --repair`, which makes the index again")
        }
        error => error.to_string(),
    })
}

async fn check(
    config: &Config,
    how: CheckOptions,
    role: Role,
    json: bool,
) -> Result<(Checked, Vec<Fault>), StoreError> {
    let store = Store::open(store_settings(config), role).await?;
    let mut faults = Vec::new();
    let mut bar = Bar { shown: None, terminal: std::io::stderr().is_terminal() };
    let mut observe = |event| match event {
        Event::Progress(progress) => bar.show(progress),
        Event::Fault(fault, _) if json => faults.push(fault),
        Event::Fault(fault, repaired) => {
            bar.clear();
            // A reader that has gone away does not stop the check.
            let _ =
                writeln!(std::io::stdout(), "{}{}", line(&fault), if repaired { " (mended)" } else { "" });
        }
    };
    let checked = store.check(how, &mut observe).await;
    bar.clear();
    let closed = store.close().await;
    let checked = checked?;
    closed?;
    Ok((checked, faults))
}

/// A line of progress, on a terminal.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    fn show(&mut self, Progress { done, all }: Progress) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= SHOWN_EVERY) {
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
            format!("length       {digest}: the index has {indexed} bytes, the file {actual}")
        }
        Fault::Rotten { digest, actual } => format!("rotten       {digest}: its content has {actual}"),
        Fault::Unreadable { digest, error } => format!("unreadable   {digest}: {error}"),
        Fault::NoManifest { repository, digest } => format!("no manifest  {repository}@{digest}"),
        Fault::Incomplete { repository, digest, missing } => {
            format!("incomplete   {repository}@{digest}: it needs {missing}")
        }
        Fault::Miscounted { repository } => {
            format!("miscounted   {repository}: its tags or its bytes are not as many as the index says")
        }
        Fault::Index => "index        rows are missing or do not agree".to_owned(),
        Fault::Layout { problem } => format!("index.json   {problem}"),
        Fault::Dangling { repository, tag, digest } => {
            format!("dangling     {repository}:{tag}: there is no {digest}")
        }
    }
}

fn summary(checked: &Checked) -> String {
    let mut text = format!(
        "checked {}, {} and {}: {}\n",
        amount(checked.blobs, "blob"),
        count(checked.manifests, "manifest"),
        count(checked.tags, "tag"),
        count(checked.faults, "fault")
    );
    if checked.unknown_files > 0 {
        let files = count(checked.unknown_files, "file");
        text += &format!("{files} not in the index; the next collection sees to that\n");
    }
    text
}
