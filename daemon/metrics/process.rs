//! The standard process metrics of Prometheus client libraries, from `/proc`, which needs no disk. A value that cannot
//! be read is left out.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use super::text::Text;

/// The fields of `/proc/self/stat` after the program name; the first one is field 3, the state.
struct Stat<'a>(Vec<&'a str>);

impl Stat<'_> {
    /// Returns the field with this number in proc(5).
    fn field(&self, number: usize) -> Option<u64> {
        self.0.get(number - 3)?.parse().ok()
    }
}

pub(super) fn render(text: &mut Text) {
    if let Ok(read) = std::fs::read_to_string("/proc/self/stat") {
        // The program name may contain spaces and parentheses, so the last parenthesis ends it.
        let fields = read.rsplit_once(')').map_or("", |(_, rest)| rest);
        usage(text, &Stat(fields.split_whitespace().collect()));
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // Less the descriptor of this listing.
        text.gauge("process_open_fds", "Open file descriptors.").value(entries.count().saturating_sub(1));
    }
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        text.gauge("process_max_fds", "The limit of open file descriptors.").value(limit);
    }
}

#[expect(clippy::cast_precision_loss, reason = "f64 is the number type of the exposition formats")]
fn usage(text: &mut Text, stat: &Stat) {
    let system = |variable| sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
    let (ticks, page) = (system(SysconfVar::CLK_TCK), system(SysconfVar::PAGE_SIZE));
    let seconds = |count: u64| ticks.filter(|ticks| *ticks > 0).map(|ticks| count as f64 / ticks as f64);
    if let (Some(user), Some(kernel)) = (stat.field(14), stat.field(15))
        && let Some(used) = seconds(user.saturating_add(kernel))
    {
        text.counter("process_cpu_seconds", "User and system CPU time.").value(used);
    }
    if let Some(bytes) = stat.field(23) {
        text.gauge("process_virtual_memory_bytes", "Virtual memory.").value(bytes);
    }
    if let (Some(pages), Some(page)) = (stat.field(24), page) {
        text.gauge("process_resident_memory_bytes", "Resident memory.").value(pages.saturating_mul(page));
    }
    if let Some(threads) = stat.field(20) {
        text.gauge("process_threads", "Threads.").value(threads);
    }
    if let (Some(boot), Some(after)) = (boot_time(), stat.field(22).and_then(seconds)) {
        text.gauge("process_start_time_seconds", "Start time of the process, in seconds since 1970.")
            .value(boot as f64 + after);
    }
}

/// Returns the boot time of the machine, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let read = std::fs::read_to_string("/proc/stat").ok()?;
    read.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn linux_provides_all_process_metrics() {
        let mut text = Text::new(Format::Prometheus);
        render(&mut text);
        let text = text.finish();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            assert!(value.is_some_and(|value| value.parse::<f64>().unwrap() >= 0.0), "{name}: {text}");
        }
    }
}
