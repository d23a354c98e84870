//! Programs that only a real terminal satisfies: bash with jobs, python's prompt, a full-screen editor.
//!
//! Item B9 and D28 once more, through the eyes of those who would notice. What the terminal itself promises
//! is in `terminal.rs`. Where a key must not come too early the test looks into /proc to see who is in the
//! foreground.
#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::io::Write;

use further_link_tests::processes::Process;
use further_link_tests::programs::{program, shell};
use further_link_tests::scratch::directory_for;
use further_link_tests::{Client, DEADLINE, Daemon, accounts, wait_until};
use serde_json::json;

/// Has the shell print `mark`, followed by a number, and returns the number.
#[track_caller]
fn number_from_shell(client: &mut Client, mark: &str, expression: &str) -> i32 {
    client.stdin("1", &format!("echo {mark}-{expression}.\r"));
    let find = |text: &str| {
        text.split(&format!("{mark}-")).skip(1).find_map(|rest| rest.split_once('.')?.0.parse::<i32>().ok())
    };
    client.read_until(DEADLINE, mark, |client| find(&client.stdout("1")).is_some());
    find(&client.stdout("1")).expect("just seen")
}

#[track_caller]
fn wait_foreground(of: i32, group: i32) {
    let what = format!("group {group} in the foreground of {of}'s terminal");
    wait_until(DEADLINE, &what, || Process::read(of).is_some_and(|process| process.foreground == group));
}

#[track_caller]
fn wait_state(of: i32, states: &str) {
    let what = format!("process {of} in one of the states {states}");
    wait_until(DEADLINE, &what, || Process::read(of).is_some_and(|process| states.contains(process.state)));
}

/// B9, D28
#[test]
fn bash_controls_its_jobs() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", shell());
    let bash = number_from_shell(&mut client, "shell", "$$");
    client.stdin("1", "sleep 601 &\r");
    let job = number_from_shell(&mut client, "job", "$!");
    wait_foreground(bash, bash);
    client.stdin("1", "fg\r");
    wait_foreground(bash, job);
    client.stdin("1", "\x1a");
    wait_state(job, "T");
    client.wait_stdout("1", "Stopped");
    wait_foreground(bash, bash);
    client.stdin("1", "bg\r");
    wait_state(job, "S");
    client.stdin("1", "fg\r");
    wait_foreground(bash, job);
    client.stdin("1", "\x03");
    wait_foreground(bash, bash);
    assert_eq!(number_from_shell(&mut client, "code", "$?"), 130);
    assert!(Process::read(job).is_none());
    assert!(!client.stdout("1").contains("no job control"), "{}", client.stdout("1"));
    client.stdin("1", "exit 3\r");
    assert_eq!(client.wait_stopped("1"), 3);
}

/// B9: history and line editing of the prompt.
#[test]
fn the_python_prompt_knows_the_arrow_keys() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start_sized("1", program("/usr/bin/python3"), 24, 80);
    client.wait_stdout("1", ">>> ");
    client.stdin("1", "6 * 7\r");
    client.wait_stdout("1", "\n42\r\n");
    client.stdin("1", "\x1b[A\r");
    let answers = |client: &Client| client.stdout("1").matches("\n42\r\n").count();
    client.read_until(DEADLINE, "the line from the history", |client| answers(client) == 2);
    // Back over the 7, and a digit before it.
    client.stdin("1", "6 * 7\x1b[D1\r");
    client.wait_stdout("1", "\n102\r\n");
    client.stdin("1", "import os; os.get_terminal_size()\r");
    client.wait_stdout("1", "columns=80, lines=24");
    client.wait_stdout("1", ">>> ");
    client.stdin("1", "exit(4)\r");
    assert_eq!(client.wait_stopped("1"), 4);
}

/// A full-screen program: vi.
#[test]
fn a_full_screen_editor_edits() {
    if !std::path::Path::new("/usr/bin/vi").exists() {
        writeln!(
            std::io::stderr(),
            "\nSKIPPED: there is no /usr/bin/vi, so no full-screen editor was tried\n"
        )
        .unwrap();
        return;
    }
    let daemon = Daemon::start();
    let project = daemon.work().join("project");
    directory_for(&accounts::pi(), &project, 0o755);
    let mut client = daemon.run("pty=1");
    client.start_sized("1", json!({"runner": "shell", "path": "project"}), 24, 80);
    let bash = number_from_shell(&mut client, "shell", "$$");
    client.stdin("1", "stty size; exec vi -u NONE -n note.txt\r");
    wait_until(DEADLINE, "vi in the shell's place", || {
        Process::read(bash).is_some_and(|process| process.name.starts_with("vi"))
    });
    // The status line stands in the last row of a screen of its own.
    client.wait_stdout("1", "24 80\r\n");
    client.wait_stdout("1", "\x1b[24;1H\"note.txt\"");
    assert!(client.stdout("1").contains("\x1b[?1049h"), "{:?}", client.stdout("1"));
    client.stdin("1", "ihello");
    client.wait_stdout("1", "hello");
    client.stdin("1", "\x1b");
    client.stdin("1", "yypAworld\x1b:wq\r");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(std::fs::read_to_string(project.join("note.txt")).unwrap(), "hello\nhelloworld\n");
}
