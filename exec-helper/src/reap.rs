//! The processes of a run: finding them, asking them to end, killing until nothing is left.
//!
//! The helper is a child subreaper (prctl(2)): a daemon that a program makes comes back as a direct
//! child, whatever it forks or calls. A direct child's pid cannot be reused before the helper has reaped
//! it. So killing direct children from the top down, again and again, hits everything and never a
//! stranger.

use std::{
    collections::HashMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use further_link_proto::{ExitStatus, Usage};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{UsageWho, getrusage},
        signal::kill,
        time::{TimeVal, TimeValLike},
    },
    unistd::Pid,
};
use rustix::process::{
    PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// Children collected before looking at anything else. A program that makes orphans faster than they can
/// be collected must not keep the helper from receiving `Stop`.
const BATCH: usize = 64;
/// Rounds of killing without a pause. A program that forks and exits for ever is caught by looking more
/// often than it forks. What is left after these rounds is stuck, and looking often would only burn the
/// processor.
const EAGER_ROUNDS: u32 = 2000;
/// Time for looking through /proc for processes to ask. A process that is not found is killed after the
/// grace.
const WALK_TIMEOUT: Duration = Duration::from_millis(200);

/// Time that killing may take before the helper gives up and says so. A process that outlives it is stuck
/// in the kernel, or held by a tracer outside of the run.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What collecting a child brought.
pub(crate) enum Reaped {
    Child(Pid, ExitStatus),
    /// Children live, none has ended.
    Nothing,
    NoChildren,
}

/// Collects a child without waiting.
pub(crate) fn reap() -> Reaped {
    loop {
        // rustix, since nix knows no real-time signals and would lose a child that one of them has ended.
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                // Neither: a child that asked to be traced has stopped. It lives, and there may be others.
                if let Some(status) = exit_status(status) {
                    return Reaped::Child(Pid::from_raw(pid.as_raw_pid()), status);
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => return Reaped::Nothing,
            Err(_no_child) => return Reaped::NoChildren,
        }
    }
}

/// The children of this process, collected in batches.
pub(crate) struct Children {
    /// The last batch was full, or there was none yet: children may have ended whose signal has been read
    /// already.
    more: bool,
}

impl Children {
    pub(crate) fn new() -> Self {
        Self { more: true }
    }

    /// Whether children may have ended without a new signal.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.more
    }

    /// Collects a batch. True when no child is left.
    pub(crate) fn reap(&mut self, mut ended: impl FnMut(Pid, ExitStatus)) -> bool {
        self.more = true;
        for _ in 0..BATCH {
            match reap() {
                Reaped::Child(pid, status) => ended(pid, status),
                Reaped::Nothing => {
                    self.more = false;
                    break;
                }
                Reaped::NoChildren => return true,
            }
        }
        false
    }
}

/// What all processes used that were collected, and those that these had collected.
pub(crate) fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let microseconds = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    Usage {
        cpu: microseconds(usage.user_time()) + microseconds(usage.system_time()),
        memory: u64::try_from(usage.max_rss()).unwrap_or_default(),
    }
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let number = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
    let exited = status.exit_status().map(|code| ExitStatus::Exited(number(code)));
    exited.or_else(|| status.terminating_signal().map(|signal| ExitStatus::Signaled(number(signal))))
}

/// Sends a signal to the whole run: the leader's process group first, then every descendant outside of it.
/// Each is also continued, so that a stopped process can run its handler. Returns the processes that handle
/// the signal.
pub(crate) fn send_to_all(leader: Option<Pid>, signal: Signal) -> Handlers {
    let processes = descendants();
    // Before the signal: a handler may be through with its work, and have put the signal back, by the time of
    // a later look.
    let attention: Vec<Attention> = processes.iter().map(|process| process.attention(signal)).collect();
    let outside: Vec<bool> = processes.iter().map(|process| !process.is_in_group_of(leader)).collect();
    if let Some(leader) = leader {
        for signal in [signal, Signal::CONT] {
            // ESRCH: the group has ended meanwhile.
            let group = rustix::process::Pid::from_raw(leader.as_raw());
            let (Some(Ok(()) | Err(_)) | None) = group.map(|group| kill_process_group(group, signal));
        }
    }
    for (process, _) in processes.iter().zip(outside).filter(|(_, outside)| *outside) {
        process.send(signal);
    }
    let processes = processes.into_iter().zip(attention);
    let processes =
        processes.filter_map(|(process, attention)| (attention == Attention::Handler).then_some(process));
    Handlers { signal, processes: processes.collect() }
}

/// The processes of a stopped run that were seen with a handler for the signal sent last, so that a grace
/// makes sense. Each counts until it has ended: Python puts SIGTERM back to its default action before it
/// closes files and runs `__del__`.
pub(crate) struct Handlers {
    signal: Signal,
    processes: Vec<Process>,
}

/// How a process would notice a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attention {
    Handler,
    /// The signal is blocked: the process may wait for it (sigwait, signalfd).
    Blocked,
    None,
}

/// What the processes that handle a signal do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// At least one has a handler.
    Working,
    /// The handlers are through, their processes still live.
    Finalising,
    /// All have ended.
    Over,
}

impl Handlers {
    /// Forgets the processes that have ended, and adds those that have a handler by now. Between fork and
    /// exec the mask says nothing of the program to come. A process that only blocks the signal counts
    /// while it does: each fork blocks all signals for a moment.
    pub(crate) fn look(&mut self) -> Handling {
        self.processes.retain(|process| is_alive(&process.descriptor));
        let mut is_working = false;
        for process in descendants() {
            let attention = process.attention(self.signal);
            is_working |= attention != Attention::None;
            let is_known = self.processes.iter().any(|known| known.pid == process.pid);
            if attention == Attention::Handler && !is_known {
                self.processes.push(process);
            }
        }
        match (is_working, self.processes.is_empty()) {
            (true, _) => Handling::Working,
            (false, false) => Handling::Finalising,
            (false, true) => Handling::Over,
        }
    }
}

/// Kills all direct children but those to be kept.
pub(crate) fn kill_children(keep: impl Fn(Pid) -> bool) {
    for pid in children().into_iter().filter(|pid| !keep(*pid)) {
        // ESRCH cannot be: it is unreaped. EPERM neither: see `demote`, CAP_KILL is kept.
        let (Ok(()) | Err(_)) = kill(pid, nix::sys::signal::SIGKILL);
    }
}

/// Kills and reaps until no child is left, or until the deadline. True if nothing is left.
pub(crate) fn kill_all(deadline: Instant, mut ended: impl FnMut(Pid, ExitStatus)) -> bool {
    for round in 0_u32.. {
        kill_children(|_| false);
        for _ in 0..BATCH {
            match reap() {
                Reaped::Child(pid, status) => ended(pid, status),
                Reaped::Nothing => break,
                Reaped::NoChildren => return true,
            }
        }
        if Instant::now() > deadline {
            break;
        }
        if round > EAGER_ROUNDS {
            // SIGCHLD is blocked and read elsewhere, so this waits for one millisecond.
            let (Ok(_) | Err(_)) = poll(&mut [], PollTimeout::from(1_u8));
        }
    }
    false
}

/// A process below this one, with a descriptor that can mean no other process.
struct Process {
    pid: i32,
    descriptor: OwnedFd,
}

impl Process {
    fn open(pid: i32) -> Option<Self> {
        let descriptor = pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, descriptor })
    }

    /// Sends the signal, and continues the process. It may have ended meanwhile, which is no error.
    fn send(&self, signal: Signal) {
        for signal in [signal, Signal::CONT] {
            let (Ok(()) | Err(_)) = pidfd_send_signal(&self.descriptor, signal);
        }
    }

    /// Whether it would notice the signal. A live process that cannot be looked at counts as one with a
    /// handler: with `hidepid` that is a set-uid program.
    fn attention(&self, signal: Signal) -> Attention {
        let bit = 1_u64 << (signal.as_raw() - 1);
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.pid)) else {
            return if is_alive(&self.descriptor) { Attention::Handler } else { Attention::None };
        };
        let has = |name| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| mask & bit != 0)
        };
        match () {
            () if has("SigCgt:") => Attention::Handler,
            () if has("SigBlk:") => Attention::Blocked,
            () => Attention::None,
        }
    }

    fn is_in_group_of(&self, leader: Option<Pid>) -> bool {
        leader.is_some_and(|leader| stat_field(self.pid, 2) == Some(leader.as_raw()))
    }
}

/// Direct children. One small file where the kernel has it (`CONFIG_PROC_CHILDREN`), else all of /proc.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let pids: Vec<i32> = match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        Err(_) => children_by_parent().remove(&Pid::this().as_raw()).unwrap_or_default(),
    };
    pids.into_iter().map(Pid::from_raw).collect()
}

/// All processes below this one.
///
/// Pids are read first, and may be reused while this goes on. So the walk goes down from the top: a
/// child's descriptor is taken, then its parent is read again. The child counts only if that parent's own
/// descriptor still names a live process. A direct child's pid cannot be reused, so it counts even where
/// `/proc` hides it (`hidepid`).
fn descendants() -> Vec<Process> {
    let mut by_parent = children_by_parent();
    let own = Pid::this().as_raw();
    let direct = by_parent.entry(own).or_default();
    for child in children().into_iter().map(Pid::as_raw) {
        if !direct.contains(&child) {
            direct.push(child);
        }
    }
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![(own, None)];
    while let Some((parent, index)) = parents.pop() {
        for pid in by_parent.remove(&parent).unwrap_or_default() {
            let Some(process) = Process::open(pid) else { continue };
            let is_child = match index.and_then(|index: usize| found.get(index)) {
                None => stat_field(pid, 1).is_none_or(|its| its == parent),
                Some(of_parent) => stat_field(pid, 1) == Some(parent) && is_alive(&of_parent.descriptor),
            };
            if is_child {
                parents.push((pid, Some(found.len())));
                found.push(process);
            }
        }
    }
    found
}

/// A process descriptor is readable once its process has ended (`pidfd_open(2)`).
fn is_alive(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

fn children_by_parent() -> HashMap<i32, Vec<i32>> {
    let until = Instant::now() + WALK_TIMEOUT;
    let mut by_parent: HashMap<i32, Vec<i32>> = HashMap::new();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(parent) = stat_field(pid, 1) {
            by_parent.entry(parent).or_default().push(pid);
        }
        if Instant::now() > until {
            break;
        }
    }
    by_parent
}

/// A field of /proc/PID/stat, counted from the one after the name, which may itself hold spaces and
/// parentheses.
fn stat_field(pid: i32, index: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(index)?.parse().ok()
}
