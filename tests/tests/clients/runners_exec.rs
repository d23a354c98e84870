//! The exec and shell runners: which file they start, in which directory, and whose modes they touch.
//!
//! Item B8 with B7.4, D6 (no chmod or chown of what is not the user's), D41 (exec with code) and D44
//! (spaces). What all runners share is in `runners.rs`; shells on a terminal are in `terminal.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use further_link_tests::programs::{program, script, shell};
use further_link_tests::scratch::{directory_for, file_for, mode_of};
use further_link_tests::{Daemon, accounts};
use serde_json::json;

/// D41, B8
#[test]
fn exec_code_runs_in_the_temp_directory() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let finished = client.run("1", script("#!/bin/sh\necho \"$#\"; pwd; echo \"$0\"\n"));
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[..2], ["0", daemon.temp().to_str().unwrap()]);
    let file = std::path::Path::new(lines[2]);
    assert_eq!(file.parent().unwrap().parent().unwrap(), daemon.temp());
    assert!(!file.exists());
    let finished = client.run("1", script("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n"));
    assert_eq!(finished.stdout, "[]\n");
}

/// B8, D44
#[test]
fn exec_code_with_a_path_runs_in_that_directory() {
    let daemon = Daemon::start();
    let project = daemon.work().join("my project");
    directory_for(&accounts::pi(), &project, 0o755);
    let mut client = daemon.run("");
    for path in ["my project", "my project/", project.to_str().unwrap()] {
        let code = "#!/bin/sh\npwd; echo \"$0\"\n";
        let finished = client.run("1", json!({"runner": "exec", "code": code, "path": path}));
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert_eq!(lines[0], project.to_str().unwrap());
        assert!(lines[1].starts_with(project.join("exec-").to_str().unwrap()), "{}", lines[1]);
        assert_eq!(fs::read_dir(&project).unwrap().count(), 0);
    }
}

/// B8, D44: an own file need not be executable yet.
#[test]
fn an_existing_file_is_made_executable_and_runs_where_it_lies() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let project = daemon.work().join("a b");
    directory_for(&pi, &project, 0o755);
    let tool = project.join("the tool; id");
    let mut client = daemon.run("");
    for path in ["a b/the tool; id", tool.to_str().unwrap(), "../work/a b/the tool; id"] {
        file_for(&pi, &tool, "#!/bin/sh\necho \"$#\"; pwd; echo \"$0\"\n", 0o644);
        let finished = client.run("1", json!({"runner": "exec", "path": path}));
        assert_eq!(finished.exit_code, 0, "{finished:?}");
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert_eq!(lines[0], "0");
        assert_eq!(fs::canonicalize(lines[1]).unwrap(), project);
        assert_eq!(fs::canonicalize(lines[2]).unwrap(), tool);
        assert_eq!(mode_of(&tool) & 0o100, 0o100);
        assert_eq!(fs::metadata(&tool).unwrap().uid(), pi.uid);
        fs::remove_file(&tool).unwrap();
    }
}

/// B8: a binary is as good as a script, and its directory is the working directory.
#[test]
fn a_program_of_the_system_runs() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    assert_eq!(client.run("1", program("/usr/bin/pwd")).stdout, "/usr/bin\n");
    let name = client.run("1", program("/usr/bin/id"));
    assert!(name.stdout.starts_with(&format!("uid={}(pi)", accounts::pi().uid)), "{name:?}");
    client.start("1", program("/usr/bin/cat"));
    client.stdin("1", "to and fro\n");
    client.wait_stdout("1", "to and fro\n");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
}

/// D6: the original gave such files to the user and made them 0777.
#[test]
fn a_file_of_root_keeps_owner_and_mode() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for (mode, runs) in [(0o600, false), (0o644, false), (0o700, false), (0o755, true)] {
        let path = daemon.work().join(format!("{mode:o}"));
        fs::write(&path, "#!/bin/sh\necho secret\n").unwrap();
        further_link_tests::scratch::set_mode(&path, mode);
        let exec = client.try_start("1", json!({"runner": "exec", "path": path}));
        assert_eq!(exec.is_ok(), runs, "{mode:o}: {exec:?}");
        if runs {
            assert_eq!(client.wait_stopped("1"), 0);
        }
        let python = client.run("1", json!({"runner": "python3", "path": path}));
        assert_ne!(python.exit_code, 0, "{mode:o}");
        // Python shows the line it stumbles over, if it may read it.
        assert_eq!(python.stderr.contains("secret"), mode & 0o004 != 0, "{python:?}");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), mode_of(&path)), (0, mode));
    }
}

/// D6, D12: a symbolic link does not lead chmod to a foreign file.
#[test]
fn a_link_to_a_file_of_root_does_not_help() {
    let daemon = Daemon::start();
    let target = daemon.work().join("target");
    fs::write(&target, "#!/bin/sh\necho secret\n").unwrap();
    further_link_tests::scratch::set_mode(&target, 0o640);
    let link = daemon.work().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let mut client = daemon.run("");
    assert!(client.try_start("1", json!({"runner": "exec", "path": "link"})).is_err());
    assert_eq!(mode_of(&target), 0o640);
    assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
}

/// B8: `code` is ignored, there are no arguments, it is neither a login shell nor interactive.
#[test]
fn the_shell_is_the_login_shell_without_arguments() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    for account in [accounts::pi(), accounts::other()] {
        let mut client = daemon.run(&format!("user={}", account.name));
        client.start("1", json!({"runner": "shell", "code": "echo never; exit 9"}));
        client.stdin(
            "1",
            "pwd; readlink /proc/$$/exe; tr '\\0' '|' </proc/$$/cmdline; echo; echo \"<$->\"; exit 4\n",
        );
        assert_eq!(client.wait_stopped("1"), 4);
        let stdout = client.stdout("1");
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(lines[0], daemon.temp().to_str().unwrap(), "{lines:?}");
        let program = fs::canonicalize(&account.shell).unwrap();
        assert_eq!(lines[1], program.to_str().unwrap(), "{lines:?}");
        let name = account.shell.file_name().unwrap().to_str().unwrap();
        let command = lines[2].strip_suffix('|').unwrap();
        assert!(command == account.shell.to_str().unwrap() || command == name, "{lines:?}");
        assert!(!lines[3].contains('i'), "{lines:?}");
        assert_eq!(client.stderr("1"), "");
    }
}

/// B8, B7.4, D44
#[test]
fn the_shell_starts_in_the_directory_that_path_names() {
    let daemon = Daemon::start();
    let project = daemon.work().join("my project");
    directory_for(&accounts::pi(), &project, 0o755);
    let mut client = daemon.run("");
    for path in ["my project", "my project/", project.to_str().unwrap()] {
        client.start("1", json!({"runner": "shell", "path": path}));
        client.stdin("1", "pwd; exit\n");
        assert_eq!(client.wait_stopped("1"), 0);
        assert_eq!(client.stdout("1").trim_end(), project.to_str().unwrap());
    }
    client.start("1", json!({"runner": "shell", "path": 5}));
    client.stdin("1", "pwd; exit\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1").trim_end(), daemon.temp().to_str().unwrap());
}

/// A shell is the one thing that people talk to at length.
#[test]
fn a_shell_answers_line_by_line() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", shell());
    for number in 0..20 {
        client.stdin("1", &format!("echo $(({number} * 2))\n"));
        assert_eq!(client.wait_lines("1", number + 1)[number], (number * 2).to_string());
    }
    client.stdin("1", "no_such_command_anywhere\nexit 0\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert!(client.stderr("1").contains("no_such_command_anywhere"));
}
