//! What the kernel says about the daemon's processes (proc(5)). The frontend is not dumpable, so most of it
//! is for root.

use std::{collections::HashMap, fs, time::Duration};

use crate::Result;

/// A process that was there, and no other one that got its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    start_time: u64,
}

impl Process {
    pub(crate) fn is_there(&self) -> bool {
        stat(self.pid).is_some_and(|(_, start_time)| start_time == self.start_time)
    }
}

/// A process, and all that it has forked which run the same program file: none of the programs.
pub(crate) fn with_forks(pid: i32) -> Vec<Process> {
    let Ok(file) = fs::read_link(format!("/proc/{pid}/exe")) else { return Vec::new() };
    let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some((parent, start_time)) = stat(pid) {
            by_parent.entry(parent).or_default().push(Process { pid, start_time });
        }
    }
    let mut found: Vec<_> =
        stat(pid).map(|(_, start_time)| Process { pid, start_time }).into_iter().collect();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let children = by_parent.remove(&process.pid).unwrap_or_default();
        let is_fork =
            |child: &Process| fs::read_link(format!("/proc/{}/exe", child.pid)).is_ok_and(|its| its == file);
        found.extend(children.into_iter().filter(is_fork));
        next += 1;
    }
    found
}

/// Parent and start time of a process that is not a zombie.
fn stat(pid: i32) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    Some((fields.next()?.parse().ok()?, fields.nth(17)?.parse().ok()?))
}

/// Bytes of memory: what belongs to these alone, and their share of what they share with others.
pub(crate) fn pss(processes: &[Process]) -> Result<u64> {
    processes.iter().map(|process| kilobytes(process.pid, "smaps_rollup", "Pss:")).sum()
}

/// Bytes of memory that are in use by the process now.
pub(crate) fn resident(pid: i32) -> Result<u64> {
    kilobytes(pid, "status", "VmRSS:")
}

/// The most since the last [`reset_peak`].
pub(crate) fn peak(pid: i32) -> Result<u64> {
    kilobytes(pid, "status", "VmHWM:")
}

pub(crate) fn reset_peak(pid: i32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn kilobytes(pid: i32, file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("a line is missing in /proc")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Processor time of all threads.
pub(crate) fn processor_time(pid: i32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_ascii_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

pub(crate) fn descriptors(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

pub(crate) fn threads(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}
