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
use super::job_report::{amount, number, text, text as text_of, waits_for};
use super::owner::{Access, Client, Event, Invocation, RequestError, with_owner};
use super::{Failure, print};
use crate::base::human::printable;
use crate::config::Config;
use crate::control::Detail;

/// The maximum number of images that a line names.
const SHOWN: usize = 10;

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
    to_push: ToPush,
    /// True if this command has opened the store, because no daemon runs.
    owns_store: bool,
}

/// Runs a check and prints its report; fails if there are faults.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let rate = options.rate.as_deref().map(|rate| crate::config::bytes("--rate", rate));
    rate.transpose().map_err(Failure::misuse)?;
    let Checked { report, faults, to_push, .. } = check_and_repair(options, config, invocation)?;
    if options.json {
        let mut text = report.clone();
        text["list"] = faults.into();
        print(&format!("{text:#}\n"))?;
    } else {
        print(&summary(&report))?;
    }
    match conclusion(&report, &to_push, options.repair) {
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
fn conclusion(report: &Value, to_push: &ToPush, repair: bool) -> Option<String> {
    let [all, of_index, of_layout, repaired, set_aside] =
        ["faults", "index_faults", "layout_faults", "repaired", "set_aside"]
            .map(|field| number(report, field));
    let faults = count(all, "fault");
    let next = match (all, of_index) {
        (0, _) => return None,
        (_, 0) if all == of_layout => match repaired {
            0 => "`holdfast check --repair` rewrites index.json from the index".to_owned(),
            _ => "index.json was rewritten from the index".to_owned(),
        },
        (_, 0) if repair => {
            let done = [(repaired, "repaired"), (set_aside, "set aside")]
                .into_iter()
                .filter(|(number, _)| *number > 0);
            let done: Vec<String> = done.map(|(number, verb)| format!("{number} {verb}")).collect();
            let done = if done.is_empty() { String::new() } else { format!("{}; ", done.join(", ")) };
            format!("{done}{}", to_push.advice())
        }
        (_, 0) if to_push.needs_repair => format!("run `holdfast check --repair`, then {}", to_push.advice()),
        (_, 0) => to_push.advice(),
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
    let (mut faults, mut to_push) = (Vec::new(), ToPush::default());
    let mut bar = Bar { shown: None, terminal: std::io::stderr().is_terminal() };
    let mut observe = |event| match event {
        Event::Progress(progress) => bar.show(&progress),
        Event::Item(mut item) => {
            to_push.add(&item);
            if options.json {
                faults.push(fault_with_images(&mut item));
                return;
            }
            bar.clear();
            // A closed pipe must not stop the check.
            let _ = writeln!(std::io::stdout(), "{}{}", line(&item["fault"]), suffix(&item));
        }
    };
    let checked = client.stream(Method::POST, &format!("jobs/{CHECK}"), Some(&wanted), &mut observe).await;
    bar.clear();
    let report = checked?.remove("report").unwrap_or_default();
    Ok(Checked { report, faults, to_push, owns_store: client.owns_store() })
}

/// Returns a fault for the JSON output, with the images that it concerns.
fn fault_with_images(item: &mut Value) -> Value {
    let mut fault = item["fault"].take();
    for field in ["outcome", "images"] {
        if !item[field].is_null() {
            fault[field] = item[field].take();
        }
    }
    fault
}

/// Returns the names of the images that an item concerns.
fn images(item: &Value) -> impl Iterator<Item = &str> {
    item["images"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Formats the images that a fault concerns, and its state after a repair.
fn suffix(item: &Value) -> String {
    let mut text = String::new();
    let names: Vec<String> = images(item).take(SHOWN).map(printable).collect();
    if !names.is_empty() {
        let more =
            if images(item).count() > SHOWN || item["more_images"] == true { " and others" } else { "" };
        text += &format!("; needed by {}{more}", names.join(", "));
    }
    match (text_of(item, "outcome"), text_of(&item["fault"], "kind")) {
        ("repaired", _) => text += " (repaired)",
        // There is no file to set aside.
        ("set-aside", "missing") => text += " (waits for the next push)",
        ("set-aside", _) => text += " (set aside in damaged/)",
        _ => {}
    }
    text
}

/// The images that clients have to push, so that all faults heal.
#[derive(Default)]
struct ToPush {
    names: Vec<String>,
    has_more: bool,
    /// True if a repair has to come first.
    needs_repair: bool,
}

impl ToPush {
    /// Adds what a fault needs: one of its images, or each of them.
    fn add(&mut self, item: &Value) {
        match text_of(item, "outcome") {
            "repaired" => return,
            "found" => self.needs_repair = true,
            _ => {}
        }
        let push_each = item["push_each"] == true;
        if !push_each && images(item).any(|image| self.names.iter().any(|name| name == image)) {
            return;
        }
        let needed = images(item).take(if push_each { usize::MAX } else { 1 });
        for name in needed {
            if self.names.iter().any(|known| known == name) {
                continue;
            }
            if self.names.len() == SHOWN {
                self.has_more = true;
                return;
            }
            self.names.push(name.to_owned());
        }
    }

    /// Returns what to do, as the end of a sentence.
    fn advice(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| printable(name)).collect();
        match names.as_slice() {
            [] => "no image needs this content".to_owned(),
            [one] if !self.has_more => format!("push {one} again, which heals all of them"),
            names if self.has_more => format!("push {} and the others named above again", names.join(", ")),
            names => format!("push {} again, which heals all of them", names.join(", ")),
        }
    }
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
    use serde_json::json;

    use super::{ToPush, suffix};
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
        let mut to_push = ToPush::default();
        let outcome = if repair { "set-aside" } else { "found" };
        to_push.add(&json!({ "outcome": outcome, "images": ["a:1", "b:1"] }));
        to_push.add(&json!({ "outcome": outcome, "images": ["a:1"] }));
        super::conclusion(&serde_json::to_value(report).unwrap(), &to_push, repair)
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
        says(&corrupt, false, "2 faults; run `holdfast check --repair`, then push a:1 again, which heals");
        says(
            &CheckReport { repaired: 1, set_aside: 1, ..corrupt },
            true,
            "1 repaired, 1 set aside; push a:1 again",
        );
        says(&CheckReport { index_faults: 1, ..corrupt }, false, "stop the daemon");
        let layout = CheckReport { faults: 1, layout_faults: 1, ..healthy };
        says(&layout, false, "`holdfast check --repair` rewrites index.json");
        says(&CheckReport { repaired: 1, ..layout }, true, "index.json was rewritten");
    }

    #[test]
    fn one_image_is_enough_for_a_layer_and_each_for_a_manifest() {
        let mut to_push = ToPush::default();
        to_push.add(&json!({ "outcome": "repaired", "images": ["z:1"] }));
        assert_eq!(to_push.advice(), "no image needs this content");
        to_push.add(&json!({ "outcome": "need-push", "images": ["a:1", "a:2"] }));
        assert_eq!(to_push.advice(), "push a:1 again, which heals all of them");
        to_push.add(&json!({ "outcome": "set-aside", "images": ["a:1", "b:1"], "push_each": true }));
        assert_eq!(to_push.advice(), "push a:1, b:1 again, which heals all of them");
        assert!(!to_push.needs_repair);
        for number in 0..20 {
            to_push.add(&json!({ "outcome": "found", "images": [format!("c:{number}")] }));
        }
        assert!(to_push.advice().ends_with("and the others named above again") && to_push.needs_repair);
    }

    #[test]
    fn a_blob_that_was_set_aside_is_not_called_repaired() {
        let item = |outcome: &str, kind: &str| {
            suffix(&json!({ "outcome": outcome, "images": ["a:1"], "fault": { "kind": kind } }))
        };
        assert_eq!(item("set-aside", "rotten"), "; needed by a:1 (set aside in damaged/)");
        assert_eq!(item("set-aside", "missing"), "; needed by a:1 (waits for the next push)");
        assert_eq!(item("repaired", "incomplete"), "; needed by a:1 (repaired)");
        assert_eq!(item("found", "rotten"), "; needed by a:1");
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
