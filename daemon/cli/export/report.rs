//! The output of an export: tables for people, a JSON object in each line for programs.

use std::io::Write;

use serde_json::json;

use super::super::failure::Failure;
use super::super::format::{columns, count, short_digest, size};
use super::super::output::{event_line as line, print, remark};
use super::super::progress::ProgressPrinter;
use super::target::{Kind, Target};
use crate::base::human::printable_lines;
use crate::oci::Digest;
use crate::transfer::Progress;
use crate::transfer::export::{Exclusion, ExportPlan, Walk, Written};

/// Prints progress and results.
pub(super) struct Report {
    json: bool,
    /// True if standard output has the archive.
    pipe: bool,
}

/// The result of an export.
pub(super) struct Outcome {
    images: Vec<(String, Digest)>,
    excluded: Vec<Exclusion>,
    missing: Vec<String>,
    blobs: u64,
    bytes: u64,
    left_out: (u64, u64),
    cut: u64,
    /// The files, and the path of a file or directory; `None` for a dry run.
    written: Option<(Written, Vec<String>, Option<String>)>,
}

impl Outcome {
    pub(super) fn planned(walk: &Walk, plan: &ExportPlan) -> Self {
        Outcome {
            images: plan.images.clone(),
            excluded: plan.excluded.clone(),
            missing: walk.missing.clone(),
            blobs: plan.blobs,
            bytes: plan.bytes,
            left_out: plan.left_out,
            cut: plan.cut,
            written: None,
        }
    }

    pub(super) fn written(walk: &Walk, plan: &ExportPlan, written: Written, target: &Target) -> Self {
        let files = match &target.kind {
            Kind::Directory(path) => vec![path.display().to_string()],
            Kind::Archive { folder, .. } => {
                written.files.iter().map(|name| folder.join(name).display().to_string()).collect()
            }
            Kind::Pipe => vec!["standard output".into()],
        };
        let path = match &target.kind {
            Kind::Directory(path) => Some(path.clone()),
            Kind::Archive { folder, name } => Some(folder.join(name)),
            Kind::Pipe => None,
        };
        let path = path.map(|path| path.display().to_string());
        Outcome { written: Some((written, files, path)), ..Outcome::planned(walk, plan) }
    }

    fn is_whole(&self) -> bool {
        self.excluded.is_empty() && self.missing.is_empty()
    }
}

impl Report {
    pub(super) fn new(json: bool, pipe: bool) -> Self {
        Report { json, pipe }
    }

    /// Returns the observer of the writing thread.
    pub(super) fn observer(&self) -> impl FnMut(&Progress) + Send + 'static {
        let printer = ProgressPrinter::new(self.json);
        move |progress| printer.show(progress)
    }

    /// Removes the line of progress.
    pub(super) fn end_progress(&self) {
        ProgressPrinter::new(self.json).clear();
    }

    /// Names the inventories that were considered.
    pub(super) fn sources(&self, sources: &[String]) {
        for source in sources {
            self.note(&format!("leaves out the content that {source} lists"));
        }
    }

    /// Names content that is damaged; the export begins again without its images.
    pub(super) fn damaged(&self, digest: &Digest, why: &str) {
        self.note(&format!("{digest} cannot be read ({why}); its images are left out"));
    }

    fn note(&self, text: &str) {
        if !self.json {
            remark(text);
        }
    }

    /// Prints the files of a dry run.
    pub(super) fn plan(&self, plan: &ExportPlan) {
        let result = if self.json {
            let file = |(path, size): (&str, u64)| line("item", json!({ "file": path, "size": size }));
            print(&plan.files().map(file).collect::<String>())
        } else {
            let row = |(path, length): (&str, u64)| vec![path.to_owned(), size(length)];
            self.print(&columns(&["FILE", "SIZE"], plan.files().map(row)))
        };
        // A closed output ends the command with the next line.
        drop(result);
    }

    /// Prints text for people; to stderr if stdout has the archive.
    fn print(&self, text: &str) -> Result<(), Failure> {
        if self.pipe {
            let _ = write!(std::io::stderr(), "{}", printable_lines(text));
            return Ok(());
        }
        print(text)
    }

    /// Prints the result; images that are not exported make it a failure.
    pub(super) fn end(&self, ended: Result<Outcome, Failure>) -> Result<(), Failure> {
        if self.json {
            return end_json(ended);
        }
        let outcome = ended?;
        self.print(&text(&outcome))?;
        for Exclusion { image, reason } in &outcome.excluded {
            self.note(&format!("not exported: {image}: {reason}"));
        }
        for missing in &outcome.missing {
            self.note(missing);
        }
        if outcome.is_whole() { Ok(()) } else { Err(Failure { code: 1, line: incomplete(&outcome) }) }
    }
}

fn incomplete(outcome: &Outcome) -> String {
    let images = outcome.excluded.len() + outcome.missing.len();
    format!("{} not exported, see above; everything else is", count(images, "name"))
}

fn end_json(ended: Result<Outcome, Failure>) -> Result<(), Failure> {
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(failure) => {
            print(&line("done", json!({ "outcome": "failed", "message": failure.line })))?;
            return Err(failure);
        }
    };
    let mut text = String::new();
    for (image, digest) in &outcome.images {
        text += &line("item", json!({ "image": image, "digest": digest, "outcome": "exported" }));
    }
    for Exclusion { image, reason } in &outcome.excluded {
        text += &line("item", json!({ "image": image, "outcome": "refused", "reason": reason }));
    }
    for reason in &outcome.missing {
        text += &line("item", json!({ "outcome": "missing", "reason": reason }));
    }
    let (left_out, left_out_bytes) = outcome.left_out;
    let mut done = json!({
        "outcome": if outcome.is_whole() { "ok" } else { "incomplete" },
        "images": outcome.images.len(), "blobs": outcome.blobs, "bytes": outcome.bytes,
        "left_out": { "count": left_out, "bytes": left_out_bytes },
    });
    if let Some((written, files, _)) = &outcome.written {
        done["files"] = json!(files);
        done["written"] = written.written.into();
        done["kept"] = written.kept.into();
        done["verified"] = written.verified.into();
    }
    text += &line("done", done);
    print(&text)?;
    if outcome.is_whole() { Ok(()) } else { Err(Failure { code: 1, line: incomplete(&outcome) }) }
}

fn text(outcome: &Outcome) -> String {
    let row = |(image, digest): &(String, Digest)| vec![image.clone(), short_digest(&digest.to_string())];
    let mut text = columns(&["IMAGE", "DIGEST"], outcome.images.iter().map(row));
    let images = count(outcome.images.len(), "image");
    let content = format!("{images}, {} ({})", count(outcome.blobs, "blob"), size(outcome.bytes));
    let Some((written, files, path)) = &outcome.written else {
        text += &format!("would export {content}\n");
        return text + &left_out(outcome);
    };
    let place = match files.as_slice() {
        [first, .., last] => format!("{first} … {last} ({} parts)", files.len()),
        [file] => file.clone(),
        [] => String::new(),
    };
    text += &format!("exported {content} to {place}\n");
    text += &left_out(outcome);
    if outcome.cut > 0 {
        text += &format!(
            "cut into parts: {}, which only holdfast import reads; a tar works for other tools as well\n",
            count(outcome.cut, "blob")
        );
    }
    if written.kept > 0 {
        text += &format!("already there: {}\n", size(written.kept));
    }
    if let Some(path) = path {
        text += &done(path, outcome.is_whole(), written.verified);
    }
    text
}

/// Formats the last line: from here on the medium can be unplugged.
fn done(path: &str, is_whole: bool, verified: bool) -> String {
    let state = if is_whole { "is complete" } else { "lacks the images named below" };
    let verified = if verified { "was read back" } else { "was not read back" };
    format!("done: {path} {state} and {verified}; the medium can be unplugged\n")
}

fn left_out(outcome: &Outcome) -> String {
    match outcome.left_out {
        (0, _) => String::new(),
        (blobs, bytes) => format!("left out: {} ({})\n", count(blobs, "blob"), size(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_says_that_the_medium_can_be_unplugged() {
        let end = "the medium can be unplugged\n";
        assert_eq!(
            done("./a.tar", true, true),
            format!("done: ./a.tar is complete and was read back; {end}")
        );
        assert_eq!(
            done("/media/usb", false, false),
            format!("done: /media/usb lacks the images named below and was not read back; {end}")
        );
    }
}
