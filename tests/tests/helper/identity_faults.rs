//! Every system call on the way from a request to a program with another identity fails once. Never does a
//! program run as another user than it should, nor does the helper go on with privileges that it should have
//! given up.
//!
//! The class of CVE-2021-41617 (groups not set) and of the many calls of
//! setuid(2) whose answer was not looked at. The order of the steps is in `exec-helper/src/identity.rs` and
//! `demote.rs`.
//!
//! The calls are not listed here but recorded: a first run shows which there are, the next ones each fail
//! another. The identity is read by the tracer at the moment of the exec (ptrace(2), `PTRACE_EVENT_EXEC`),
//! before the first instruction of the program: killing it afterwards would be too late.
#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use further_link_proto::{Event, Request, Run, Step};
use further_link_tests::helper_only::frontend::{as_user, on_terminal, with_text};
use further_link_tests::helper_only::injector::{Fault, Identity, Injector, Report, Who};
use further_link_tests::helper_only::{Frontend, Heard, HelperOnly, Inventory};
use further_link_tests::processes::{Process, Status};
use further_link_tests::{DEADLINE, wait_until};
use nix::errno::Errno;
use nix::libc;

/// Says who it is and stays until it is stopped.
const PROGRAM: &[u8] = b"#!/bin/sh\ncat /proc/self/status\nread line\n";

/// The calls that make an identity, and those without which there would be none to start with: these must be
/// among the recorded ones, or this file tests something else than it says.
const OF_CHILD: [(&str, i64); 11] = [
    ("setsid", libc::SYS_setsid),
    ("fchown", libc::SYS_fchown),
    ("ioctl", libc::SYS_ioctl),
    ("dup2 or dup3", libc::SYS_dup2),
    ("close_range", libc::SYS_close_range),
    ("setgroups", libc::SYS_setgroups),
    ("setresgid", libc::SYS_setresgid),
    ("capset", libc::SYS_capset),
    ("setresuid", libc::SYS_setresuid),
    ("chdir", libc::SYS_chdir),
    ("execve", libc::SYS_execve),
];
const OF_PARENT: [(&str, i64); 7] = [
    ("setgroups", libc::SYS_setgroups),
    ("prctl", libc::SYS_prctl),
    ("setresgid", libc::SYS_setresgid),
    ("setresuid", libc::SYS_setresuid),
    ("capset", libc::SYS_capset),
    ("setfsgid", libc::SYS_setfsgid),
    ("setfsuid", libc::SYS_setfsuid),
];

/// The calls by which the C library reads the user and group databases.
const READING: [i64; 6] = [
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_read,
    libc::SYS_lseek,
    libc::SYS_socket,
    libc::SYS_connect,
];
/// Calls that answer a number and no error (getuid(2), getpid(2), umask(2)), one that closes even if it
/// answers an error (close(2)), and those that do not come back.
const INFALLIBLE: [i64; 9] = [
    libc::SYS_close,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_getegid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_umask,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
];

/// More calls of one kind than this are thinned out.
const MANY: usize = 24;

/// How one start with a fault went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// `Started`, and all was right.
    Right,
    /// `Failed` at this step, by its number in PROTOCOL.md.
    Failed(usize),
    /// `Refused`: the account could not be looked up.
    Refused,
    /// Closed without a word.
    Closed,
    /// `Started`, but the child died before it was the program, by a signal that the fault brought about.
    Died,
}

/// A helper and the run that it is asked for again and again.
struct Bench {
    helper: HelperOnly,
    run: Run,
    before: Inventory,
    /// As whom the program ran when nothing failed.
    right: Option<Identity>,
}

impl Bench {
    fn new(user: &str) -> Self {
        let helper = HelperOnly::builder().allow_users(&["pi", "root"]).argument("--grace=0").start();
        let run = as_user(user, on_terminal(with_text("exec", PROGRAM.len())));
        let before = helper.inventory();
        Self { helper, run, before, right: None }
    }

    /// One start with this fault, watched to its end.
    #[track_caller]
    fn start(&self, fault: Option<Fault>) -> (Outcome, Report) {
        let injector = Injector::attach(self.helper.pid(), fault);
        let frontend = self.helper.connect();
        // The launcher does more while no client waits: the request comes when that is over, so that all
        // starts are alike.
        wait_until(2 * DEADLINE, &format!("a launcher that waits, or the end, after {fault:?}"), || {
            frontend.has_news(Duration::ZERO) || self.launcher_waits()
        });
        // The instance may be gone already.
        let (Ok(()) | Err(_)) = frontend.0.send(&Request::Run(self.run.clone()));
        let outcome = self.follow(&frontend, fault);
        drop(frontend);
        wait_until(2 * DEADLINE, &format!("the end after {fault:?}"), || self.helper.instances().is_empty());
        let report = injector.report();
        let what = format!("{fault:?}: {outcome:?}, {:?}", report.executed);
        for identity in &report.executed {
            self.assert_right(identity, fault, "seen by the tracer");
        }
        assert!(outcome != Outcome::Right || report.executed.len() == 1, "{what}");
        if outcome == Outcome::Closed {
            // A helper that could not give root up kills, and touches no file of the user
            // (`abandon_as_root`).
            self.helper.scratch().remove_leftovers();
        }
        self.helper.assert_as_before(&self.before, &what);
        (outcome, report)
    }

    /// In poll(2) with the long time limit of a wait for the request, in milliseconds.
    fn launcher_waits(&self) -> bool {
        let instance = self.helper.instances().first().map(|instance| instance.pid);
        let all = self.helper.process.descendants();
        let launcher = all.iter().find(|process| Some(process.parent) == instance);
        let path = launcher.map(|launcher| format!("/proc/{}/syscall", launcher.pid));
        let call = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let mut words = call.split_whitespace();
        words.next() == Some(&libc::SYS_poll.to_string())
            && words
                .nth(2)
                .and_then(|limit| u64::from_str_radix(limit.trim_start_matches("0x"), 16).ok())
                .is_some_and(|limit| limit > 60_000)
    }

    #[track_caller]
    fn assert_right(&self, identity: &Identity, fault: Option<Fault>, how: &str) {
        let Some(right) = &self.right else { return };
        let what = format!("{fault:?}: not {right:?}, {how}");
        if fault.is_some_and(|fault| fault.who == Who::Child && READING.contains(&fault.call)) {
            // getgrouplist(3) does not tell a group database that cannot be read from one without this user:
            // as with login(1) the program may then lack groups. It has no others.
            assert!(identity.groups.iter().all(|group| right.groups.contains(group)), "{what}");
            assert_eq!(
                Identity { groups: Vec::new(), ..identity.clone() },
                Identity { groups: Vec::new(), ..right.clone() },
                "{what}"
            );
        } else {
            assert_eq!(identity, right, "{what}");
        }
    }

    /// Leads the conversation to its end.
    #[track_caller]
    fn follow(&self, frontend: &Frontend, fault: Option<Fault>) -> Outcome {
        let mut outcome = Outcome::Closed;
        loop {
            assert!(frontend.has_news(2 * DEADLINE), "after {fault:?} neither an event nor the end");
            match frontend.hear() {
                Heard::Event(Event::Data, mut pipe) => {
                    // Its reader may be gone already.
                    let (Ok(()) | Err(_)) = File::from(pipe.remove(0)).write_all(PROGRAM);
                }
                Heard::Event(Event::Started { pid }, mut leader) => {
                    let pid = i32::try_from(pid).expect("a pid");
                    // One that died before it was the program is none any more.
                    if Process::read(pid).is_some() {
                        assert_demoted(self.helper.instance_of(pid));
                    }
                    outcome = self.listen(leader.remove(0).into(), fault);
                    // It has ended already where the program never came to life.
                    let (Ok(()) | Err(_)) = frontend.0.send(&Request::Stop { first: None });
                }
                Heard::Event(Event::Failed { step, .. }, _) => outcome = Outcome::Failed(number_of(step)),
                Heard::Event(Event::Refused(_), _) => outcome = Outcome::Refused,
                Heard::Event(Event::Exited(_), _) => {}
                Heard::Event(event, _) => panic!("{event:?} is of an upload"),
                Heard::End => return outcome,
            }
        }
    }

    /// Reads what the program says of itself, up to its last line or its death.
    #[track_caller]
    fn listen(&self, leader: File, fault: Option<Fault>) -> Outcome {
        let mut lines = BufReader::new(leader).lines().map_while(Result::ok);
        let mut said = Vec::new();
        while said.last().is_none_or(|line: &String| !line.starts_with("nonvoluntary")) {
            let Some(line) = lines.next() else { return Outcome::Died };
            said.push(line);
        }
        self.assert_right(&Identity::in_status(&said.join("\n")), fault, "said by the program");
        Outcome::Right
    }
}

fn number_of(step: Step) -> usize {
    let steps = [
        Step::Streams,
        Step::Fork,
        Step::Attach,
        Step::Identity,
        Step::ReadDetails,
        Step::ReadRunner,
        Step::MakeDirectory,
        Step::WriteCode,
        Step::ChangeDirectory,
        Step::FindProgram,
        Step::Execute,
    ];
    steps.iter().position(|one| *one == step).expect("all are listed")
}

/// A watcher that says `Started` has given root up (docs/threat-model.md).
#[track_caller]
fn assert_demoted(instance: i32) {
    let status = Status::of(instance);
    assert!(!status.numbers("Uid")[..3].contains(&0), "{status:?}");
    assert!(!status.numbers("Gid")[..3].contains(&0), "{status:?}");
    assert_eq!((status.mask("CapEff"), status.mask("CapPrm")), (0x20, 0x20), "{status:?}");
    assert_eq!((status.mask("CapInh"), status.mask("CapAmb")), (0, 0), "{status:?}");
    assert_eq!(status.mask("CapBnd"), 0, "{status:?}");
    assert_eq!(status.text("NoNewPrivs"), "1", "{status:?}");
}

/// All calls of `who` that the recording has, the nth of each kind, without those that cannot fail.
fn faults(recording: &Report, who: Who) -> Vec<Fault> {
    let calls: Vec<_> =
        recording.calls.iter().filter(|(whose, _)| *whose == who).map(|(_, call)| *call).collect();
    // What the parent does after its last prctl(2), which installs the filter of system calls, it does
    // without root: `demote` is over.
    let end = match who {
        Who::Parent => calls.iter().rposition(|call| *call == libc::SYS_prctl).map_or(0, |last| last + 1),
        Who::Child => calls.len(),
    };
    let mut found: BTreeMap<i64, Vec<Fault>> = BTreeMap::new();
    for call in calls.into_iter().take(end).filter(|call| !INFALLIBLE.contains(call)) {
        let of_this_kind = found.entry(call).or_default();
        of_this_kind.push(Fault { who, call, nth: of_this_kind.len(), errno: Errno::EPERM });
    }
    // Signals are reset and capabilities dropped one by one, dozens of times alike: a part of them does for
    // all.
    let thinned = found.into_values().flat_map(|all| {
        let (count, step) = (all.len(), if all.len() > MANY { 8 } else { 1 });
        let keeps = move |nth: usize| nth < 4 || nth + 4 >= count || nth.is_multiple_of(step);
        all.into_iter().filter(move |fault| keeps(fault.nth))
    });
    thinned.collect()
}

#[track_caller]
fn assert_recorded(faults: &[Fault], wanted: &[(&str, i64)]) {
    let calls: BTreeSet<i64> = faults.iter().map(|fault| fault.call).collect();
    for (name, call) in wanted {
        assert!(calls.contains(call) || calls.contains(&libc::SYS_dup3), "no {name} among {calls:?}");
    }
}

/// Sweeps over all faults of one process; how often each outcome came.
#[track_caller]
fn sweep(user: &str, who: Who, wanted: &[(&str, i64)]) {
    let mut bench = Bench::new(user);
    let (outcome, recording) = bench.start(None);
    assert_eq!(outcome, Outcome::Right);
    bench.right = recording.executed.first().cloned();
    let faults = faults(&recording, who);
    assert_recorded(&faults, wanted);
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    for fault in &faults {
        let (outcome, report) = bench.start(Some(*fault));
        assert!(report.injected, "{fault:?} did not happen");
        *outcomes.entry(outcome).or_default() += 1;
        // These are the identity itself: without them there is no program at all.
        let decisive = [libc::SYS_setgroups, libc::SYS_setresgid, libc::SYS_capset, libc::SYS_setsid];
        if decisive.contains(&fault.call) {
            assert_ne!(outcome, Outcome::Right, "{fault:?}");
        }
    }
    eprintln!("{user}, {who:?}: {} faults, {outcomes:?}", faults.len());
    bench.helper.assert_serves();
}

#[test]
fn whatever_fails_in_the_child_no_program_runs_with_a_wrong_identity() {
    sweep("pi", Who::Child, &OF_CHILD);
}

#[test]
fn whatever_fails_in_the_child_of_a_run_of_root_no_program_runs_with_a_wrong_identity() {
    sweep("root", Who::Child, &OF_CHILD);
}

#[test]
fn whatever_fails_while_the_helper_gives_root_up_the_run_ends_and_nothing_is_left() {
    sweep("pi", Who::Parent, &OF_PARENT);
}

/// `identity`: "everything is read back, and regaining root must fail". Here calls that change something say
/// that it worked and have done nothing (as setresuid(2) does with the uid 4294967295), and the attempt to
/// regain root says that it worked.
#[test]
fn a_switch_that_only_seems_to_work_is_noticed() {
    let mut bench = Bench::new("pi");
    bench.right = bench.start(None).1.executed.first().cloned();
    let (regain, switch) = (1, 0);
    for (call, nth) in [
        (libc::SYS_setresgid, switch),
        (libc::SYS_setresuid, switch),
        // seteuid(0) of the C library is this call.
        (libc::SYS_setresuid, regain),
    ] {
        // Errno 0 is success.
        let lie = Fault { who: Who::Child, call, nth, errno: Errno::UnknownErrno };
        let (outcome, report) = bench.start(Some(lie));
        assert!(report.injected && report.executed.is_empty(), "{lie:?}: {report:?}");
        assert_eq!(outcome, Outcome::Failed(number_of(Step::Identity)), "{lie:?}");
    }
}
