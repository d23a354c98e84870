//! What each runner starts, from which file, in which directory, and what is left on disk.
//!
//! Item B8 for /run, with B7.3, B7.4 and B7.6 (directories), D6 (foreign files stay as they are), D12 (the
//! import path), D41 (exec with code), D44 (spaces) and D45 (missing directories). /run-py is in `run_py.rs`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use further_link_tests::programs::{python, script};
use further_link_tests::scratch::{directory_for, file_for, mode_of};
use further_link_tests::{Client, DEADLINE, Daemon, accounts, wait_until};
use serde_json::{Value, json};

/// Python that shows file, arguments, working directory and the directory searched first for modules.
const SHOW: &str =
    "import json, os, sys\nprint(json.dumps([__file__, sys.argv, os.getcwd(), sys.path[0]]))\n";

/// What [`SHOW`] shows.
#[derive(Debug)]
struct Shown {
    file: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    first_on_path: PathBuf,
}

#[track_caller]
fn shown(client: &mut Client, data: Value) -> Shown {
    let finished = client.run("show", data);
    assert_eq!(finished.exit_code, 0, "{finished:?}");
    let parsed = serde_json::from_str(&finished.stdout);
    let (file, arguments, directory, first_on_path) = parsed.unwrap_or_else(|e| panic!("{e}: {finished:?}"));
    Shown { file, arguments, directory, first_on_path }
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[track_caller]
fn assert_numbered_python_file(path: &Path) {
    let number = name_of(path).strip_suffix(".py").unwrap_or_default();
    assert!(!number.is_empty() && number.chars().all(|c| c.is_ascii_digit()), "{}", path.display());
}

/// B8, D12: the file lies in a private directory, so that /tmp is not searched for modules.
#[test]
fn python_code_without_a_path_runs_in_the_temp_directory_from_a_private_one() {
    let daemon = Daemon::start();
    fs::write(daemon.temp().join("json.py"), "raise SystemExit('hijacked')").unwrap();
    let mut client = daemon.run("");
    let shown = shown(&mut client, python(SHOW));
    assert_eq!(shown.directory, daemon.temp());
    assert_numbered_python_file(&shown.file);
    let private = shown.file.parent().unwrap();
    assert_eq!(private.parent().unwrap(), daemon.temp());
    assert!(name_of(private).starts_with("further-link-"), "{}", private.display());
    assert_eq!(shown.first_on_path, private);
    assert_eq!(shown.arguments, [shown.file.to_str().unwrap()]);
    assert!(!shown.file.exists() && !private.exists());
}

/// B8: looked at while the program runs.
#[test]
fn the_file_for_code_belongs_to_the_user_and_only_he_reaches_it() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let mut client = daemon.run("");
    for data in [python("print(__file__)\ninput()"), script("#!/bin/sh\necho $0\nread line\n")] {
        client.start("1", data);
        let file = PathBuf::from(&client.wait_lines("1", 1)[0]);
        let private = file.parent().unwrap();
        for path in [&file, private] {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (pi.uid, pi.gid), "{}", path.display());
        }
        assert_eq!(mode_of(private), 0o700);
        client.stdin("1", "\n");
        assert_eq!(client.wait_stopped("1"), 0);
        assert!(!file.exists() && !private.exists());
    }
}

/// B8: mode and name of the files.
#[test]
fn a_python_file_is_not_executable_and_an_exec_file_is() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("print(__file__)\ninput()"));
    let file = PathBuf::from(&client.wait_lines("1", 1)[0]);
    assert_eq!(mode_of(&file), 0o644);
    client.start("2", script("#!/bin/sh\necho $0\nread line\n"));
    let file = PathBuf::from(&client.wait_lines("2", 1)[0]);
    assert_eq!(mode_of(&file) & 0o500, 0o500);
    let number = name_of(&file).strip_prefix("exec-").unwrap_or_else(|| panic!("{}", file.display()));
    assert!(!number.is_empty() && number.chars().all(|c| c.is_ascii_digit()), "{number}");
}

/// B8: the whole command line, unbuffered, from the search path.
#[test]
fn python_is_started_unbuffered_with_the_file_alone() {
    let daemon = Daemon::start();
    let code = "print(__file__)\nprint(open('/proc/self/cmdline').read().split(chr(0)))";
    let finished = daemon.run_once(python(code));
    let (file, command) = finished.stdout.split_once('\n').unwrap();
    assert_eq!(command.trim(), format!("['python3', '-u', '{file}', '']"));
}

/// Spec, `start`; B8: beside the file made from code stands the project it belongs to.
#[test]
fn python_code_with_a_path_runs_in_that_directory() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let project = daemon.work().join("project");
    directory_for(&pi, &project, 0o755);
    file_for(&pi, &project.join("neighbour.py"), "import json, os, sys\n", 0o644);
    let mut client = daemon.run("");
    for path in ["project".to_owned(), "project/".to_owned(), project.to_str().unwrap().to_owned()] {
        let code = format!("from neighbour import json, os, sys\n{SHOW}");
        let shown = shown(&mut client, json!({"runner": "python3", "code": code, "path": path}));
        assert_eq!(shown.directory, project);
        assert_numbered_python_file(&shown.file);
        assert_eq!(shown.file.parent().unwrap(), project);
        assert_eq!(shown.first_on_path, project);
        assert_eq!(shown.arguments, [shown.file.to_str().unwrap()]);
        assert!(!shown.file.exists() && project.join("neighbour.py").exists());
    }
}

/// D45, B7.6: made with their parents, as the user, and they stay.
#[test]
fn missing_directories_are_made_for_the_user_and_stay() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let mut client = daemon.run("");
    let runs = [
        ("for/python", json!({"runner": "python3", "code": "print(1)", "path": "for/python"})),
        ("for/slash", json!({"runner": "python3", "code": "print(1)", "path": "for/slash/"})),
        ("for/exec/too", json!({"runner": "exec", "code": "#!/bin/sh\necho 1\n", "path": "for/exec/too"})),
        ("a b/ü", json!({"runner": "python3", "code": "print(1)", "path": daemon.work().join("a b/ü")})),
    ];
    for (path, data) in runs {
        assert_eq!(client.run("1", data).stdout, "1\n", "{path}");
        let made = daemon.work().join(path);
        for directory in [made.as_path(), made.parent().unwrap()] {
            let metadata = fs::metadata(directory).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (pi.uid, pi.gid), "{}", directory.display());
            assert_eq!(mode_of(directory), 0o755);
        }
        assert_eq!(fs::read_dir(&made).unwrap().count(), 0, "{path}");
    }
    client.start("2", json!({"runner": "shell", "path": "for/the/shell"}));
    client.stdin("2", "pwd; exit\n");
    assert_eq!(client.wait_stopped("2"), 0);
    let made = daemon.work().join("for/the/shell");
    assert_eq!(client.stdout("2").trim(), made.to_str().unwrap());
    assert_eq!(fs::metadata(made).unwrap().uid(), pi.uid);
}

/// B7.3: without options the work directory is `further` in the home of the user, and temp is /tmp.
#[test]
fn the_default_folders_are_in_the_users_home_and_tmp() {
    let daemon = Daemon::builder().default_folders().allow_users(&["pi", "linkother"]).start();
    let name = format!("e2e-{}", std::process::id());
    for account in [accounts::pi(), accounts::other()] {
        let mut client = daemon.run(&format!("user={}", account.name));
        let expected = account.home.join("further").join(&name);
        let in_work = shown(&mut client, json!({"runner": "python3", "code": SHOW, "path": name}));
        assert_eq!(in_work.directory, expected);
        assert_eq!(fs::metadata(&expected).unwrap().uid(), account.uid);
        fs::remove_dir(&expected).unwrap();
        let in_temp = shown(&mut client, python(SHOW));
        assert_eq!(in_temp.directory, Path::new("/tmp"));
        assert_eq!(in_temp.file.parent().unwrap().parent().unwrap(), Path::new("/tmp"));
        assert!(!in_temp.file.parent().unwrap().exists());
    }
}

/// Spec, `start`; B7.4, B8, D44
#[test]
fn an_existing_python_file_runs_where_it_lies() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let project = daemon.work().join("my \"project\" ;x $(id) ü");
    directory_for(&pi, &project, 0o755);
    let file = project.join("-c run 'it'.py");
    file_for(&pi, &file, SHOW, 0o644);
    let mut client = daemon.run("");
    let relative = file.strip_prefix(daemon.work()).unwrap();
    for path in [relative, &file] {
        let shown = shown(&mut client, json!({"runner": "python3", "path": path}));
        assert_eq!(shown.file, file);
        assert_eq!(shown.arguments, [file.to_str().unwrap()]);
        assert_eq!((&shown.directory, &shown.first_on_path), (&project, &project));
    }
    assert!(file.exists());
}

/// B7.4: `..` leaves the work directory, as it does for the user himself.
#[test]
fn a_relative_path_may_climb_out_of_the_work_directory() {
    let daemon = Daemon::start();
    file_for(&accounts::pi(), &daemon.temp().join("outside.py"), SHOW, 0o644);
    let mut client = daemon.run("");
    let shown = shown(&mut client, json!({"runner": "python3", "path": "../tmp/outside.py"}));
    assert_eq!(fs::canonicalize(&shown.directory).unwrap(), daemon.temp());
    assert_eq!(name_of(&shown.file), "outside.py");
}

/// B5, B8: what is no string does not count; the empty string counts as code, not as a path.
#[test]
fn code_and_path_count_only_with_the_right_type() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for path in [json!(null), json!(""), json!(5), json!(["x"]), json!({"x": 1})] {
        let data = json!({"runner": "python3", "code": SHOW, "path": path, "directoryName": "ignored"});
        assert_eq!(shown(&mut client, data).directory, daemon.temp(), "{path}");
    }
    assert!(!daemon.work().join("ignored").exists());
    let empty = client.run("1", json!({"runner": "python3", "code": ""}));
    assert_eq!((empty.exit_code, empty.stdout, empty.stderr), (0, String::new(), String::new()));
    for code in [json!(null), json!(5), json!(["print(1)"]), json!({"x": 1})] {
        let finished = client.run("1", json!({"runner": "python3", "code": code}));
        assert_eq!(finished.exit_code, 1, "{code}");
        let temp = daemon.temp();
        assert!(
            finished.stderr.contains(&format!("can't find '__main__' module in '{}", temp.display())),
            "{finished:?}"
        );
    }
    // D12: any user could have laid this there.
    fs::write(daemon.temp().join("__main__.py"), "print('planted')").unwrap();
    let finished = client.run("1", json!({"runner": "python3"}));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (1, ""), "{finished:?}");
}

/// B8: however the program ends.
#[test]
fn the_file_for_code_is_removed_at_every_kind_of_end() {
    let daemon = Daemon::start();
    directory_for(&accounts::pi(), &daemon.work().join("project"), 0o755);
    let ends = [
        ("pass", false),
        ("raise ValueError", false),
        ("import os; os.kill(os.getpid(), 9)", false),
        ("import os; os.unlink(__file__)", false),
        ("import os; os.chdir('/'); os.umask(0o777)", false),
        ("import time; time.sleep(600)", true),
    ];
    let mut client = daemon.run("");
    for path in ["", "project"] {
        for (end, stop) in ends {
            let code = format!("print(__file__)\n{end}");
            client.start("1", json!({"runner": "python3", "code": code, "path": path}));
            let file = PathBuf::from(&client.wait_lines("1", 1)[0]);
            if stop {
                client.stop("1");
            }
            client.wait_stopped("1");
            assert!(!file.exists(), "{end}");
        }
    }
    client.start("1", json!({"runner": "python3", "code": "print(__file__); input()", "path": "project"}));
    let file = PathBuf::from(&client.wait_lines("1", 1)[0]);
    assert!(file.exists());
    drop(client);
    wait_until(DEADLINE, "the file is removed after a disconnect", || !file.exists());
    assert!(daemon.work().join("project").exists());
    assert_eq!(daemon.temporary_files(), Vec::<PathBuf>::new());
}

/// D16 in spirit: numbers are chosen by the daemon, so they must not hit what the user has.
#[test]
fn a_file_of_the_user_is_never_overwritten_or_removed() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let project = daemon.work().join("project");
    directory_for(&pi, &project, 0o755);
    for number in 1..=999 {
        file_for(&pi, &project.join(format!("{number}.py")), "mine", 0o644);
    }
    let mut client = daemon.run("");
    // No free number of three digits: a failed start would be as good as a longer number.
    let data = json!({"runner": "python3", "code": "print('ran')", "path": "project"});
    if client.try_start("1", data).is_ok() {
        assert_eq!(client.wait_stopped("1"), 0);
    }
    for number in 1..=999 {
        assert_eq!(fs::read_to_string(project.join(format!("{number}.py"))).unwrap(), "mine");
    }
}

/// Two runs in one directory at the same time.
#[test]
fn concurrent_runs_have_files_of_their_own() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let mut files = Vec::new();
    for number in 0..12 {
        let id = number.to_string();
        let code = format!(
            "print(__file__)\ninput()\nprint(open(__file__).read().endswith('#{number}'))\n#{number}"
        );
        client.start(&id, json!({"runner": "python3", "code": code, "path": "shared"}));
        files.push(client.wait_lines(&id, 1).remove(0));
    }
    for number in 0..12 {
        let id = number.to_string();
        client.stdin(&id, "\n");
        assert_eq!(client.wait_stopped(&id), 0);
        assert_eq!(client.wait_lines(&id, 2)[1], "True");
    }
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 12);
}
