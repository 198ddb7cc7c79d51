//! `holdfast jobs`: the background jobs: what ran, what runs, and what is due.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::format::{columns, count, size};
use super::job_report::{Waiting, number, text};
use super::output::json_text;
use super::owner::{Access, Client, Event, Invocation, with_owner};
use super::{Failure, print};
use crate::base::clock::unix_seconds;
use crate::base::human::{duration, printable};
use crate::config::Config;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Job to show, such as gc [default: all jobs]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Start a job, or join it while it runs, and show its progress; Ctrl-C cancels it
    Run {
        /// Job to run
        name: String,
        /// Do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// End a job at its next safe point
    Cancel {
        /// Job to cancel
        name: String,
    },
}

/// Lists jobs, shows one, or starts or cancels one.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let work = async |client: &mut Client| match &options.command {
        None => match &options.name {
            None => list(client, options.json).await,
            Some(name) => show(client, name, options.json).await,
        },
        Some(Command::Run { name, detach: true }) if !client.owns_store() => start(client, name).await,
        // Without a daemon, the job ends with this command.
        Some(Command::Run { name, detach: _ }) => follow(client, name).await,
        Some(Command::Cancel { name }) => cancel(client, name).await,
    };
    print(&with_owner(config, invocation, Access::Any, work)?)
}

async fn list(client: &mut Client, is_json: bool) -> Result<String, Failure> {
    let jobs = client.request(Method::GET, "jobs", None::<&()>).await?;
    if is_json {
        return Ok(json_text(&jobs));
    }
    let now = unix_seconds();
    let rows = jobs["jobs"].as_array().into_iter().flatten();
    let row = |job: &Value| {
        vec![
            text(job, "name").to_owned(),
            state(job),
            last(job, now),
            next(job, now),
            text(job, "last_text").to_owned(),
        ]
    };
    Ok(columns(&["JOB", "STATE", "LAST RUN", "NEXT RUN", "OUTCOME"], rows.map(row)))
}

async fn show(client: &mut Client, name: &str, is_json: bool) -> Result<String, Failure> {
    let job = client.request(Method::GET, &path(name)?, None::<&()>).await?;
    if is_json {
        return Ok(json_text(&job));
    }
    let now = unix_seconds();
    let mut rows = vec![("job", text(&job, "name").to_owned()), ("state", state(&job))];
    if !text(&job, "reason").is_empty() {
        rows.push(("reason", text(&job, "reason").to_owned()));
    }
    if let Some(seconds) = job["interval"].as_u64() {
        rows.push(("interval", duration(Duration::from_secs(seconds))));
    }
    rows.push(("next run", next(&job, now)));
    rows.push(("last run", last(&job, now)));
    if !text(&job, "last_text").is_empty() {
        rows.push(("outcome", text(&job, "last_text").to_owned()));
    }
    if number(&job, "failures") > 0 {
        rows.push(("failures", number(&job, "failures").to_string()));
    }
    if job["state"] == "running" {
        rows.push(("progress", text(&job["run"]["progress"], "line").to_owned()));
    }
    let notes = job["run"]["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    rows.extend(notes.map(|note| ("found", note.to_owned())));
    let more = number(&job["run"], "more_notes");
    if more > 0 {
        rows.push(("found", format!("and {more} more")));
    }
    Ok(columns(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value])))
}

/// Starts a job without waiting for its end.
async fn start(client: &mut Client, name: &str) -> Result<String, Failure> {
    let path = format!("{}?detach=1&follow=0", path(name)?);
    let started = client.request(Method::POST, &path, Some(&json!({}))).await?;
    Ok(if started["joined"] == true { format!("{name} runs already\n") } else { format!("{name} started\n") })
}

/// Starts a job, or joins it, and shows its progress; fails if it fails or finds faults.
async fn follow(client: &mut Client, name: &str) -> Result<String, Failure> {
    let (is_terminal, mut waiting, mut items) = (std::io::stderr().is_terminal(), Waiting::default(), 0_u64);
    let mut observe = |event| match event {
        Event::Progress(progress) => {
            waiting.show(&progress);
            if is_terminal && !text(&progress, "line").is_empty() {
                // A closed terminal must not stop the job.
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", printable(text(&progress, "line")));
            }
        }
        Event::Item(_) => items += 1,
    };
    let done = client.stream(Method::POST, &path(name)?, Some(&json!({})), &mut observe).await;
    if is_terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let done = Value::Object(done?);
    if done["needs_attention"] == true {
        return Err(Failure::failed(format!(
            "{}; `holdfast jobs {name}` has the details",
            text(&done, "text")
        )));
    }
    Ok(format!("{name}: {}\n", text(&done, "text")))
}

async fn cancel(client: &mut Client, name: &str) -> Result<String, Failure> {
    let cancelled = client.request(Method::DELETE, &path(name)?, None::<&()>).await?;
    Ok(if cancelled["cancelled"] == true {
        format!("{name} is cancelled; it ends at its next safe point\n")
    } else {
        format!("{name} does not run\n")
    })
}

/// Returns the path of a job in the local API.
fn path(name: &str) -> Result<String, Failure> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return Err(Failure::misuse(format!(
            "{name:?} is not the name of a job; `holdfast jobs` lists them"
        )));
    }
    Ok(format!("jobs/{name}"))
}

fn state(job: &Value) -> String {
    let progress = &job["run"]["progress"];
    match (text(job, "state"), number(progress, "bytes_all")) {
        ("running", all) if all > 0 => {
            format!("running, {} of {}", size(number(progress, "bytes_done")), size(all))
        }
        ("running", _) if number(progress, "items_done") > 0 => {
            format!("running, {}", count(number(progress, "items_done"), "item"))
        }
        (state, _) => state.to_owned(),
    }
}

/// Formats the last run: `ok, 2 hours ago`.
fn last(job: &Value, now: u64) -> String {
    let Some(end) = job["last_end"].as_u64() else { return "never".to_owned() };
    let age = duration(Duration::from_secs(now.saturating_sub(end)));
    format!("{}, {age} ago", text(job, "last_outcome"))
}

/// Formats the next run: `in 50 minutes`.
fn next(job: &Value, now: u64) -> String {
    match job["next_due"].as_u64() {
        None => "not by itself".to_owned(),
        Some(due) if due <= now => "due".to_owned(),
        Some(due) => format!("in {}", duration(Duration::from_secs(due - now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_by_their_age() {
        let job = json!({"last_end": 100, "last_outcome": "ok", "next_due": 7400, "state": "idle"});
        assert_eq!((last(&job, 7300), next(&job, 7300)), ("ok, 2 hours ago".into(), "in 1 minute".into()));
        assert_eq!((last(&json!({}), 1), next(&json!({}), 1)), ("never".into(), "not by itself".into()));
        assert_eq!(next(&json!({"next_due": 1}), 1), "due");
    }

    #[test]
    fn a_running_job_shows_its_progress() {
        let running = |progress| state(&json!({"state": "running", "run": {"progress": progress}}));
        assert_eq!(running(json!({"bytes_done": 1024, "bytes_all": 4096})), "running, 1.0 KiB of 4.0 KiB");
        assert_eq!(running(json!({"items_done": 2, "bytes_all": null})), "running, 2 items");
        assert_eq!(running(json!({})), "running");
    }

    #[test]
    fn names_that_no_job_can_have_are_refused() {
        assert!(path("sync:a.b").is_ok());
        for name in ["", "a/b", "a b", "../x"] {
            assert_eq!(path(name).unwrap_err().code, 2, "{name}");
        }
    }
}
