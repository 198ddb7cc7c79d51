//! Progress of imports, exports and adoptions: a line that is replaced on a terminal, or events as JSON.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::format::size;
use super::output::{event_line, print};
use crate::transfer::{Phase, Progress};

/// Prints progress.
#[derive(Clone, Copy)]
pub(super) struct ProgressPrinter {
    json: bool,
    is_terminal: bool,
}

impl ProgressPrinter {
    pub(super) fn new(json: bool) -> Self {
        ProgressPrinter { json, is_terminal: !json && std::io::stderr().is_terminal() }
    }

    /// Prints how far a transfer is.
    pub(super) fn show(self, progress: &Progress) {
        // A closed output must not stop the transfer.
        if self.json {
            let _ = print(&event_line("progress", fields(progress)));
        } else if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", text(progress));
        }
    }

    /// Removes the line, before other text.
    pub(super) fn clear(self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn text(progress: &Progress) -> String {
    let verb = match progress.phase {
        Phase::Import => "importing",
        Phase::Adopt => "adopting",
        Phase::Write => "writing",
        Phase::Verify => "reading back",
    };
    let total = progress.total.map(|total| format!(" of {}", size(total))).unwrap_or_default();
    let remaining = progress.remaining.map(|time| {
        let seconds = time.as_secs();
        format!(", {}:{:02} left", seconds / 60, seconds % 60)
    });
    let (done, rate) = (size(progress.done), size(progress.rate));
    format!("{verb}: {done}{total}, {rate}/s{}", remaining.unwrap_or_default())
}

fn fields(progress: &Progress) -> Value {
    json!({
        "phase": progress.phase.as_str(),
        "done": progress.done,
        "total": progress.total,
        "rate": progress.rate,
        "remaining": progress.remaining.map(|time| time.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn progress_has_rate_and_remaining_time() {
        let progress = Progress {
            phase: Phase::Write,
            done: 1 << 20,
            total: Some(1 << 21),
            rate: 1 << 10,
            remaining: Some(Duration::from_secs(1024)),
        };
        assert_eq!(text(&progress), "writing: 1.0 MiB of 2.0 MiB, 1.0 KiB/s, 17:04 left");
        assert_eq!(fields(&progress)["remaining"], 1024);
        let unknown = Progress { phase: Phase::Import, total: None, remaining: None, ..progress };
        assert_eq!(text(&unknown), "importing: 1.0 MiB, 1.0 KiB/s");
    }
}
