//! `holdfast check`: a check of the data directory, by the daemon or without one.
//!
//! Exits with 1 if there are faults, also after a repair: clients have to push the repaired content again.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::background::{CHECK, DAMAGED_INDEX};
use super::format::{count, size};
use super::job_report::{amount, number, text, waits_for};
use super::owner::{Access, Client, Event, Invocation, RequestError, with_owner};
use super::{Failure, print};
use crate::config::Config;
use crate::control::Detail;

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

/// The report of a check.
struct Checked {
    report: Value,
    faults: Vec<Value>,
    /// True if this command has opened the store, because no daemon runs.
    owns_store: bool,
}

/// Runs a check and prints its report; fails if there are faults.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let rate = options.rate.as_deref().map(|rate| crate::config::bytes("--rate", rate));
    rate.transpose().map_err(Failure::misuse)?;
    let Checked { report, faults, .. } = check_and_repair(options, config, invocation)?;
    if options.json {
        let mut text = report.clone();
        text["list"] = faults.into();
        print(&format!("{text:#}\n"))?;
    } else {
        print(&summary(&report))?;
    }
    match conclusion(&report, options.repair) {
        Some(conclusion) => Err(Failure::failed(conclusion)),
        None => Ok(()),
    }
}

/// Runs a check, and a second one after a repair has rebuilt a damaged index.
fn check_and_repair(options: &Options, config: &Config, invocation: &Invocation) -> Result<Checked, Failure> {
    let check = |access| {
        with_owner(config, invocation, access, async |client| {
            let owns_store = client.owns_store();
            Ok((check(client, options).await, owns_store))
        })
    };
    let first = check(if options.rebuild { Access::Rebuild } else { Access::Any })?;
    let checked = match first {
        // The failed check has marked the index as damaged, so that the next owner inspects it, and rebuilds it.
        (Err(RequestError::Refused(detail)), true) if options.repair && detail.code == DAMAGED_INDEX => {
            print_warning(&format!("the index is damaged ({})", detail.message));
            check(Access::Any)?.0.map_err(failed)?
        }
        (first, _) => first.map_err(failed)?,
    };
    if number(&checked.report, "index_faults") > 0 && options.repair && checked.owns_store {
        print_warning("the index contradicts itself; rebuilding it");
        return check(Access::Rebuild)?.0.map_err(failed);
    }
    Ok(checked)
}

fn print_warning(text: &str) {
    // A closed stderr cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "WARN  {text}");
}

/// Returns the number of faults and what the operator does next; `None` if there are no faults.
fn conclusion(report: &Value, repair: bool) -> Option<String> {
    let [all, of_index, of_layout, repaired] =
        ["faults", "index_faults", "layout_faults", "repaired"].map(|field| number(report, field));
    let faults = count(all, "fault");
    let next = match (all, of_index) {
        (0, _) => return None,
        (_, 0) if all == of_layout => match repaired {
            0 => "`holdfast check --repair` rewrites index.json from the index".to_owned(),
            _ => "index.json was rewritten from the index".to_owned(),
        },
        (_, 0) if repair => {
            format!("{repaired} of them repaired; push the images named above again")
        }
        (_, 0) => "run `holdfast check --repair`, then push these images again".to_owned(),
        _ => "the index contradicts itself: stop the daemon and run `holdfast check --repair`".to_owned(),
    };
    Some(format!("{faults}; {next}"))
}

fn failed(error: RequestError) -> Failure {
    match error {
        RequestError::Refused(Detail { code, message, .. }) if code == DAMAGED_INDEX => Failure::failed(
            format!("{message}; stop the daemon and run `holdfast check --repair`, which rebuilds the index"),
        ),
        error => error.into(),
    }
}

async fn check(client: &mut Client, options: &Options) -> Result<Checked, RequestError> {
    let mut wanted = json!({ "repair": options.repair, "leave_layout": !options.repair });
    if let Some(rate) = &options.rate {
        wanted["rate"] = rate.as_str().into();
    }
    let mut faults = Vec::new();
    let mut bar = Bar { shown: None, terminal: std::io::stderr().is_terminal() };
    let mut observe = |event| match event {
        Event::Progress(progress) => bar.show(&progress),
        Event::Item(mut item) if options.json => faults.push(item["fault"].take()),
        Event::Item(item) => {
            bar.clear();
            let suffix = if item["repaired"] == true { " (repaired)" } else { "" };
            // A closed pipe must not stop the check.
            let _ = writeln!(std::io::stdout(), "{}{suffix}", line(&item["fault"]));
        }
    };
    let checked = client.stream(Method::POST, &format!("jobs/{CHECK}"), Some(&wanted), &mut observe).await;
    bar.clear();
    let report = checked?.remove("report").unwrap_or_default();
    Ok(Checked { report, faults, owns_store: client.owns_store() })
}

/// Progress line on stderr, shown only on a terminal.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    fn show(&mut self, progress: &Value) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            let text =
                waits_for(progress).map_or_else(|| done(progress), |jobs| format!("waiting for {jobs}"));
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn done(progress: &Value) -> String {
    let all =
        format!("{} ({})", count(number(progress, "items_all"), "blob"), size(number(progress, "bytes_all")));
    format!("{} of {all}, {} read", number(progress, "items_done"), size(number(progress, "bytes_done")))
}

/// Formats a fault.
fn line(fault: &Value) -> String {
    let (repository, digest) = (text(fault, "repository"), text(fault, "digest"));
    match text(fault, "kind") {
        "missing" => format!("missing      {digest}"),
        "length" => format!(
            "length       {digest}: {} bytes in the index, {} bytes in the file",
            number(fault, "indexed"),
            number(fault, "actual")
        ),
        // The name of earlier releases.
        "rotten" => format!("corrupt      {digest}: the content has the digest {}", text(fault, "actual")),
        "unreadable" => format!("unreadable   {digest}: {}", text(fault, "error")),
        "no-manifest" => format!("no manifest  {repository}@{digest}"),
        "incomplete" => format!("incomplete   {repository}@{digest}: {} is missing", text(fault, "missing")),
        "miscounted" => {
            format!("miscounted   {repository}: the index has a wrong number of tags, manifests or bytes")
        }
        "index" => "index        rows are missing or contradict each other".to_owned(),
        "layout" => format!("index.json   {}", text(fault, "problem")),
        "dangling" => format!("dangling     {repository}:{}: {digest} does not exist", text(fault, "tag")),
        _ => format!("unknown      {fault}"),
    }
}

fn summary(report: &Value) -> String {
    let mut text = format!(
        "checked {}, {} and {}: {}\n",
        amount(report, "blobs", "blob"),
        count(number(report, "manifests"), "manifest"),
        count(number(report, "tags"), "tag"),
        count(number(report, "faults"), "fault")
    );
    if number(report, "unknown_files") > 0 {
        let files = count(number(report, "unknown_files"), "file");
        text += &format!("{files} not in the index; the next collection adds them\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::oci::{Algorithm, Hasher, RepositoryName};
    use crate::store::{CheckReport, Fault};

    /// Formats a fault as the daemon sends it.
    fn line(fault: &Fault) -> String {
        super::line(&serde_json::to_value(fault).unwrap())
    }

    fn summary(report: &CheckReport) -> String {
        super::summary(&serde_json::to_value(report).unwrap())
    }

    fn conclusion(report: &CheckReport, repair: bool) -> Option<String> {
        super::conclusion(&serde_json::to_value(report).unwrap(), repair)
    }

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
