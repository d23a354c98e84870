//! What the kernel says about the daemon's processes (proc(5)). The frontend is not dumpable, so most of it is for root.

use std::{fs, time::Duration};

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

/// A process and its children.
pub(crate) fn with_children(parent: i32) -> Vec<Process> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = names.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let (its_parent, start_time) = stat(pid)?;
        (its_parent == parent).then_some(Process { pid, start_time })
    });
    let own = stat(parent).map(|(_, start_time)| Process { pid: parent, start_time });
    own.into_iter().chain(children).collect()
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
