//! The processes of a run: finding them, asking them to end, killing until nothing is left.
//!
//! The helper is a child subreaper (prctl(2)): whatever a program daemonises comes back to it as a direct child, however
//! often it forks or calls setsid. A direct child's pid cannot be reused before the helper itself has reaped it, so
//! killing direct children from the top down, again and again, hits everything and never a stranger.

use std::{collections::HashMap, fs, io, time::Instant};

use further_link_proto::ExitStatus;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal};

/// SIGTERM's bit in the masks of /proc/PID/status (proc(5)).
const TERM_BIT: u64 = 1 << (libc::SIGTERM - 1);

/// A process and its parent, as read from /proc.
struct Entry {
    pid: i32,
    parent: i32,
}

/// What collecting a child brought.
pub(crate) enum Reaped {
    Child(Pid, ExitStatus),
    /// Children live, none has ended.
    Nothing,
    NoChildren,
}

/// Collects a child without waiting.
pub(crate) fn reap() -> Reaped {
    // rustix, since nix knows no real-time signals and would lose a child that one of them has ended.
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Reaped::Child(Pid::from_raw(pid.as_raw_pid()), exit_status(status)),
        Ok(None) | Err(rustix::io::Errno::INTR) => Reaped::Nothing,
        Err(_no_child) => Reaped::NoChildren,
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    let number = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Exited(number(code)),
        // Without either it was stopped or continued, which nobody asked to be told.
        (None, signal) => ExitStatus::Signaled(number(signal.unwrap_or(0))),
    }
}

/// Asks the whole run to end: the leader's process group first, then every descendant outside of it. Each is also
/// continued, so that a stopped process can run its handler.
pub(crate) fn terminate(leader: Option<Pid>) {
    if let Some(leader) = leader {
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            // ESRCH: the group has ended meanwhile, which is what was asked for.
            let (Ok(()) | Err(_)) = killpg(leader, signal);
        }
    }
    for entry in descendants() {
        if leader.is_none_or(|leader| process_group(entry.pid) != Some(leader.as_raw())) {
            // It has ended meanwhile, or is killed after the grace.
            let (Ok(()) | Err(_)) = terminate_descendant(&entry);
        }
    }
}

/// Kills all direct children but those to be kept. True if there was one.
pub(crate) fn kill_children(keep: impl Fn(Pid) -> bool) -> bool {
    let mut any = false;
    for pid in children().into_iter().filter(|pid| !keep(*pid)) {
        any = true;
        // ESRCH cannot be: it is unreaped. EPERM: see `demote`, CAP_KILL is kept.
        let (Ok(()) | Err(_)) = kill(pid, Signal::SIGKILL);
    }
    any
}

/// Kills and reaps until no child is left, or until the deadline. True if nothing is left.
pub(crate) fn kill_all(deadline: Instant, mut ended: impl FnMut(Pid, ExitStatus)) -> bool {
    loop {
        kill_children(|_| false);
        loop {
            match reap() {
                Reaped::Child(pid, status) => ended(pid, status),
                Reaped::Nothing => break,
                Reaped::NoChildren => return true,
            }
        }
        if Instant::now() > deadline {
            return false;
        }
        // Not a sleep: a program that forks and exits for ever is caught by looking more often than it forks.
        std::thread::yield_now();
    }
}

/// Whether any process of the run has a handler for SIGTERM, so that a grace makes sense.
pub(crate) fn anyone_handles_term() -> bool {
    descendants().iter().any(|entry| {
        fs::read_to_string(format!("/proc/{}/status", entry.pid))
            .ok()
            .and_then(|status| {
                let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
                u64::from_str_radix(mask.trim(), 16).ok()
            })
            .is_some_and(|caught| caught & TERM_BIT != 0)
    })
}

/// Direct children. One small file where the kernel has it (`CONFIG_PROC_CHILDREN`), else all of /proc.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
        }
        Err(_) => entries()
            .filter(|entry| entry.parent == Pid::this().as_raw())
            .map(|e| Pid::from_raw(e.pid))
            .collect(),
    }
}

/// All processes below this one.
fn descendants() -> Vec<Entry> {
    let mut by_parent: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in entries() {
        by_parent.entry(entry.parent).or_default().push(entry.pid);
    }
    let mut found = Vec::new();
    let mut parents = vec![Pid::this().as_raw()];
    while let Some(parent) = parents.pop() {
        for pid in by_parent.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            found.push(Entry { pid, parent });
        }
    }
    found
}

fn entries() -> impl Iterator<Item = Entry> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        stat_field(pid, 1).map(|parent| Entry { pid, parent })
    })
}

fn process_group(pid: i32) -> Option<i32> {
    stat_field(pid, 2)
}

/// A field of /proc/PID/stat, counted from the one behind the name, which may itself hold spaces and parentheses.
fn stat_field(pid: i32, index: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(index)?.parse().ok()
}

/// Signals a process that may not be a direct child, so whose pid may have been reused since it was read: a descriptor is
/// taken first, then the parent is read again, and only then are the signals sent, through the descriptor.
fn terminate_descendant(entry: &Entry) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(entry.pid).ok_or(Errno::ESRCH)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    if stat_field(entry.pid, 1) == Some(entry.parent) {
        pidfd_send_signal(&descriptor, rustix::process::Signal::TERM)?;
        pidfd_send_signal(&descriptor, rustix::process::Signal::CONT)?;
    }
    Ok(())
}
