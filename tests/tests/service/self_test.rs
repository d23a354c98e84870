//! `further-link self-test`: an administrator has the tests of the runner files run.
#![expect(
    clippy::disallowed_methods,
    reason = "the ban on Command is for the production crates; here the program runs as an administrator would run it"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use further_link_tests::{DEADLINE, Daemon, binaries, wait_until};
use serde_json::Value;

/// A daemon with these runners of its own, and the socket to ask it on.
fn daemon(files: &[(&str, &str)]) -> (Daemon, PathBuf) {
    let builder = Daemon::builder();
    let folder = builder.scratch().root().join("runners.d");
    fs::create_dir(&folder).unwrap();
    for (id, rest) in files {
        let text = format!("id = \"{id}\"\ntitle = \"The {id}\"\n{rest}");
        fs::write(folder.join(format!("{id}.toml")), text).unwrap();
    }
    let socket = builder.scratch().root().join("admin.sock");
    let daemon = builder
        .argument(&format!("--admin-socket={}", socket.display()))
        .argument(&format!("--runners-dirs={}", folder.display()))
        .start();
    (daemon, socket)
}

fn self_test(socket: &PathBuf, arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::frontend());
    command.args(["self-test", "--admin-socket"]).arg(socket).args(arguments).env_clear();
    command.output().unwrap()
}

const GOOD: &str = r#"
entry = "x.sh"
requires = ["sh"]
[run]
argv = ["sh", "{file}", "{args}"]
[[test]]
name = "all of it"
code = 'read line; echo "$line $1"; echo warned >&2; exit 3'
args = ["b"]
stdin = "a\n"
stdout = "a b\n"
stderr = "warn"
exit = 3
[[test]]
name = "it is the default user's"
code = "id -un"
stdout = "pi\n"
"#;
const BAD: &str = r#"
entry = "x.sh"
[run]
argv = ["sh", "{file}"]
[[test]]
name = "other output"
code = "echo one; echo why >&2; exit 4"
stdout = "two\n"
[[test]]
name = "signal"
code = "kill -9 $$"
[[test]]
name = "right"
code = "true"
[[test]]
name = "flood"
code = "exec yes"
"#;
const MISSING: &str = "requires = [\"no-such-program\"]\nhint = \"buy one\"\n[run]\nargv = [\"no-such-program\"]\n\
    [[test]]\nname = \"x\"\n";

#[test]
fn the_tests_of_runner_files_are_run_and_told() {
    let (_daemon, socket) = daemon(&[("good", GOOD), ("bad", BAD), ("missing", MISSING)]);
    let said = self_test(&socket, &["good", "missing"]);
    let table = String::from_utf8(said.stdout).unwrap();
    assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(0), &b""[..]), "{table}");
    let lines: Vec<_> = table.lines().collect();
    let [head, all, user, missing, "", sum] = lines[..] else { panic!("{table}") };
    assert!(head.starts_with("LANGUAGE") && all.starts_with("The good"), "{table}");
    assert!(all.contains("all of it") && all.contains("passed in") && user.contains("passed in"), "{table}");
    assert!(missing.starts_with("The missing") && missing.ends_with("not installed: buy one"), "{table}");
    assert_eq!(sum, "2 tests passed, 0 failed. 1 languages are not installed.");

    let said = self_test(&socket, &["--json"]);
    assert_eq!(said.status.code(), Some(1));
    let lines = String::from_utf8(said.stdout).unwrap();
    let answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong = |name: &str| {
        let found = answers.iter().find(|answer| answer["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {lines}"))["wrong"].clone()
    };
    let expected = "exit code 4 instead of 0; stdout \"one\\n\" instead of \"two\\n\"; stderr \"why\\n\"";
    assert_eq!(wrong("other output"), expected);
    assert_eq!(wrong("signal"), "signal 9 ended it");
    assert_eq!(wrong("right"), Value::Null);
    assert_eq!(wrong("flood"), "signal 13 ended it");
    assert_eq!(answers.len(), 7);
}

#[test]
fn who_cannot_be_served_is_told_what_to_do() {
    let (daemon, socket) = daemon(&[("good", GOOD), ("broken", "extensions = 7\n")]);
    let refused = |arguments: &[&str], socket| {
        let said = self_test(socket, arguments);
        assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(2), &b""[..]));
        String::from_utf8(said.stderr).unwrap()
    };
    let unknown = refused(&["good", "klingon"], &socket);
    assert!(unknown.contains("there is no runner \"klingon\"; GET /runners lists"), "{unknown}");
    let broken = refused(&["broken"], &socket);
    assert!(broken.contains("broken.toml, line 3: extensions: has to be a list"), "{broken}");
    let nobody = refused(&[], &daemon.scratch().root().join("none.sock"));
    assert!(nobody.contains("no further-link answers"), "{nobody}");
}

#[test]
fn a_test_ends_with_the_administrator_who_wanted_it() {
    let hangs = "entry = \"x.sh\"\n[run]\nargv = [\"sh\", \"{file}\"]\n[[test]]\nname = \"hangs\"\ncode = \"exec sleep 1000\"\n";
    let (daemon, socket) = daemon(&[("hangs", hangs)]);
    let mut command = Command::new(binaries::frontend());
    command.args(["self-test", "--admin-socket"]).arg(&socket).env_clear();
    let mut running = command.spawn().unwrap();
    let runs = || daemon.processes().iter().any(|process| process.name == "sleep");
    wait_until(DEADLINE, "the test", runs);
    running.kill().unwrap();
    running.wait().unwrap();
    wait_until(DEADLINE, "its end", || !runs());
}
