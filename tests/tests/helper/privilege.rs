//! What the two processes may still do while programs run: next to nothing.
//!
//! Architecture, "Starting" (never uid 0 on the network) and "The boundary" (the helper demotes itself). Read
//! from outside in /proc, and tried from inside a program. The programs themselves are in `users.rs`.

use further_link_tests::processes::{Process, Status, descriptors};
use further_link_tests::programs::python;
use further_link_tests::{Client, Daemon, accounts};

/// `CAP_KILL`, see capabilities(7).
const CAP_KILL: u64 = 1 << 5;

const CAPABILITY_SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

/// Starts `cat` and finds it and the helper that started it.
#[track_caller]
fn cat_and_its_helper(daemon: &Daemon, client: &mut Client) -> (Process, i32) {
    client.start_cat("cat");
    let cat = daemon.process_named("cat");
    let helper = cat.parent;
    assert_ne!(helper, daemon.pid(), "the frontend itself started the program");
    (cat, helper)
}

#[test]
fn the_frontend_of_root_serves_as_a_service_account_without_capabilities() {
    let daemon = Daemon::start();
    let service = accounts::service();
    daemon.run("").ping();
    let status = Status::of(daemon.pid());
    assert_ne!(service.uid, 0);
    assert_eq!(status.numbers("Uid"), [u64::from(service.uid); 4]);
    assert_eq!(status.numbers("Gid"), [u64::from(service.gid); 4]);
    assert!(!status.groups().contains(&0), "{:?}", status.groups());
    for set in CAPABILITY_SETS {
        assert_eq!(status.mask(set), 0, "{set}");
    }
    assert_eq!(status.text("NoNewPrivs"), "1");
}

/// The same for every thread: uids and capabilities belong to threads, not to processes, see capabilities(7).
#[test]
fn no_thread_of_the_frontend_kept_anything() {
    let daemon = Daemon::start();
    daemon.run_once(python("print('warm up all threads')"));
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let thread: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let status = Status::of(thread);
        assert!(!status.numbers("Uid").contains(&0) && !status.numbers("Gid").contains(&0), "{status:?}");
        for set in CAPABILITY_SETS {
            assert_eq!(status.mask(set), 0, "{set} of {status:?}");
        }
        assert_eq!(status.text("NoNewPrivs"), "1");
        seen += 1;
    }
    assert!(seen > 0);
}

/// Architecture, "The boundary": "After the spawn the helper demotes itself".
#[test]
fn the_helper_of_a_run_keeps_cap_kill_and_nothing_else() {
    let daemon = Daemon::builder().allow_users(&["pi", "root"]).start();
    for query in ["", "pty=1", "user=root", "user=root&pty=1"] {
        let mut client = daemon.run(query);
        let (cat, helper) = cat_and_its_helper(&daemon, &mut client);
        let status = Status::of(helper);
        // docs/decisions.md: the user's fsuid (the fourth) and groups stay, to remove the run's files.
        let own = if query.contains("root") { accounts::account("root") } else { accounts::pi() };
        let ids = status.numbers("Uid");
        assert!(!ids[..3].contains(&0) && ids[3] == u64::from(own.uid), "{query}: {status:?}");
        assert!(!status.numbers("Gid")[..3].contains(&0), "{query}: {status:?}");
        assert!(status.groups().iter().all(|group| own.groups.contains(group)), "{query}: {status:?}");
        assert_eq!(status.mask("CapEff"), CAP_KILL, "{query}");
        assert_eq!(status.mask("CapPrm"), CAP_KILL, "{query}");
        assert_eq!((status.mask("CapInh"), status.mask("CapAmb")), (0, 0), "{query}");
        assert_eq!(status.text("NoNewPrivs"), "1", "{query}");
        // A filter of system calls (`confine`), which the program does not have.
        assert_eq!(status.text("Seccomp"), "2", "{query}");
        assert_eq!(Status::of(cat.pid).text("Seccomp"), "0", "{query}");
        assert_eq!(status.text("Threads"), "1", "{query}");
        client.stop("cat");
        client.wait_stopped("cat");
    }
}

/// What a normal user starts has no capabilities to begin with.
#[test]
fn an_unprivileged_daemon_has_no_capabilities_anywhere() {
    let daemon = Daemon::builder().run_as("pi").start();
    let mut client = daemon.run("");
    cat_and_its_helper(&daemon, &mut client);
    for process in daemon.processes() {
        let status = Status::of(process.pid);
        for set in CAPABILITY_SETS {
            assert_eq!(status.mask(set), 0, "{set} of {process:?}");
        }
    }
}

/// Architecture: "Output and input never pass through root".
#[test]
fn the_helper_holds_no_end_of_the_programs_streams() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let (cat, helper) = cat_and_its_helper(&daemon, &mut client);
        let streams = descriptors(cat.pid);
        let held = descriptors(helper);
        for target in held.values() {
            assert!(!streams.values().any(|stream| stream == target), "{query}: {held:?}");
            assert!(!target.contains("ptmx"), "{query}: {held:?}");
        }
        client.stop("cat");
        client.wait_stopped("cat");
    }
}

/// Programs of pi can neither signal nor trace helper and frontend.
#[test]
fn a_program_can_neither_signal_nor_read_the_two_processes() {
    let daemon = Daemon::start();
    let code = format!(
        r"
import os
for pid in ({}, os.getppid()):
    for attempt in (lambda: os.kill(pid, 0), lambda: os.kill(pid, 15), lambda: open(f'/proc/{{pid}}/environ').read(),
                    lambda: open(f'/proc/{{pid}}/mem', 'rb'), lambda: os.listdir(f'/proc/{{pid}}/fd')):
        try:
            attempt()
            print('possible')
        except PermissionError:
            print('refused')
",
        daemon.pid()
    );
    assert_eq!(daemon.run_once(python(&code)).stdout, "refused\n".repeat(10));
    assert_eq!(daemon.http("GET", "/status").body, "OK");
}

/// Runs are apart from each other, too.
#[test]
fn every_run_has_a_helper_process_of_its_own() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let mut helpers = Vec::new();
    for number in 0..3 {
        let id = number.to_string();
        client.start(&id, python("import os; print(os.getppid()); input()"));
        helpers.push(client.wait_pid(&id).pid);
    }
    helpers.sort_unstable();
    helpers.dedup();
    assert_eq!(helpers.len(), 3);
}
