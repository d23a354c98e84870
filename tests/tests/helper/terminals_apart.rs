//! What the terminal of a run is to other runs and users, as docs/threat-model.md has it, and how many there
//! can be (R12).
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests panic to fail")]

use std::fs;

use further_link_proto::{Event, ExitStatus, Step};
use further_link_tests::helper_only::frontend::{as_user, exec, on_terminal, with_text};
use further_link_tests::helper_only::{Heard, HelperOnly, Running};
use nix::libc;

fn terminal_of(running: &Running) -> String {
    let terminal = fs::read_link(format!("/proc/{}/fd/0", running.program.pid)).unwrap();
    terminal.to_str().unwrap().to_owned()
}

/// Whether a program of this user can open the terminal of another run, to read and to write.
#[track_caller]
fn opens(helper: &HelperOnly, user: &str, terminal: &str) -> bool {
    let text = format!("#!/bin/sh\nexec 3<> {terminal}\n");
    let run = as_user(user, with_text("exec", text.len()));
    match helper.connect().start(&run, text.as_bytes()).frontend.wait_exited() {
        ExitStatus::Exited(code) => code == 0,
        other @ ExitStatus::Signaled(_) => panic!("{other:?}"),
    }
}

/// "a local user: nothing of another user's run"; SECURITY.md: "Clients that share an account are not
/// isolated".
#[test]
fn the_terminal_of_a_run_opens_for_its_user_and_no_other() {
    let helper = HelperOnly::builder().allow_users(&["pi", "linkother"]).start();
    let cat = helper.connect().start(&on_terminal(exec("/usr/bin/cat")), &[]);
    let terminal = terminal_of(&cat);
    assert!(terminal.starts_with("/dev/pts/"), "{terminal}");
    assert!(!opens(&helper, "linkother", &terminal), "{terminal} belongs to pi");
    assert!(opens(&helper, "pi", &terminal), "the page says that pi's runs are not isolated from each other");
}

/// A helper for which the kernel counts so many terminals, of at most so many: two files laid over the
/// kernel's.
fn helper_with(used: u32, most: u32) -> HelperOnly {
    let builder = HelperOnly::builder().allow_users(&["pi"]);
    let root = builder.scratch().root();
    let [nr, max] = [("nr", used), ("max", most)].map(|(name, number)| {
        let file = root.join(name);
        fs::write(&file, format!("{number}\n")).unwrap();
        file.to_str().unwrap().to_owned()
    });
    let place = "/proc/sys/kernel/pty";
    let script = format!("mount --bind {nr} {place}/nr && mount --bind {max} {place}/max && exec \"$@\"");
    let unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &script, "sh"];
    builder.wrapped_in(&unshared).start()
}

/// R12: a frontend that keeps the terminals of ended runs leaves a quarter of them to ssh and the console.
#[test]
fn the_last_quarter_of_the_terminals_is_not_for_runs() {
    for (used, is_refused) in [(74, false), (75, true), (100, true)] {
        let helper = helper_with(used, 100);
        let frontend = helper.connect();
        frontend.send(&further_link_proto::Request::Run(on_terminal(exec("/bin/true"))));
        let refused = match frontend.hear() {
            Heard::Event(Event::Failed { step: Step::Streams, errno: libc::EAGAIN }, _) => true,
            Heard::Event(Event::Started { .. }, _) => false,
            other => panic!("{used} of 100: {other:?}"),
        };
        assert_eq!(refused, is_refused, "{used} of 100 are used");
        drop(frontend);
        // Pipes are always there.
        helper.assert_serves();
    }
}
