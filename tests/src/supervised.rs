//! A program under test, started below a supervisor of its own, so that nothing it ever started can hide.
//!
//! `daemon` starts the frontend with it, `activation` tests start the helper and systemd-socket-activate. It
//! knows nothing about further-link. Dropping it kills all that is left, without a word: whether something
//! was left is for the test to say, with [`Supervised::descendants`].

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binaries;
use crate::log::Log;
use crate::processes::{self, Process};

/// A started program with its log and all its descendants.
#[derive(Debug)]
pub struct Supervised {
    supervisor: Child,
    reports: Log,
    /// What the program and its descendants wrote to stderr.
    pub log: Log,
    /// The pid of the started program itself.
    pub pid: i32,
}

impl Supervised {
    /// Starts `command` with no environment but `environment` and a search path.
    pub fn start(command: &[String], environment: &[(String, String)]) -> Self {
        let mut supervisor = Command::new(binaries::supervisor())
            .args(command)
            .env_clear()
            // Not the PATH of the person who runs the tests: python must be the system's, for every user the
            // same one.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Away from Ctrl-C, which would end the supervisor before it could clean up.
            .process_group(0)
            .spawn()
            .expect("the supervisor starts");
        let log = Log::gather(supervisor.stderr.take().expect("stderr is a pipe"));
        let mut lines = BufReader::new(supervisor.stdout.take().expect("stdout is a pipe"));
        let mut first = String::new();
        lines.read_line(&mut first).expect("the supervisor reports");
        let pid = first.strip_prefix("pid ").and_then(|pid| pid.trim().parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{command:?} did not start: {}", log.text()));
        Self { supervisor, reports: Log::gather(lines), log, pid }
    }

    /// All that descends from the started program, itself included, zombies too.
    pub fn descendants(&self) -> Vec<Process> {
        processes::descendants(i32::try_from(self.supervisor.id()).expect("a pid fits in i32"))
    }

    /// Sends a signal to the program itself, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.exit_code().is_none() {
            kill(Pid::from_raw(self.pid), signal).expect("the program can be signalled");
        }
    }

    /// The program's exit status, or minus the signal that ended it, once it has ended.
    pub fn exit_code(&self) -> Option<i32> {
        find_exit(&self.reports.text())
    }

    /// Waits for the end of the program itself.
    pub fn wait_exit(&self, limit: Duration) -> Option<i32> {
        self.reports.wait_for(limit, find_exit)
    }
}

fn find_exit(reports: &str) -> Option<i32> {
    reports.lines().find_map(|line| line.strip_prefix("exited ")?.parse().ok())
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let status = self.supervisor.wait().expect("the supervisor can be waited for");
        assert!(status.success() || std::thread::panicking(), "the supervisor could not clean up: {status}");
    }
}
