//! Traps that a review of the root side found: what programs and parents can do that a naive helper stumbles
//! over.
//!
//! Each of these hung, lied or cut a program off in an earlier version.

use std::time::{Duration, Instant};

use further_link_tests::programs::{python, script};
use further_link_tests::{Daemon, Watched};

/// Dozens of processes that make orphans as fast as they can must not keep the helper from hearing `stop`.
#[test]
fn a_flood_of_orphans_does_not_delay_stop() {
    let daemon = Daemon::builder().grace(0.5).start();
    let mut client = daemon.run("");
    let flood = "import os, signal, time\n\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        end = time.time() + 40\n\
        for _ in range(30):\n\
        \x20   if os.fork() == 0:\n\
        \x20       while time.time() < end:\n\
        \x20           if (child := os.fork()) == 0:\n\
        \x20               if os.fork() == 0: os._exit(0)\n\
        \x20               os._exit(0)\n\
        \x20           os.waitpid(child, 0)\n\
        \x20       os._exit(0)\n\
        print(os.getpid(), flush=True)\n\
        time.sleep(40)\n";
    client.start("1", python(flood));
    let leader = client.wait_pid("1");
    client.stop("1");
    let asked = Instant::now();
    assert_eq!(client.wait_stopped_within(Duration::from_secs(30), "1"), -9);
    assert!(asked.elapsed() < Duration::from_secs(30));
    assert!(!leader.is_alive());
}

/// `ptrace(PTRACE_TRACEME)` makes the helper the tracer: the stop that follows is not the program's end.
#[test]
fn a_program_that_asks_to_be_traced_is_not_taken_for_ended() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "import ctypes, os, signal\n\
        signal.signal(signal.SIGUSR1, lambda *_: None)\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        assert libc.ptrace(0, 0, 0, 0) == 0, ctypes.get_errno()\n\
        print(os.getpid(), flush=True)\n\
        os.kill(os.getpid(), signal.SIGUSR1)\n";
    client.start("1", python(code));
    let traced: Watched = client.wait_pid("1");
    // Longer than what is left to the children of a program that has ended.
    assert_eq!(client.run("clock", script("#!/bin/sh\nsleep 1\n")).exit_code, 0);
    assert!(traced.is_alive());
    client.stop("1");
    assert!(client.wait_stopped("1") < 0);
    assert!(!traced.is_alive());
}

/// D33: waiting for SIGTERM (sigwait, signalfd) is handling it.
#[test]
fn a_program_that_waits_for_sigterm_has_its_grace() {
    let daemon = Daemon::builder().grace(20.0).start();
    let mut client = daemon.run("");
    let code = "import os, signal, sys, time\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
        print(os.getpid(), flush=True)\n\
        signal.sigwait([signal.SIGTERM])\n\
        time.sleep(0.5)\n\
        print('motors off', flush=True)\n\
        sys.exit(4)\n";
    client.start("1", python(code));
    client.wait_pid("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), 4);
    assert!(client.stdout("1").ends_with("motors off\n"), "{}", client.stdout("1"));
}

/// Many shell scripts write to `/dev/stderr` by name: the pipes have to belong to the user.
#[test]
fn standard_streams_can_be_opened_by_name() {
    for query in ["", "pty=1"] {
        let daemon = Daemon::start();
        let mut client = daemon.run(query);
        client.start(
            "1",
            script(
                "#!/bin/sh\nread line < /dev/stdin; echo \"$line\" > /dev/stdout; echo err > /dev/stderr\n",
            ),
        );
        client.stdin("1", "in\n");
        assert_eq!(client.wait_stopped("1"), 0, "{query}");
        let all = client.stdout("1") + &client.stderr("1");
        assert!(all.contains("in") && all.contains("err"), "{query}: {all}");
        assert!(!all.contains("denied"), "{query}: {all}");
    }
}

/// A parent that ignores SIGCHLD passes that on: the kernel would reap programs before the helper sees their
/// end.
#[test]
fn an_ignored_sigchld_does_not_hide_the_end_of_programs() {
    let ignore = "import os, signal, sys\n\
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
        os.execv(sys.argv[1], sys.argv[1:])\n";
    let daemon = Daemon::builder().wrapped_in(&["/usr/bin/python3", "-c", ignore]).start();
    let mut client = daemon.run("");
    assert_eq!(client.run("1", python("raise SystemExit(7)")).exit_code, 7);
}

/// keyrings(7): a key of root's session is none of the program's business.
#[test]
fn a_program_does_not_see_the_session_keyring_of_root() {
    let with_key = "import ctypes, os, sys\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        libc.syscall(250, 1, 0)\n\
        key = libc.syscall(248, b'user', b'further-link-secret', b'42', 2, -3)\n\
        sys.stderr.write(f'key {key}\\n')\n\
        os.execv(sys.argv[1], sys.argv[1:])\n";
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: the numbers of add_key and keyctl in this test are those of x86-64");
        return;
    }
    let daemon = Daemon::builder().wrapped_in(&["/usr/bin/python3", "-c", with_key]).start();
    if daemon.log().text().contains("key -1") {
        eprintln!("SKIPPED: this kernel or container has no keyrings");
        return;
    }
    let search = "import ctypes\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        print(libc.syscall(250, 10, -3, b'user', b'further-link-secret', 0))\n";
    assert_eq!(daemon.run("").run("1", python(search)).stdout, "-1\n");
}
