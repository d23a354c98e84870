//! Makes one system call of a helper, or of the launcher that it forks, fail once; and sees every execve.
//!
//! A tracer by ptrace(2), because `strace --inject` counts in every process alike: it cannot fail the child's
//! first setgroups(2) without failing the parent's, and a parent that fails kills the child before it could
//! show that it went on with half an identity. The call is not made at all, as if a security module had
//! refused it. Only a process of its own thread may trace, so all of this happens in one. For x86-64 only,
//! whose registers it changes.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::libc::{
    self, PTRACE_EVENT_EXEC, PTRACE_EVENT_FORK, PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_EXIT,
};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Whose call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// The instance that the listening helper forks for a connection: the watcher.
    Parent,
    /// What that one forks, until it is the program: the launcher.
    Child,
}

/// One call that fails: the `nth` (from 0) of its kind since the process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which process.
    pub who: Who,
    /// The kernel's number of the call.
    pub call: i64,
    /// Which one of these calls.
    pub nth: usize,
    /// What it answers.
    pub errno: Errno,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// All calls that were entered, in their order.
    pub calls: Vec<(Who, i64)>,
    /// Whether the fault has happened.
    pub injected: bool,
    /// The identity of every program that was executed, at the moment when it was.
    pub executed: Vec<Identity>,
}

/// As whom a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective, saved, file system.
    pub uids: Vec<u64>,
    /// The same of the group.
    pub gids: Vec<u64>,
    /// All supplementary groups, in order.
    pub groups: Vec<u64>,
    /// Inheritable, permitted, effective, ambient.
    pub capabilities: [u64; 4],
}

impl Identity {
    /// Reads the identity of a process.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        Self::in_status(&status.unwrap_or_else(|e| panic!("process {pid}: {e}")))
    }

    /// Reads it from the text of a `/proc/PID/status`, which a program may have said about itself.
    #[track_caller]
    pub fn in_status(status: &str) -> Self {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
        };
        let numbers =
            |name| field(name).split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let mut groups: Vec<u64> = numbers("Groups");
        groups.sort_unstable();
        Self {
            uids: numbers("Uid"),
            gids: numbers("Gid"),
            groups,
            capabilities: ["CapInh", "CapPrm", "CapEff", "CapAmb"]
                .map(|set| u64::from_str_radix(field(set), 16).expect("a mask")),
        }
    }
}

/// A tracer at work.
#[derive(Debug)]
pub struct Injector {
    thread: JoinHandle<Report>,
}

impl Injector {
    /// Attaches to a helper that listens. What it does for the next connection counts.
    #[track_caller]
    pub fn attach(listener: i32, fault: Option<Fault>) -> Self {
        let (attached, told): (_, Receiver<()>) = channel();
        let thread = std::thread::spawn(move || {
            let listener = Pid::from_raw(listener);
            let options =
                Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEEXEC;
            ptrace::seize(listener, options).expect("root may trace");
            ptrace::interrupt(listener).expect("the helper can be interrupted");
            let (report, counts) = (Report::default(), HashMap::new());
            let mut tracer = Tracer { listener, instance: None, fault, report, counts, failing: None };
            tracer.handle(waitpid(listener, Some(WaitPidFlag::__WALL)).expect("it stops"));
            attached.send(()).expect("somebody waits");
            tracer.trace();
            tracer.report
        });
        told.recv().expect("the injector is attached");
        Self { thread }
    }

    /// Waits until the helper has ended, and the child as well or it is the program.
    #[track_caller]
    pub fn report(self) -> Report {
        self.thread.join().expect("the tracer works")
    }
}

struct Tracer {
    listener: Pid,
    /// Once it has been forked.
    instance: Option<Pid>,
    fault: Option<Fault>,
    report: Report,
    counts: HashMap<(Who, i64), usize>,
    /// The process that is in the call that fails.
    failing: Option<Pid>,
}

impl Tracer {
    fn trace(&mut self) {
        // Nothing but what this thread traces: other tests have children, too.
        let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(mine)) {
                Ok(status) => self.handle(status),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return,
                Err(errno) => panic!("waitpid: {errno}"),
            }
        }
    }

    fn handle(&mut self, status: WaitStatus) {
        // The first one that is not the listener is the instance, whichever of them the kernel reports first.
        if self.instance.is_none() {
            self.instance = status.pid().filter(|pid| *pid != self.listener);
        }
        let resumed = match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.on_call(pid);
                self.resume(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, PTRACE_EVENT_EXEC) => {
                self.report.executed.push(Identity::of(pid.as_raw()));
                ptrace::detach(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, PTRACE_EVENT_FORK) if pid == self.listener => {
                ptrace::detach(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, _) => self.resume(pid, None),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            _ => Ok(()),
        };
        // ESRCH: it was killed while it was stopped.
        assert!(matches!(resumed, Ok(()) | Err(Errno::ESRCH)), "{status:?}: {resumed:?}");
    }

    /// Lets it run to its next call, or to its next exec where its calls are of no interest: each stop takes
    /// time.
    fn resume(&self, pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
        let interesting = pid != self.listener
            && self.fault.is_none_or(|fault| fault.who == self.who(pid) && !self.report.injected);
        if interesting { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) }
    }

    fn who(&self, pid: Pid) -> Who {
        if Some(pid) == self.instance { Who::Parent } else { Who::Child }
    }

    fn on_call(&mut self, pid: Pid) {
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        match info.op {
            PTRACE_SYSCALL_INFO_ENTRY => self.on_entry(pid),
            PTRACE_SYSCALL_INFO_EXIT if self.failing == Some(pid) => {
                self.failing = None;
                let errno = self.fault.map_or(Errno::EPERM, |fault| fault.errno);
                self.report.injected = answer(pid, errno);
            }
            _ => {}
        }
    }

    fn on_entry(&mut self, pid: Pid) {
        let who = self.who(pid);
        let Some(call) = call_of(pid) else { return };
        self.report.calls.push((who, call));
        let count = self.counts.entry((who, call)).or_default();
        let hit = self.fault.is_some_and(|fault| (fault.who, fault.call, fault.nth) == (who, call, *count));
        *count += 1;
        if hit && skip(pid) {
            self.failing = Some(pid);
        }
    }
}

/// The number of the call that is being entered.
fn call_of(pid: Pid) -> Option<i64> {
    ptrace::getregs(pid).ok().map(|registers| registers.orig_rax.cast_signed())
}

/// Has the kernel make no call: a number that none has, see ptrace(2).
fn skip(pid: Pid) -> bool {
    change(pid, |registers| registers.orig_rax = u64::MAX)
}

/// Changes what the call answers.
#[expect(clippy::as_conversions, reason = "the numbers of a C enum")]
fn answer(pid: Pid, errno: Errno) -> bool {
    change(pid, |registers| registers.rax = i64::from(-(errno as i32)).cast_unsigned())
}

fn change(pid: Pid, change: impl FnOnce(&mut libc::user_regs_struct)) -> bool {
    let Ok(mut registers) = ptrace::getregs(pid) else { return false };
    change(&mut registers);
    ptrace::setregs(pid, registers).is_ok()
}
