//! Who a program runs as: ids, groups, environment, and what it must not inherit.
//!
//! Items B7.1, B7.2, B7.5, B6.6, with D15 (environment) and D24 (identity from the environment). What the
//! program is, is read from outside, in /proc. Who may run at all is in `users_allowed.rs`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::collections::BTreeMap;

use further_link_tests::accounts::{self, Account};
use further_link_tests::processes::{Process, Status, descriptors};
use further_link_tests::programs::{program, python, script};
use further_link_tests::{Client, Daemon};

/// A daemon that lets everybody in question run.
fn open_daemon() -> Daemon {
    Daemon::builder().allow_users(&["pi", "linkother", "root"]).start()
}

/// Queries with the account that they select, with and without a terminal.
fn cases() -> Vec<(String, Account)> {
    let named = ["pi", "linkother", "root"].map(|name| (format!("user={name}"), accounts::account(name)));
    let mut cases = vec![("x=1".to_owned(), accounts::pi()), ("user=%70%69".to_owned(), accounts::pi())];
    cases.extend(named);
    let on_terminals: Vec<_> =
        cases.iter().map(|(query, account)| (format!("{query}&pty=1"), account.clone())).collect();
    cases.extend(on_terminals);
    cases
}

/// Starts `cat`, which does nothing to what it inherits, and finds it when it has opened and closed its
/// libraries.
#[track_caller]
fn cat(daemon: &Daemon, client: &mut Client) -> Process {
    client.start_cat("cat");
    daemon.process_named("cat")
}

#[track_caller]
fn end(client: &mut Client) {
    client.stop("cat");
    assert_eq!(client.wait_stopped("cat"), -15);
}

/// B7.1, B7.2
#[test]
fn a_program_has_the_ids_and_groups_of_its_user() {
    let daemon = open_daemon();
    for (query, account) in cases() {
        let mut client = daemon.run(&query);
        let status = Status::of(cat(&daemon, &mut client).pid);
        assert_eq!(status.numbers("Uid"), [u64::from(account.uid); 4], "{query}");
        assert_eq!(status.numbers("Gid"), [u64::from(account.gid); 4], "{query}");
        assert_eq!(status.groups(), account.groups, "{query}");
        end(&mut client);
    }
    assert!(accounts::pi().groups.len() > 1, "pi should be in a supplementary group");
}

/// No capabilities for anyone but root. sudo must work, so new privileges stay possible.
#[test]
fn only_root_has_capabilities_and_nobody_is_barred_from_sudo() {
    let daemon = open_daemon();
    let own = Status::of(i32::try_from(std::process::id()).unwrap());
    for (query, account) in cases() {
        let mut client = daemon.run(&query);
        let status = Status::of(cat(&daemon, &mut client).pid);
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let expected = if account.uid == 0 { own.mask(name) } else { 0 };
            assert_eq!(status.mask(name), expected, "{name} with {query}");
        }
        assert_eq!(status.mask("CapBnd"), own.mask("CapBnd"), "{query}");
        assert_eq!(status.text("NoNewPrivs"), "0", "{query}");
        end(&mut client);
    }
}

/// Umask 022, default signal dispositions and mask.
#[test]
fn signals_and_umask_are_the_default() {
    let daemon = open_daemon();
    for (query, _) in cases() {
        let mut client = daemon.run(&query);
        let status = Status::of(cat(&daemon, &mut client).pid);
        for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
            assert_eq!(status.mask(name), 0, "{name} with {query}");
        }
        assert_eq!(status.text("Umask"), "0022", "{query}");
        end(&mut client);
    }
}

/// B6.6: also when others run, whose pipes a careless daemon would pass on.
#[test]
fn only_descriptors_0_1_and_2_are_open() {
    let daemon = open_daemon();
    let mut others: Vec<Client> = ["", "pty=1"].map(|query| daemon.run(query)).into();
    for other in &mut others {
        for number in 0..3 {
            other.start(&number.to_string(), python("input()"));
        }
    }
    for (query, _) in cases() {
        let mut client = daemon.run(&query);
        let open = descriptors(cat(&daemon, &mut client).pid);
        assert_eq!(open.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{query}: {open:?}");
        let on_terminal = query.contains("pty");
        for target in open.values() {
            let kind = if on_terminal { "/dev/pts/" } else { "pipe:" };
            assert!(target.starts_with(kind), "{query}: {open:?}");
        }
        end(&mut client);
    }
}

/// B6.6
#[test]
fn a_program_leads_a_session_and_a_group() {
    let daemon = open_daemon();
    for (query, _) in cases() {
        let mut client = daemon.run(&query);
        let process = cat(&daemon, &mut client);
        assert_eq!((process.group, process.session), (process.pid, process.pid), "{query}");
        let foreground = if query.contains("pty") { process.pid } else { -1 };
        assert_eq!(process.foreground, foreground, "{query}");
        end(&mut client);
    }
}

/// What `env` prints: the environment as it was at the start.
#[track_caller]
fn environment(client: &mut Client) -> BTreeMap<String, String> {
    let finished = client.run("env", program("/usr/bin/env"));
    assert_eq!(finished.exit_code, 0, "{finished:?}");
    finished
        .stdout
        .lines()
        .map(|line| line.split_once('=').unwrap())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// B7.5: HEAD's variables too. Programs of this runner start in their own directory.
#[test]
fn the_environment_describes_the_user() {
    let daemon = open_daemon();
    for (query, account) in cases() {
        let seen = environment(&mut daemon.run(&query));
        let get = |name: &str| seen.get(name).map(String::as_str);
        assert_eq!(get("HOME"), account.home.to_str(), "{query}");
        assert_eq!(get("SHELL"), account.shell.to_str(), "{query}");
        assert_eq!((get("USER"), get("LOGNAME")), (Some(account.name.as_str()), Some(account.name.as_str())));
        assert_eq!(get("TERM"), Some("xterm-256color"), "{query}");
        assert_eq!(get("PWD"), Some("/usr/bin"), "{query}");
        assert_eq!(get("FURTHER_LINK_TEMP_DIR"), daemon.temp().to_str(), "{query}");
        let path: Vec<&str> = get("PATH").unwrap().split(':').collect();
        assert!(path.contains(&"/usr/bin") && path.contains(&"/bin"), "{path:?}");
        let runtime = accounts::runtime_directory(account.uid);
        assert_eq!(get("XDG_RUNTIME_DIR"), runtime.to_str().filter(|_| runtime.exists()), "{query}");
    }
    assert!(accounts::runtime_directory(accounts::other().uid).exists());
}

/// B7.5: PWD is the directory the program starts in.
#[test]
fn pwd_is_the_working_directory() {
    let daemon = Daemon::start();
    let code = "import os; print(os.environ['PWD'] == os.getcwd(), os.getcwd())";
    let mut client = daemon.run("");
    assert_eq!(client.run("1", python(code)).stdout.trim(), format!("True {}", daemon.temp().display()));
    let data = serde_json::json!({"runner": "python3", "code": code, "path": "deep/er"});
    assert_eq!(
        client.run("1", data).stdout.trim(),
        format!("True {}", daemon.work().join("deep/er").display())
    );
}

/// D15: a list of what may be there, so that a new secret need not be thought of.
#[test]
fn nothing_else_of_the_daemons_environment_is_inherited() {
    let secrets = [
        ("API_TOKEN", "secret-1"),
        ("AWS_SECRET_ACCESS_KEY", "secret-2"),
        ("NOTIFY_SOCKET", "/run/secret-3"),
        ("INVOCATION_ID", "secret-4"),
        ("JOURNAL_STREAM", "8:secret-5"),
        ("CREDENTIALS_DIRECTORY", "/run/secret-6"),
        ("PYTHONPATH", "/secret-7"),
        ("BASH_ENV", "/secret-8"),
        ("LD_LIBRARY_PATH", "/secret-9"),
        ("IFS", "secret-10"),
        ("FURTHER_LINK_SECRET", "secret-11"),
        ("XDG_CONFIG_HOME", "/secret-12"),
        ("SSH_AUTH_SOCK", "/secret-13"),
    ];
    let mut builder = Daemon::builder().allow_users(&["pi", "linkother", "root"]);
    for (name, value) in secrets {
        builder = builder.environment(name, value);
    }
    let daemon = builder.start();
    let expected = [
        "FURTHER_LINK_CHANNEL",
        "DISPLAY",
        "FURTHER_LINK_TEMP_DIR",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "PATH",
        "PWD",
        "PYTHONPATH",
        "SHELL",
        "TERM",
        "TZ",
        "USER",
        "XDG_RUNTIME_DIR",
    ];
    for (query, _) in cases() {
        let seen = environment(&mut daemon.run(&query));
        for (name, value) in &seen {
            assert!(
                expected.contains(&name.as_str()) || name.starts_with("LC_"),
                "{name}={value} with {query}"
            );
            assert!(!value.contains("secret"), "{name}={value} with {query}");
        }
        assert_eq!(seen.get("LANG").map(String::as_str), Some("C.UTF-8"), "{query}");
    }
}

/// Input comes as UTF-8 and output is read as UTF-8, whatever the locale of the image (F1).
#[test]
fn programs_speak_utf_8_in_the_language_of_the_machine() {
    // The first two are not generated on most machines: then there is no language to keep.
    for (name, value) in [("LANG", "de_DE"), ("LC_ALL", "en_US"), ("LANG", "C"), ("LANG", "")] {
        let daemon = Daemon::builder().environment(name, value).start();
        let seen = environment(&mut daemon.run(""));
        assert!([value, "C.UTF-8"].contains(&seen["LANG"].as_str()), "{name}={value}: {seen:?}");
        assert!(!seen.contains_key("LC_ALL"), "{seen:?}");
        let mut client = daemon.run("");
        let code = "import sys; print('Gr\u{fc}\u{df}e 5 \u{20ac}', sys.stdin.encoding, ascii(input()))";
        client.start("1", python(code));
        client.stdin("1", "\u{fc}\u{20ac}\n");
        client.wait_stdout("1", "Gr\u{fc}\u{df}e 5 \u{20ac} utf-8 '\\xfc\\u20ac'\n");
        let bash = "#!/bin/bash\nx=Gr\u{fc}\u{df}e; echo ${#x} ${x:0:3}\n";
        assert_eq!(daemon.run_once(script(bash)).stdout, "5 Gr\u{fc}\n", "{name}={value}");
    }
}

/// The PATH of a service is no person's: it has no games, and sbin (F4).
#[test]
fn a_service_gives_programs_the_path_of_a_login() {
    let service = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
    let daemon = Daemon::builder().allow_users(&["pi", "root"]).environment("PATH", service).start();
    let seen = environment(&mut daemon.run(""));
    assert!(seen["PATH"].ends_with("/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"), "{seen:?}");
    let seen = environment(&mut daemon.run("user=root"));
    assert!(
        seen["PATH"].ends_with("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "{seen:?}"
    );
}

/// As the package's units do it: names that are given, and no others.
#[test]
fn variables_that_the_administrator_names_reach_programs() {
    let daemon = Daemon::builder()
        .environment("FURTHER_LINK_PASS_ENV", "PIP_INDEX_URL, HTTP_PROXY")
        .environment("PIP_INDEX_URL", "http://pypi/")
        .environment("HTTP_PROXY", "http://proxy/")
        .environment("PIP_PASSWORD", "secret")
        .start();
    let seen = environment(&mut daemon.run(""));
    let get = |name: &str| seen.get(name).map(String::as_str);
    assert_eq!(get("PIP_INDEX_URL"), Some("http://pypi/"));
    assert_eq!(get("HTTP_PROXY"), Some("http://proxy/"));
    assert_eq!((get("PIP_PASSWORD"), get("FURTHER_LINK_PASS_ENV")), (None, None));
}

/// A school's proxies stand in /etc/environment; a login has them, and so have programs (G3).
#[test]
fn the_variables_of_the_machine_are_given_to_programs_and_override_none_of_the_accounts() {
    let file = std::env::temp_dir().join(format!("further-link-tests-environment.{}", std::process::id()));
    std::fs::write(&file, "export http_proxy=\"http://proxy:3128\" # the school's\nHOME=/nowhere\n").unwrap();
    let mount = "mount --bind \"$0\" /etc/environment && exec \"$@\"";
    let wrapper = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", mount, file.to_str().unwrap()];
    let daemon = Daemon::builder().wrapped_in(&wrapper).start();
    for query in ["", "pty=1"] {
        let seen = environment(&mut daemon.run(query));
        assert_eq!(seen.get("http_proxy").map(|value| value.trim()), Some("http://proxy:3128"), "{seen:?}");
        assert_eq!(seen.get("HOME").map(|home| home.trim()), accounts::pi().home.to_str(), "{seen:?}");
    }
    std::fs::remove_file(&file).unwrap();
}

/// A path that begins with a tilde is in the home, as in a shell: no directory of that name is made (F8).
#[test]
fn a_tilde_is_the_home_of_the_user() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", serde_json::json!({"runner": "shell", "path": "~"}));
    client.stdin("1", "pwd; exit\n");
    client.wait_stdout("1", &format!("{}\n", accounts::pi().home.display()));
    assert!(!daemon.work().join("~").exists());
}

/// D24: the daemon believes the kernel, not its environment.
#[test]
fn names_in_the_daemons_environment_do_not_change_who_runs() {
    let names = ["USER", "LOGNAME", "SUDO_USER", "USERNAME"];
    for claimed in ["pi", "root"] {
        let mut builder = Daemon::builder().environment("HOME", "/root").environment("SUDO_UID", "0");
        for name in names {
            builder = builder.environment(name, claimed);
        }
        let daemon = builder.start();
        let shown = daemon.run_once(program("/usr/bin/id"));
        assert!(shown.stdout.starts_with(&format!("uid={}(pi)", accounts::pi().uid)), "{shown:?}");
    }
}

/// Root itself, when allowed, is really root.
#[test]
fn an_allowed_root_may_do_what_root_may() {
    let daemon = open_daemon();
    let code = "import os\nprint(os.getuid(), len(open('/etc/shadow').read()) > 0, os.environ['HOME'])";
    let finished = daemon.run("user=root").run("1", python(code));
    assert_eq!(finished.stdout, "0 True /root\n", "{finished:?}");
    let finished = daemon.run("user=pi").run("1", python("open('/etc/shadow')"));
    assert!(finished.stderr.contains("PermissionError"), "{finished:?}");
}
