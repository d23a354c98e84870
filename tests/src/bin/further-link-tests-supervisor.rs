//! The parent of everything that a test starts: `further-link-tests-supervisor PROGRAM [ARGUMENT]...`
//!
//! Started by `supervised` in the harness. As a child subreaper it inherits every orphan below it, whatever
//! sessions and double forks it hid behind, so the harness finds all that a daemon ever started by walking
//! down from here. On stdout it says `pid N` once and `exited N` when PROGRAM has ended. When its stdin ends,
//! because the test is over or was killed, it kills whatever is left below it and goes.
#![expect(clippy::expect_used, reason = "a failure here must fail the test")]
#![expect(clippy::disallowed_methods, reason = "it starts the program under test")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use further_link_tests::processes;
use further_link_tests::wait::holds_within;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

#[expect(clippy::zombie_processes, reason = "the loop below waits for everybody, this child included")]
fn main() {
    nix::sys::prctl::set_child_subreaper(true).expect("a child subreaper");
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().expect("a program to start");
    let child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| fail(&format!("cannot start {}: {error}", program.display())));
    println!("pid {}", child.id());
    let end_of_test = std::thread::spawn(clean_up_at_the_end);
    // Until there is no child left, and with none there can come no orphan either.
    while let Ok(status) = wait() {
        let pid_is_child = |pid: Pid| u32::try_from(pid.as_raw()).is_ok_and(|pid| pid == child.id());
        match status {
            WaitStatus::Exited(pid, code) if pid_is_child(pid) => println!("exited {code}"),
            WaitStatus::Signaled(pid, signal, _) if pid_is_child(pid) => {
                println!("exited {}", -signal_number(signal));
            }
            _ => {}
        }
    }
    end_of_test.join().expect("the end of the test is waited for");
}

#[expect(clippy::as_conversions, reason = "the numbers of a C enum")]
fn signal_number(signal: Signal) -> i32 {
    signal as i32
}

fn fail(text: &str) -> ! {
    eprintln!("{text}");
    std::process::exit(1)
}

fn clean_up_at_the_end() {
    let mut ignored = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut ignored) {
        eprintln!("supervisor: {error}");
    }
    let own = i32::try_from(std::process::id()).expect("a pid fits in i32");
    let all_gone = holds_within(Duration::from_secs(20), || {
        let left = processes::descendants(own);
        for process in &left {
            // It may have gone meanwhile, and a zombie needs no signal: the loop looks again.
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
        }
        left.is_empty()
    });
    std::process::exit(i32::from(!all_gone));
}
