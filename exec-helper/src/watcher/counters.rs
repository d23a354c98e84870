//! What the kernel counts of this run's limits: processes that it killed since memory was used up, and
//! processes that it did not make since there were too many. Of all reasons for an end the person at the
//! browser could not guess these.
//!
//! Asked of this process's own control group, before and after: under systemd that is the run's unit. Where a
//! kernel has no controller for memory (Raspberry Pi's boot without it) it still counts what it killed on the
//! whole device, and a program that was killed meanwhile was one of those, or was killed by hand in the
//! same minutes. Without the controller for processes nothing is known, and nothing is said.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::cgroup::{Group, Names};

const MEMORY: Names =
    Names { controller: "memory", version1: "memory.oom_control", version2: "memory.events" };
/// The kernel's counters for the whole device (proc(5)).
const DEVICE: &str = "/proc/vmstat";
const PROCESSES: Names = Names { controller: "pids", version1: "pids.events", version2: "pids.events" };

/// The counters at the start of the run.
pub(crate) struct Counters {
    memory: Counter,
    processes: Counter,
}

/// A line of a file, and its value at the start of the run.
struct Counter {
    file: Option<PathBuf>,
    line: &'static str,
    before: u64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let group = Group::own();
        Self {
            memory: Counter::new(group.file(MEMORY).into_iter().chain([DEVICE.into()]), "oom_kill "),
            processes: Counter::new(group.file(PROCESSES), "max "),
        }
    }

    /// Whether the kernel has killed something of the run, or of the device where it knows no better.
    pub(crate) fn has_used_up_memory(&self) -> bool {
        self.memory.has_grown()
    }

    /// Whether the kernel has refused to make a process.
    pub(crate) fn has_used_up_processes(&self) -> bool {
        self.processes.has_grown()
    }
}

impl Counter {
    /// Of the first file that has the line.
    fn new(files: impl IntoIterator<Item = PathBuf>, line: &'static str) -> Self {
        let found = files.into_iter().find_map(|file| Some((value(&file, line)?, file)));
        let (before, file) = found.unzip();
        Self { file, line, before: before.unwrap_or(0) }
    }

    fn has_grown(&self) -> bool {
        self.file.as_deref().and_then(|file| value(file, self.line)).is_some_and(|now| now > self.before)
    }
}

fn value(file: &Path, line: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|found| found.strip_prefix(line))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_grows_is_seen_and_one_that_is_not_there_never_grows() {
        let file = std::env::temp_dir().join(format!("further-link-counter-{}", std::process::id()));
        fs::write(&file, "oom 3\noom_kill 1\n").unwrap();
        let counter = Counter::new([file.with_extension("no"), file.clone()], "oom_kill ");
        assert!(!counter.has_grown());
        fs::write(&file, "oom 3\noom_kill 2\n").unwrap();
        assert!(counter.has_grown());
        fs::remove_file(&file).unwrap();
        assert!(value(Path::new(DEVICE), "oom_kill ").is_some(), "the kernel counts for the device");
        assert!(!counter.has_grown() && !Counter::new([], "max ").has_grown());
    }
}
