//! Who may run programs: the default user, and those the policy names.
//!
//! Items B3.6, B3.7 and B7.1, with D8 (an unknown user ran as root) and D9 (root by default). The daemon is
//! started as root, as `pi` and as another user. A refusal is one `error` in words, nothing runs, the
//! connection lives on.
#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use further_link_tests::daemon::Builder;
use further_link_tests::processes::Status;
use further_link_tests::programs::{program, python, shell};
use further_link_tests::{Client, DEADLINE, Daemon, accounts, wait_until};

/// Python that leaves a trace wherever it may run.
fn traced(trace: &Path) -> serde_json::Value {
    python(&format!("open({:?}, 'w').write('ran')", trace.to_str().expect("UTF-8")))
}

/// Every start on this connection is refused, in words, and nothing runs; the connection lives on.
#[track_caller]
fn assert_refused(daemon: &Daemon, client: &mut Client, what: &str) {
    let trace = daemon.temp().join("trace");
    for data in [traced(&trace), shell(), program("/usr/bin/id"), traced(&trace)] {
        // Always the same id: a refused start must not use it up, or the answer would be "Bad message".
        let error = client.try_start("1", data).expect_err(what);
        assert!(error.starts_with("Message Exception"), "{what}: {error}");
        client.expect_no_reply();
    }
    assert!(!trace.exists(), "{what}: it ran");
}

/// As [`assert_refused`], and the error says why.
#[track_caller]
fn assert_refused_in_words(daemon: &Daemon, query: &str) {
    let mut client = daemon.run(query);
    assert_refused(daemon, &mut client, query);
    let error = client.try_start("1", shell()).expect_err(query);
    let reason = error.strip_prefix("Message Exception: ").unwrap_or_default();
    assert!(reason.split_whitespace().count() >= 3, "{query}: {error:?} explains nothing");
}

#[track_caller]
fn who(daemon: &Daemon, query: &str) -> String {
    let finished = daemon.run(query).run("1", program("/usr/bin/id"));
    let name = finished.stdout.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    name.unwrap_or_else(|| unreachable!("{finished:?}")).0.to_owned()
}

/// B7.1, D9
#[test]
fn the_default_user_of_a_daemon_of_root_is_pi() {
    let daemon = Daemon::start();
    for query in ["", "user=pi", "pty=1", "other=1"] {
        assert_eq!(who(&daemon, query), "pi", "{query:?}");
    }
}

/// B3.7, D1, D8
#[test]
fn a_user_who_is_not_allowed_is_refused() {
    let daemon = Daemon::start();
    for query in ["user=root", "user=linkother", "user=nobody", "user=linkother&pty=1", "user=daemon"] {
        assert_refused_in_words(&daemon, query);
    }
    assert_eq!(who(&daemon, ""), "pi");
}

/// B3.7, D8: numbers are no names, and a name is not a path.
#[test]
fn a_user_who_does_not_exist_is_refused() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother", "nosuchuser", "root"]).start();
    let names = [
        "nosuchuser",
        "0",
        "1000",
        "-1",
        "4294967295",
        "%2B0",
        "ROOT",
        "Pi",
        "pi%20",
        "%20pi",
        "pi%00",
        "pi%0A",
        "..%2Fpi",
        "pi:root",
        "root%2Cpi",
        "%C3%BC",
        "%FF",
        "*",
    ];
    for name in names {
        assert_refused_in_words(&daemon, &format!("user={name}"));
    }
    let long = "p".repeat(3000);
    assert_refused_in_words(&daemon, &format!("user={long}"));
    assert_eq!(who(&daemon, "user=linkother"), "linkother");
}

/// B3.6
#[test]
fn an_empty_user_is_not_the_default() {
    let daemon = Daemon::builder().allow_users(&["pi", "root"]).start();
    for query in ["user=", "user", "pty=1&user="] {
        let mut client = daemon.run(query);
        assert_refused(&daemon, &mut client, query);
    }
}

/// docs/decisions.md: the option is the whole list, and can be given several times or with commas.
#[test]
fn allowed_users_may_run_and_no_others() {
    let daemon = Daemon::builder().allow_users(&["linkother", "pi,root"]).start();
    assert_eq!(who(&daemon, "user=linkother"), "linkother");
    assert_eq!(who(&daemon, "user=root&pty=1"), "root");
    assert_eq!(who(&daemon, "user=pi"), "pi");
    assert_eq!(who(&daemon, ""), "pi");
    assert_refused_in_words(&daemon, "user=daemon");
}

/// The same: where pi is not listed, the first who is becomes the default.
#[test]
fn without_pi_on_the_list_the_first_is_the_default_and_pi_is_refused() {
    let daemon = Daemon::builder().allow_users(&["linkother", "daemon"]).start();
    assert_eq!(who(&daemon, ""), "linkother");
    assert_refused_in_words(&daemon, "user=pi");
    assert_refused_in_words(&daemon, "user=root");
}

/// A daemon that pi starts; below it those of other users.
#[test]
fn a_daemon_of_pi_runs_programs_as_pi_alone() {
    // The option is not above the kernel: without privilege no other user can run.
    for builder in [Daemon::builder(), Daemon::builder().allow_users(&["pi", "linkother", "root"])] {
        let daemon = builder.run_as("pi").start();
        for process in daemon.processes() {
            assert_eq!(Status::of(process.pid).numbers("Uid"), [u64::from(accounts::pi().uid); 4]);
        }
        assert_eq!(who(&daemon, ""), "pi");
        assert_eq!(who(&daemon, "user=pi&pty=1"), "pi");
        for query in ["user=root", "user=linkother", "user=nosuchuser"] {
            assert_refused_in_words(&daemon, query);
        }
    }
}

/// The whole way once without any privilege: folders, terminals, stop, output.
#[test]
fn a_daemon_of_pi_does_all_the_rest_too() {
    let daemon = Daemon::builder().run_as("pi").start();
    let mut client = daemon.run("pty=1");
    client.start("1", serde_json::json!({"runner": "shell", "path": "my/project"}));
    client.stdin("1", "echo $((6 * 7)) $(pwd); id -G; stty size\r");
    client.wait_stdout("1", &format!("42 {}\r\n", daemon.work().join("my/project").display()));
    client.wait_stdout("1", "4 60\r\n");
    let groups: Vec<String> = accounts::pi().groups.iter().map(u64::to_string).collect();
    let stdout = client.stdout("1");
    let same = |line: &str| {
        let mut seen: Vec<&str> = line.split_whitespace().collect();
        seen.sort_by_key(|group| group.parse::<u64>().ok());
        seen == groups
    };
    assert!(stdout.lines().any(same), "{groups:?} not in {stdout:?}");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -9);
    assert_eq!(client.run("2", python("print('hi')")).stdout, "hi\r\n");
}

/// B7.1: `pi` exists, but an unprivileged daemon cannot become him. Its own user is no more than its user has
/// anyway.
#[test]
fn a_daemon_of_another_user_runs_programs_as_that_user_alone() {
    for builder in [Daemon::builder(), Daemon::builder().allow_users(&["linkother"])] {
        let daemon = builder.run_as("linkother").start();
        for query in ["", "user=linkother", "user=linkother&pty=1"] {
            assert_eq!(who(&daemon, query), "linkother", "{query}");
        }
        assert_refused_in_words(&daemon, "user=pi");
        assert_refused_in_words(&daemon, "user=root");
    }
}

/// D8: where the list names pi as the default, no other user runs in his place.
#[test]
fn a_daemon_that_cannot_become_its_default_user_refuses() {
    let daemon = Daemon::builder().run_as("linkother").allow_users(&["pi"]).start();
    assert_refused_in_words(&daemon, "");
    assert_refused_in_words(&daemon, "user=pi");
    assert_refused_in_words(&daemon, "user=linkother");
}

/// B7.1: on a machine without `pi`. In a mount namespace of its own the daemon sees a user database without
/// him.
#[test]
fn without_a_pi_the_default_user_is_whoever_started_the_daemon() {
    let everybody = fs::read_to_string("/etc/passwd").unwrap();
    for starter in ["root", "linkother"] {
        let mut builder = Daemon::builder();
        let passwd = builder.scratch().root().join("passwd");
        let others: Vec<&str> = everybody.lines().filter(|line| !line.starts_with("pi:")).collect();
        fs::write(&passwd, others.join("\n") + "\n").unwrap();
        let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
        builder = builder.wrapped_in(&["unshare", "--mount", "sh", "-c", script, passwd.to_str().unwrap()]);
        if starter != "root" {
            builder = builder.run_as(starter);
        }
        let daemon = builder.start();
        assert_eq!(who(&daemon, ""), starter);
        assert_eq!(who(&daemon, &format!("user={starter}&pty=1")), starter);
        assert_refused_in_words(&daemon, "user=pi");
        assert_refused_in_words(&daemon, "user=nobody");
    }
}

/// A daemon that sees a changed copy of a file of the machine, in a mount namespace. `edit` is for the shell:
/// `$0` is the copy.
fn over(builder: Builder, file: &str, edit: &str) -> Builder {
    let script = format!(
        "touch {file} && cp -p {file} \"$0\" && {{ {edit}; }} && mount --bind \"$0\" {file} && exec \"$@\""
    );
    let copy = builder.scratch().temp().join("copy");
    let unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &script];
    builder.wrapped_in(&[&unshared[..], &[copy.to_str().expect("UTF-8")]].concat())
}

/// R5: root by another name, in a list that forgot the token.
#[test]
fn another_name_of_root_runs_nothing_without_the_token() {
    let edit = "echo 'toor:x:0:0::/root:/bin/sh' >> \"$0\"";
    let daemon = over(Daemon::builder().allow_users(&["pi", "toor"]), "/etc/passwd", edit).start();
    let error = daemon.run("user=toor").try_start("1", shell()).expect_err("uid 0");
    assert!(error.contains("running programs as toor needs this device's token"), "{error}");
    assert_eq!(daemon.run_once(python("print(1)")).stdout, "1\n");
    assert!(daemon.log().text().contains("write toor:token in the list"), "{}", daemon.log().text());
}

/// R6: its programs could end the watchers of all runs.
#[test]
fn the_account_of_the_helper_is_no_user() {
    let edit = "echo 'further-link-exec:x:64998:64998::/:/bin/sh' >> \"$0\"";
    let builder = Daemon::builder().allow_users(&["pi", "further-link-exec"]);
    let (_, said) = over(builder, "/etc/passwd", edit).fail();
    assert!(said.contains("further-link-exec may not be an allowed user"), "{said}");
    assert!(said.contains("--allow-user \"pi,further-link-exec\" cannot be used: "), "{said}");
}

/// R6: a second name of an account is the same account.
#[test]
fn another_name_of_the_frontends_or_the_helpers_account_is_no_user_either() {
    // `nobody`, and the uid that the helper takes where the package's account does not exist (`demote`).
    for (uid, whose) in [(65_534, "the frontend runs"), (65_533, "the helper waits")] {
        let edit = format!("echo 'alias:x:{uid}:{uid}::/:/bin/sh' >> \"$0\"");
        let (_, said) = over(Daemon::builder().allow_users(&["pi", "alias"]), "/etc/passwd", &edit).fail();
        assert!(said.contains(&format!("alias may not be an allowed user: {whose}")), "{uid}: {said}");
    }
}

/// R5: as sshd and cron do. In mount namespaces, since these files are the machine's.
#[test]
fn accounts_that_an_administrator_has_switched_off_run_nothing() {
    let over = |file: &str, edit: &str| over(Daemon::builder(), file, edit).start();
    for (file, edit, reason) in [
        ("/etc/shadow", "sed -i 's/^pi:[^:]*:/pi:!$6$salt$hash:/' \"$0\"", "locked"),
        ("/etc/shadow", "sed -i 's/^pi:.*/pi:!:19000:0:99999:7::1:/' \"$0\"", "expired"),
        ("/etc/passwd", "sed -i '/^pi:/s#:[^:]*$#:/usr/sbin/nologin#' \"$0\"", "nologin"),
    ] {
        let daemon = over(file, edit);
        let error = daemon.run("").try_start("1", shell()).expect_err(reason);
        assert!(error.contains(reason), "{edit}: {error}");
    }
    let daemon = over("/etc/shadow", "sed -i 's/^pi:.*/pi:!:19000:0:99999:7::40000:/' \"$0\"");
    assert_eq!(
        daemon.run_once(python("print(1)")).stdout,
        "1\n",
        "no password is no lock, and there is time left"
    );
}

/// R5: what a spare has learned of an account counts as long as the machine's files are the same.
#[test]
fn an_account_that_is_switched_off_while_a_helper_waits_runs_nothing_from_then_on() {
    for (file, before, after) in [
        ("/etc/shadow", "pi:*:", "pi:!$6$salt$hash:"),
        ("/etc/passwd", "/home/pi:/bin/bash", "/home/pi:/usr/sbin/nologin"),
    ] {
        let edit = "sed -i 's#^pi:[^:]*:#pi:*:#' \"$0\"";
        let daemon = over(Daemon::builder(), file, if file == "/etc/shadow" { edit } else { ":" }).start();
        let copy = daemon.temp().join("copy");
        // Nothing is kept of a file that has only just been written.
        wait_until(DEADLINE, "the copy is old enough", || {
            let changed =
                UNIX_EPOCH + Duration::from_secs(fs::metadata(&copy).unwrap().ctime().unsigned_abs());
            changed.elapsed().is_ok_and(|age| age > Duration::from_secs(4))
        });
        assert_eq!(daemon.run_once(python("print(1)")).stdout, "1\n");
        // The frontend, the listening helper, and a spare's two processes.
        wait_until(DEADLINE, "a spare that has asked", || daemon.processes().len() == 4);
        assert_eq!(daemon.run_once(python("print(1)")).stdout, "1\n");
        wait_until(DEADLINE, "the next spare", || daemon.processes().len() == 4);
        let text = fs::read_to_string(&copy).unwrap();
        assert!(text.contains(before), "{file} is another one than this test knows: {text}");
        fs::write(&copy, text.replace(before, after)).unwrap();
        let error = daemon.run("").try_start("1", shell()).expect_err(after);
        assert!(error.contains("locked") || error.contains("nologin"), "{file}: {error}");
    }
}

/// R13, R6: lists that can only be mistakes.
#[test]
fn a_user_named_twice_or_as_the_frontend_is_refused_at_the_start() {
    let (_, said) = Daemon::builder().allow_users(&["root", "pi", "root"]).fail();
    assert!(said.contains("root is named twice"), "{said}");
    let (_, said) = Daemon::builder().allow_users(&["pi", "nobody"]).fail();
    assert!(said.contains("the frontend runs as this account; take it out"), "{said}");
}
