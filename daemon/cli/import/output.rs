//! The output of an import: mapping, progress and table, or events as JSON.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::format::{columns, count, short_digest, size};
use super::super::output::{event_line, print, remark};
use super::super::progress::ProgressPrinter;
use crate::transfer::signature::AllowedSigners;
use crate::transfer::source::ExportFile;
use crate::transfer::{Observer, Outcome, Pace, Phase, Plan, Policy, Report, Row, SignedLists};

/// Missing content that is listed for an image.
const LISTED: usize = 3;

/// Prints what happens.
pub(super) struct Output {
    json: bool,
    signers: Option<AllowedSigners>,
    policy: Policy,
    pace: Pace,
    printer: ProgressPrinter,
}

impl Output {
    pub(super) fn new(json: bool, signers: Option<AllowedSigners>, policy: Policy) -> Self {
        Output { json, signers, policy, pace: Pace::new(Phase::Import), printer: ProgressPrinter::new(json) }
    }

    fn event(&self, kind: &str, value: Value) {
        if self.json {
            // A closed pipe must not stop the import.
            let _ = print(&event_line(kind, value));
        }
    }

    /// Prints a remark.
    pub(super) fn note(&mut self, text: &str) {
        if self.json {
            return self.event("note", json!({ "text": text }));
        }
        self.printer.clear();
        remark(text);
    }

    /// Prints the table at the end.
    pub(super) fn summary(&mut self, report: &Report, is_dry: bool) -> Result<(), Failure> {
        self.printer.clear();
        if self.json {
            let counts = |outcome| report.images.iter().filter(|row| row.outcome == outcome).count();
            self.event(
                "done",
                json!({
                    "taken": counts(Outcome::Taken), "present": counts(Outcome::Present),
                    "moved": counts(Outcome::Moved), "kept": counts(Outcome::Kept),
                    "missing": counts(Outcome::Missing), "refused": counts(Outcome::Refused),
                    "blobs": report.blobs, "bytes": report.bytes, "blobs_present": report.present,
                    "signer": report.signer,
                }),
            );
            return Ok(());
        }
        if is_dry {
            return print(&columns(&[], report.images.iter().map(|row| self.cells(row))));
        }
        let rows = report.images.iter().map(|row| self.cells(row));
        let mut text = columns(&["IMAGE", "RESULT", "DIGEST", ""], rows);
        if let Some(signer) = &report.signer {
            text += &format!("signed by {signer}\n");
        }
        text += &format!(
            "stored {} ({}); {} {} already there\n",
            count(report.blobs, "blob"),
            size(report.bytes),
            count(report.present, "blob"),
            if report.present == 1 { "was" } else { "were" }
        );
        print(&text)?;
        self.note_kept(report);
        Ok(())
    }

    /// Prints how many tags were kept. They are no failure.
    fn note_kept(&mut self, report: &Report) {
        let kept = report.images.iter().filter(|row| row.outcome == Outcome::Kept).count();
        let movable = report.images.iter().filter(|row| self.force_moves(row)).count();
        let tags = format!("{} kept", count(kept, "tag"));
        match movable {
            _ if kept == 0 => {}
            0 => self.note(&tags),
            1 if kept == 1 => self.note(&format!("{tags}; --force moves it")),
            _ if movable == kept => self.note(&format!("{tags}; --force moves them")),
            _ => self.note(&format!("{tags}; --force moves {movable} of them")),
        }
    }

    /// Returns true if the tag would have moved with `--force`. Immutable tags never do.
    fn force_moves(&self, row: &Row) -> bool {
        let is_immutable = row.reason.as_ref().is_some_and(|reason| reason.contains("immutable"));
        row.outcome == Outcome::Kept && !is_immutable && !self.policy.force && !self.policy.keep_existing
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let digest = row.digest.as_ref().map(|digest| short_digest(&digest.to_string()));
        let remark = self.remark(row);
        vec![row.name.clone(), row.outcome.as_str().into(), digest.unwrap_or_default(), remark]
    }

    fn remark(&self, row: &Row) -> String {
        if !row.missing.is_empty() {
            return lacks(row);
        }
        let mut remark = row.reason.clone().unwrap_or_default();
        if let Some(old) = &row.old {
            let old = short_digest(&old.to_string());
            let colon = if remark.is_empty() { "" } else { ": " };
            remark = match row.outcome {
                Outcome::Moved => format!("was {old}{colon}{remark}"),
                Outcome::Kept => format!("is {old}{colon}{remark}"),
                Outcome::Taken | Outcome::Present | Outcome::Missing | Outcome::Refused => remark,
            };
        }
        if self.force_moves(row) { remark + "; --force moves it" } else { remark }
    }
}

/// Names the content that an image lacks.
fn lacks(row: &Row) -> String {
    let item = |item: &crate::transfer::Item| match item.size {
        Some(bytes) => format!("{} ({})", item.digest, size(bytes)),
        None => item.digest.to_string(),
    };
    let listed: Vec<String> = row.missing.iter().take(LISTED).map(item).collect();
    let more = row.missing.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("lacks {}{more}", listed.join(", "))
}

impl Observer for Output {
    fn planned(&mut self, plan: &Plan, notes: &[String]) {
        for note in notes {
            self.note(note);
        }
        let mut rows = Vec::new();
        for target in &plan.targets {
            let names = target.names(target.digest());
            for (at, name) in names.iter().enumerate() {
                let source = target.sources.get(at).or(target.sources.last()).cloned().unwrap_or_default();
                rows.push((source, name.clone()));
            }
        }
        if self.json {
            let pairs: Vec<Value> =
                rows.iter().map(|(source, name)| json!({ "source": source, "name": name })).collect();
            return self.event("plan", json!({ "images": pairs }));
        }
        self.printer.clear();
        let arrow = |(source, name)| vec![source, "->".into(), name];
        // A closed pipe must not stop the import.
        let _ = print(&columns(&[], rows.into_iter().map(arrow)));
    }

    fn progress(&mut self, done: u64, total: Option<u64>) {
        if let Some(progress) = self.pace.due(done, total) {
            self.printer.show(&progress);
        }
    }

    fn row(&mut self, row: &Row) {
        if self.json {
            self.event("item", serde_json::to_value(row).unwrap_or_default());
        }
    }

    fn check(&mut self, exports: &[Option<&ExportFile>]) -> Result<Option<SignedLists>, String> {
        let Some(signers) = &self.signers else { return Ok(None) };
        let mut lists = SignedLists::default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map(|age| age.as_secs()).unwrap_or_default();
        for export in exports {
            let Some((export, signature)) =
                export.and_then(|export| Some((export, export.signature.as_deref()?)))
            else {
                return Err(
                    "the medium has no signature; only signed exports are imported with --signers".into()
                );
            };
            signers
                .verify(export.content.as_bytes(), signature, now)
                .map_err(|error| format!("the signature of the medium is not valid: {error}"))?;
            lists.add(export.content.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(Some(lists))
    }
}
