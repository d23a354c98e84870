//! Languages: every runner of the package does what the tests in its file say, as a client sees it; and what
//! a runner file can and cannot do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use further_link_runners::{Folder, Runner, Test, Trust, list};
use further_link_tests::daemon::Builder;
use further_link_tests::wait::{DEADLINE, wait_until};
use further_link_tests::{Client, Daemon, binaries};
use serde_json::{Value, json};

/// What every machine that tests has (tests/packages.txt).
const QUICK: [&str; 14] = [
    "awk",
    "bash",
    "c",
    "cpp",
    "exec",
    "javascript",
    "lua",
    "perl",
    "php",
    "python3",
    "ruby",
    "shell",
    "sqlite",
    "tcl",
];
/// Set by `tests/run --languages`: nothing may be missing.
const ALL: &str = "FURTHER_LINK_TEST_LANGUAGES";
/// Some compilers take their time, and several run at once.
const LIMIT: Duration = Duration::from_secs(100);

pub(crate) fn client(daemon: &Daemon) -> Client {
    let mut client = daemon.run("");
    client.hello(None);
    client
}

/// A daemon with the package's runners, and these before them.
pub(crate) fn daemon_with(files: &[(&str, &str)]) -> Daemon {
    let builder = Daemon::builder();
    let folder = builder.scratch().root().join("runners.d");
    with_runners(builder, &folder, files)
}

/// The same of this builder, with this folder.
pub(crate) fn with_runners(builder: Builder, folder: &Path, files: &[(&str, &str)]) -> Daemon {
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for (id, rest) in files {
        write_runner(folder, id, rest);
    }
    let dirs = format!("--runners-dirs={},{}", folder.display(), binaries::runners().display());
    builder.argument(&dirs).start()
}

fn write_runner(folder: &Path, id: &str, rest: &str) {
    let file = folder.join(format!("{id}.toml"));
    fs::write(&file, format!("id = \"{id}\"\ntitle = \"The {id}\"\n{rest}")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

/// The failure of a start, after its fixed words.
#[track_caller]
fn refused(client: &mut Client, data: Value) -> String {
    let text = client.try_start("refused", data).unwrap_err();
    text.strip_prefix("Message Exception: cannot start the program: ").unwrap_or(&text).to_owned()
}

/// The runners of the package.
fn package() -> Vec<Runner> {
    let trust = Trust::also(fs::metadata(binaries::runners()).unwrap().uid());
    let (runners, errors) = list(&[Folder::new(binaries::runners())], trust);
    assert!(errors.is_empty(), "{errors:?}");
    runners
}

/// What is wrong with one test of a runner, seen through a daemon.
fn tried(client: &mut Client, runner: &Runner, test: &Test, id: &str) -> Result<(), String> {
    let mut data = json!({"runner": runner.id, "args": test.args});
    if runner.entry.is_some() {
        data["code"] = json!(test.code);
    }
    client.try_start(id, data)?;
    let input = json!({"type": "stdin", "process": id, "data": {"input": test.stdin, "end": true}});
    client.send(&input);
    let exit = client.wait_stopped_within(LIMIT, id);
    // It may have ended before its input came.
    client.ping();
    client.take_errors();
    let (stdout, stderr) = (client.stdout(id), client.stderr(id));
    let seen = format!("exit {exit}, stdout {stdout:?}, stderr {stderr:?}");
    let is_right = exit == i64::from(test.exit)
        && test.stdout.as_ref().is_none_or(|expected| *expected == stdout)
        && test.stderr.as_ref().is_none_or(|expected| stderr.contains(expected));
    if is_right { Ok(()) } else { Err(format!("{}, {}: {seen}; expected {test:?}", runner.id, test.name)) }
}

#[test]
fn every_language_that_is_installed_does_what_its_file_says() {
    let daemon = Daemon::start();
    let listed = daemon.run("").hello(None)["runners"].take();
    let is_there =
        |id: &str| listed.as_array().unwrap().iter().any(|one| one["id"] == id && one["available"] == true);
    let (there, missing): (Vec<_>, Vec<_>) = package().into_iter().partition(|runner| is_there(&runner.id));
    for runner in &missing {
        eprintln!("SKIPPED: {} is not installed here, so NOTHING of it was tried", runner.title);
        let must = QUICK.contains(&runner.id.as_str()) || std::env::var_os(ALL).is_some();
        assert!(!must, "{} is not installed: {:?}", runner.title, runner.hint);
    }
    let (first, second) = there.split_at(there.len() / 2);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves = [first, second].map(|half| {
            scope.spawn(|| {
                let mut client = client(&daemon);
                let mut failures = Vec::new();
                for (number, (runner, test)) in half
                    .iter()
                    .flat_map(|runner| runner.tests.iter().map(move |test| (runner, test)))
                    .enumerate()
                {
                    failures.extend(tried(&mut client, runner, test, &number.to_string()).err());
                }
                failures
            })
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A "compiler" that says something, and copies the text.
const COPIES: &str = r#"
entry = "{number}.x"
requires = ["sh"]
[compile]
argv = ["sh", "-c", 'echo compiling; echo warned >&2; cp "$1" "$2"; chmod +x "$2"', "sh", "{file}", "{out}"]
[run]
argv = ["{out}", "{args}"]
"#;

#[test]
fn what_the_compiler_says_is_told_apart_and_comes_before_the_program() {
    let daemon = daemon_with(&[("copies", COPIES)]);
    let mut client = client(&daemon);
    let code = "#!/bin/sh\necho \"$1\"; echo of the program >&2; exit 5\n";
    let data = json!({"runner": "copies", "code": code, "args": ["a b"]});
    let finished = client.run("1", data.clone());
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (5, "a b\n"));
    let output = |message: &&Value| message["type"] == "stderr" || message["type"] == "stdout";
    let said: Vec<Value> = client.messages().filter(output).cloned().collect();
    let of_compiler = said.iter().take_while(|message| message["data"]["stage"] == "compile").count();
    assert!(of_compiler > 0 && said[of_compiler..].iter().all(|message| message["data"]["stage"].is_null()));
    let text =
        |said: &[Value]| said.iter().map(|one| one["data"]["output"].as_str().unwrap()).collect::<String>();
    assert_eq!(text(&said[..of_compiler]), "compiling\nwarned\n");
    // A kept program is told apart as well.
    let mut kept = data;
    kept["keep"] = json!({"seconds": 60});
    client.start("2", kept);
    client.wait_stopped("2");
    let staged = |message: &Value| message["process"] == "2" && message["data"]["stage"] == "compile";
    assert!(client.messages().any(staged));
    // On a terminal it is the terminal's output.
    let mut terminal = daemon.run("pty=1");
    terminal.hello(None);
    let finished = terminal.run("1", json!({"runner": "copies", "code": code, "args": ["t"]}));
    assert_eq!(finished.stdout, "compiling\r\nwarned\r\nt\r\nof the program\r\n");
    assert_eq!(daemon.temporary_files(), Vec::<PathBuf>::new(), "what was made is gone");
}

#[test]
fn a_compiler_that_fails_hangs_or_leaves_a_process_ends_as_it_should() {
    let compiler = |script: &str| {
        format!(
            "entry = \"x\"\n[compile]\nseconds = 2\n\
             argv = [\"sh\", \"-c\", '{script}', \"sh\", \"{{file}}\", \"{{out}}\"]\n[run]\nargv = [\"{{out}}\"]\n"
        )
    };
    let (fails, dies) = (compiler("echo no good >&2; exit 4"), compiler("kill -9 $$"));
    let (hangs, makes_nothing) = (compiler("echo begins; exec sleep 1000"), compiler("true"));
    let leaves = compiler(r#"sleep 1000 & cp "$1" "$2"; chmod +x "$2""#);
    let floods = compiler(r#"yes & cp "$1" "$2"; chmod +x "$2""#);
    let daemon = daemon_with(&[
        ("fails", &fails),
        ("dies", &dies),
        ("hangs", &hangs),
        ("nothing", &makes_nothing),
        ("leaves", &leaves),
        ("floods", &floods),
    ]);
    let mut client = client(&daemon);
    for (id, exit, said) in [
        ("fails", 4, "no good\n"),
        ("dies", 137, "further-link: the compiler was ended by signal 9\n"),
        ("hangs", 124, "begins\nfurther-link: the compiler took longer than 2 seconds, and was ended\n"),
        ("nothing", 126, "further-link: cannot execute the program: "),
    ] {
        let finished = client.run(id, json!({"runner": id, "code": "#!/bin/sh\necho ran\n"}));
        assert_eq!((finished.exit_code, finished.stdout.as_str()), (exit, ""), "{id}: {}", finished.stderr);
        assert!(finished.stderr.starts_with(said), "{id}: {:?}", finished.stderr);
    }
    let finished = client.run("leaves", json!({"runner": "leaves", "code": "#!/bin/sh\necho ran\n"}));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "ran\n"));
    // What it has left may write for ever: the program is heard all the same.
    client.start("floods", json!({"runner": "floods", "code": "#!/bin/sh\necho ran\nread word\n"}));
    client.wait_stdout("floods", "ran\n");
    client.stop("floods");
    assert_eq!(client.wait_stopped("floods"), -15);
    client.start("stop", json!({"runner": "hangs", "code": ""}));
    client.read_until(DEADLINE, "the compiler", |client| client.stderr("stop") == "begins\n");
    client.stop("stop");
    assert_eq!(client.wait_stopped("stop"), -15);
}

#[test]
fn a_compiler_that_is_not_there_is_no_start_and_says_what_to_install() {
    let file = "entry = \"x\"\nhint = \"install it\"\n[compile]\nargv = [\"no-such-compiler\"]\n[run]\nargv = [\"{out}\"]\n";
    let daemon = daemon_with(&[("uncompiled", file)]);
    let mut client = client(&daemon);
    client.send_start("1", json!({"runner": "uncompiled", "code": ""}));
    let said = client.next_error();
    assert!(said.ends_with("install it"), "{said}");
    assert_eq!(
        client.run("1", json!({"runner": "exec", "code": "#!/bin/sh\n"})).exit_code,
        0,
        "the id is free"
    );
    assert_eq!(daemon.temporary_files(), Vec::<PathBuf>::new());
}

#[test]
fn arguments_and_variables_arrive_as_they_are() {
    let daemon = Daemon::start();
    let mut client = client(&daemon);
    let args: Vec<String> = (0..256)
        .map(|number| match number % 4 {
            0 => String::new(),
            1 => format!("a b {number}"),
            2 => format!("'\"$(id)\\{number}\n"),
            _ => format!("ü☃{{file}}{number}"),
        })
        .collect();
    let code = "import json, os, sys\n\
        print(json.dumps([sys.argv[1:], os.environ.get('GIVEN'), os.environ['LANG']]))";
    let env = json!({"GIVEN": "a=\"b\"\n", "LANG": "C"});
    let data = json!({"runner": "python3", "code": code, "args": args, "env": env});
    let seen: Value = serde_json::from_str(&client.run("1", data).stdout).unwrap();
    assert_eq!(seen, json!([args, "a=\"b\"\n", "C"]));
    for (wrong, said) in [
        (json!({"args": vec![""; 257]}), "more than 256 arguments"),
        (json!({"args": ["x".repeat(65_537)]}), "longer than 65536 bytes"),
        (json!({"args": ["a\0b"]}), "has a NUL in it"),
        (json!({"env": {"1X": ""}}), "\"1X\" is not the name of a variable"),
        (json!({"env": {"LD_PRELOAD": "x"}}), "the variable LD_PRELOAD cannot be chosen"),
    ] {
        let mut data = json!({"runner": "python3", "code": ""});
        data.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let text = refused(&mut client, data);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_language_of_ones_own_is_a_file_and_a_wrong_one_says_what_is_wrong() {
    let prints = "entry = \"{number}.mine\"\nextensions = [\"mine\"]\ninterpreters = [\"mine\"]\n\
        requires = [\"cat\"]\n[run]\nargv = [\"cat\", \"{file}\"]\n";
    let missing = "requires = [\"no-such-program\"]\nhint = \"sudo apt install it\"\nentry = \"x\"\n\
        [run]\nargv = [\"no-such-program\", \"{file}\"]\n";
    let daemon =
        daemon_with(&[("mine", prints), ("missing", missing), ("broken", "oops = 1\n"), ("open", prints)]);
    let folder = daemon.scratch().root().join("runners.d");
    fs::set_permissions(folder.join("open.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let mut client = client(&daemon);
    // Named, by the ending of a file, and by a first line.
    fs::write(daemon.work().join("a.mine"), "of a file").unwrap();
    for data in [json!({"runner": "mine", "code": "of a file"}), json!({"path": "a.mine"})] {
        assert_eq!(client.run("1", data).stdout, "of a file");
    }
    assert_eq!(client.run("1", json!({"code": "#!/usr/bin/env mine"})).stdout, "#!/usr/bin/env mine");
    let install = "The missing is not installed, or not in the PATH; on this device: sudo apt install it";
    for (data, said) in [
        (json!({"runner": "missing", "code": ""}), install),
        (
            json!({"runner": "broken", "code": ""}),
            "broken.toml, line 3: oops: is not a field of a runner file",
        ),
        (json!({"runner": "open", "code": ""}), "others can write it"),
        (json!({"runner": "cobolt", "code": ""}), "there is no runner \"cobolt\"; GET /runners lists"),
        (json!({"runner": "../mine", "code": ""}), "there is no runner"),
        (json!({"path": "a.unknown"}), "no runner is named"),
        (json!({"code": "print()"}), "no runner is named"),
        (json!({"runner": "~none", "code": ""}), "there is no runner \"~none\""),
    ] {
        let text = refused(&mut client, data);
        assert!(text.contains(said), "{text}");
    }
    // A file that is dropped in counts soon after.
    write_runner(&folder, "later", &prints.replace("mine\"", "later\""));
    wait_until(DEADLINE, "the file that was dropped in", || {
        client.try_start("later", json!({"runner": "later", "code": "x"})).is_ok()
    });
    client.wait_stopped("later");
    // A client that has not said hello knows the three of the original.
    let mut old = daemon.run("");
    assert_eq!(old.try_start("1", json!({"runner": "mine", "code": ""})).unwrap_err(), "Bad message");
}

#[test]
fn a_users_own_runner_has_a_tilde_and_no_other_user_may_write_it() {
    let daemon = Daemon::start();
    let mut client = client(&daemon);
    let make = "import os, sys\nfolder = os.path.expanduser('~/.config/further-link/runners.d')\n\
        os.makedirs(folder, exist_ok=True)\nopen(folder + '/further-link-test.toml', 'w').write(sys.argv[1])\n\
        print(folder, end='')";
    let text =
        "id = \"further-link-test\"\ntitle = \"Own\"\nentry = \"x\"\n[run]\nargv = [\"cat\", \"{file}\"]\n";
    let written = client.run("1", json!({"runner": "python3", "code": make, "args": [text]}));
    let folder = PathBuf::from(written.stdout);
    let own = json!({"runner": "~further-link-test", "code": "own"});
    assert_eq!(client.run("1", own.clone()).stdout, "own");
    let without = refused(&mut client, json!({"runner": "further-link-test", "code": ""}));
    assert!(without.contains("there is no runner"), "{without}");
    let file = folder.join("further-link-test.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let open = refused(&mut client, own);
    assert!(open.contains("no other user may write it"), "{open}");
    fs::remove_file(file).unwrap();
    // Folders that were made for this test.
    for folder in folder.ancestors().take(3) {
        let (Ok(()) | Err(_)) = fs::remove_dir(folder);
    }
}

#[test]
fn the_list_of_runners_says_what_there_is_and_what_to_install() {
    let missing =
        "requires = [\"no-such-program\"]\nhint = \"buy it\"\n[run]\nargv = [\"no-such-program\"]\n";
    let daemon = daemon_with(&[("lua", "disabled = true\n"), ("missing", missing)]);
    let listed: Value = serde_json::from_str(&daemon.http("GET", "/runners").body).unwrap();
    let of = |id: &str| listed["runners"].as_array().unwrap().iter().find(|one| one["id"] == id).cloned();
    assert_eq!(of("missing").unwrap()["hint"], "buy it");
    assert_eq!(of("bash").unwrap()["extensions"][0], "sh");
    assert!(of("lua").is_none(), "the administrator has taken it out");
    let text = refused(&mut client(&daemon), json!({"runner": "lua", "code": ""}));
    assert!(text.contains("there is no runner"), "{text}");
}

/// Makes a package without code but a name, as pip installs it without a network.
const WHEEL: &str = "import sys, zipfile
info = 'demo-1.0.dist-info/'
with zipfile.ZipFile('demo-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('demo.py', 'NAME = \"of the project\"')
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";

#[test]
fn a_project_has_packages_of_its_own_and_the_system_is_left_alone() {
    let daemon = Daemon::start();
    let mut client = client(&daemon);
    client.run("1", json!({"runner": "python3", "path": "project", "code": WHEEL}));
    let quiet = json!({"PIP_DISABLE_PIP_VERSION_CHECK": "1"});
    let wheel = "demo-1.0-py3-none-any.whl";
    let install = json!({"runner": "python3", "path": "project", "install": [wheel], "env": quiet});
    // Twice: the second time the environment is there.
    for _ in 0..2 {
        client.start("1", install.clone());
        let exit = client.wait_stopped_within(LIMIT, "1");
        assert_eq!(exit, 0, "{} {}", client.stdout("1"), client.stderr("1"));
    }
    fs::write(daemon.work().join("project/requirements.txt"), format!("./{wheel}\n")).unwrap();
    let mut required = install.clone();
    required["install"] = json!("requirements.txt");
    client.start("1", required);
    assert_eq!(client.wait_stopped_within(LIMIT, "1"), 0, "{}", client.stderr("1"));
    let shows = "import demo, PIL, sys; print(demo.NAME, sys.prefix != sys.base_prefix)";
    fs::write(daemon.work().join("project/shows.py"), shows).unwrap();
    for data in [
        json!({"runner": "python3", "path": "project", "code": shows}),
        json!({"path": "project/shows.py"}),
        json!({"runner": "python3", "code": shows, "venv": "project/.venv"}),
    ] {
        let finished = client.run("1", data);
        assert_eq!(finished.stdout, "of the project True\n", "{}", finished.stderr);
    }
    let plain = json!({"runner": "python3", "path": "elsewhere", "code": "import demo"});
    assert!(client.run("1", plain).stderr.contains("No module named 'demo'"));
    // What another user has laid there is not used.
    let planted = daemon.work().join("planted/.venv/bin");
    fs::create_dir_all(&planted).unwrap();
    rustix::fs::chown(&planted, Some(rustix::fs::Uid::from_raw(65_534)), None).unwrap();
    let prefix = json!({"runner": "python3", "path": "planted", "code": "import os; print(os.environ.get('VIRTUAL_ENV'))"});
    rustix::fs::chmod(daemon.work().join("planted").as_path(), 0o777.into()).unwrap();
    assert_eq!(client.run("1", prefix).stdout, "None\n");
    for (wrong, said) in [
        (json!({"code": "", "venv": "nowhere"}), "there is no such environment of packages"),
        (json!({"install": ["demo"]}), "install needs path"),
        (json!({"path": "p", "install": ["--break-system-packages"]}), "is no package to install"),
        (json!({"path": "p", "install": []}), "is no package to install"),
        (
            json!({"path": "p", "install": ["demo"], "runner": "lua"}),
            "Lua has no environments of packages here",
        ),
    ] {
        let mut data = json!({"runner": "python3"});
        data.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let text = refused(&mut client, data);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn the_version_of_a_language_is_in_a_later_list_and_asked_once() {
    let asked = std::env::temp_dir().join(format!("further-link-asked-{}", std::process::id()));
    let telling = |id: &str, script: &str| {
        let asked = asked.display();
        format!(
            "[run]\nargv = [\"true\"]\n[version]\n\
             argv = [\"sh\", \"-c\", '''echo {id} >>{asked}; {script}''']\n"
        )
    };
    let scripts = [
        ("tells", r"printf '\n  tells \033[1m1.0\nmore'"),
        ("errors", "echo errors 2.0 >&2"),
        ("fails", "echo no; exit 3"),
        ("hangs", "echo half; exec sleep 1000"),
        ("floods", "exec yes floods"),
        ("silent", "true"),
    ];
    let files: Vec<_> = scripts.iter().map(|(id, script)| (*id, telling(id, script))).collect();
    let files: Vec<_> = files.iter().map(|(id, rest)| (*id, rest.as_str())).collect();
    // One place for programs: a version takes none.
    let builder = Daemon::builder().argument("--max-programs=1");
    let folder = builder.scratch().root().join("runners.d");
    let daemon = with_runners(builder, &folder, &files);
    let mut client = daemon.run("");
    let hello = client.hello(None);
    assert!(!asked.exists(), "hello asks no program");
    let version = |list: &Value, id: &str| {
        let found = list["runners"].as_array().unwrap().iter().find(|runner| runner["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not listed"))["version"].clone()
    };
    assert_eq!(version(&hello, "tells"), Value::Null, "nothing waits for it");
    let list = || serde_json::from_str::<Value>(&daemon.http("GET", "/runners").body).unwrap();
    assert_eq!(version(&list(), "tells"), Value::Null, "nor does a list");
    client.start("1", json!({"runner": "tells"}));
    assert_eq!(client.wait_stopped("1"), 0);
    wait_until(DEADLINE, "the versions", || version(&list(), "python3") != Value::Null);
    let asked_of =
        |id: &str| fs::read_to_string(&asked).unwrap_or_default().lines().filter(|line| *line == id).count();
    wait_until(DEADLINE, "all to be asked", || scripts.iter().all(|(id, _)| asked_of(id) == 1));
    wait_until(DEADLINE, "the versions", || version(&list(), "errors") == "errors 2.0");
    wait_until(DEADLINE, "the versions", || version(&list(), "tells") != Value::Null);
    assert_eq!(version(&list(), "tells"), "tells [1m1.0");
    assert!(version(&list(), "python3").as_str().unwrap().starts_with("Python 3"));
    // The one that hangs is ended, and so is the flood.
    wait_until(DEADLINE, "nothing to run", || {
        !daemon.processes().iter().any(|process| ["sleep", "yes"].contains(&process.name.as_str()))
    });
    for id in ["fails", "hangs", "floods", "silent"] {
        assert_eq!((version(&list(), id), asked_of(id)), (Value::Null, 1), "{id}");
    }
    assert_eq!(version(&daemon.run("").hello(None), "errors"), "errors 2.0");
    fs::remove_file(asked).unwrap();
}
