//! What a compiler made is used again while nothing has changed that it depends on, and only then.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use further_link_tests::accounts::pi;
use further_link_tests::wait::{DEADLINE, wait_until};
use further_link_tests::{Client, Daemon};
use serde_json::{Value, json};

use crate::languages::{client, daemon_with};

/// A "compiler" that puts a header before the text, and says how often it has run. The script has a name of
/// its own in each test, so that no other test's or day's work is used.
struct Compiler {
    daemon: Daemon,
    client: Client,
    runs: PathBuf,
    header: PathBuf,
}

impl Compiler {
    fn new(name: &str, says: &str) -> Self {
        let unique = format!("{name} {}", std::process::id());
        let runner = format!(
            r#"
entry = "{{number}}.x"
[compile]
argv = [
    "sh", "-c",
    '''{says}; echo run >>"$WORK/runs"; cat "$WORK/my header" "$1" >"$2"; chmod +x "$2"
    printf '%s: %s \\\n  %s\n' "$2" "$1" "$WORK/my\\ header" >"$3"''',
    "{unique}", "{{file}}", "{{out}}", "{{deps}}",
]
cache = true
[run]
argv = ["{{out}}", "{{args}}"]
"#
        );
        let daemon = daemon_with(&[("x", &runner)]);
        let client = client(&daemon);
        let (runs, header) = (daemon.work().join("runs"), daemon.work().join("my header"));
        write(&header, "#!/bin/sh\necho one\n");
        Self { daemon, client, runs, header }
    }

    /// What the program prints, and the compiler.
    #[track_caller]
    fn run(&mut self, mut data: Value) -> (String, String) {
        data["runner"] = json!("x");
        data["env"] = json!({"WORK": self.daemon.work()});
        let finished = self.client.run("1", data);
        assert_eq!(finished.exit_code, 0, "{finished:?}");
        (finished.stdout, finished.stderr)
    }

    /// How often the compiler has run.
    fn runs(&self) -> usize {
        fs::read_to_string(&self.runs).unwrap_or_default().lines().count()
    }
}

/// Writes a file, and lets the kernel's clock tick: what is made of a file in the tick of its change is not
/// kept.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let written = fs::metadata(file).unwrap().modified().unwrap();
    wait_until(DEADLINE, "the next tick", || {
        written.elapsed().is_ok_and(|age| age > Duration::from_millis(20))
    });
}

#[test]
fn unchanged_sources_are_compiled_once() {
    let mut compiler = Compiler::new("once", "true");
    let text = json!({"code": "echo \"two $1\"", "args": ["a"]});
    assert_eq!(compiler.run(text.clone()).0, "one\ntwo a\n");
    let again = json!({"code": "echo \"two $1\"", "args": ["b"]});
    assert_eq!((compiler.run(again).0, compiler.runs()), ("one\ntwo b\n".to_owned(), 1));
    // Another text, another file that it has read, another variable: each is compiled.
    assert_eq!(compiler.run(json!({"code": "echo three"})).0, "one\nthree\n");
    assert_eq!(compiler.runs(), 2);
    write(&compiler.header, "#!/bin/sh\necho 1\n");
    assert_eq!(compiler.run(text.clone()).0, "1\ntwo a\n");
    assert_eq!(compiler.runs(), 3);
    assert_eq!((compiler.run(text.clone()).0, compiler.runs()), ("1\ntwo a\n".to_owned(), 3));
    fs::remove_file(&compiler.header).unwrap();
    let mut data = text;
    data["runner"] = json!("x");
    data["env"] = json!({"WORK": compiler.daemon.work()});
    let finished = compiler.client.run("1", data);
    assert!(finished.stderr.contains("my header"), "{finished:?}");
    assert_eq!(compiler.daemon.temporary_files(), Vec::<PathBuf>::new());
}

#[test]
fn a_file_that_has_changed_is_compiled_again_and_one_that_has_not_is_not() {
    let mut compiler = Compiler::new("file", "true");
    let file = compiler.daemon.work().join("a.x");
    write(&file, "echo 2\n");
    for _ in 0..2 {
        assert_eq!(compiler.run(json!({"path": "a.x"})).0, "one\n2\n");
    }
    assert_eq!(compiler.runs(), 1);
    write(&file, "echo 3\n");
    assert_eq!((compiler.run(json!({"path": "a.x"})).0, compiler.runs()), ("one\n3\n".to_owned(), 2));
}

#[test]
fn what_the_compiler_has_said_is_said_again() {
    let mut compiler = Compiler::new("words", "echo warned");
    for _ in 0..2 {
        assert_eq!(compiler.run(json!({"code": "true"})), ("one\n".to_owned(), "warned\n".to_owned()));
        let is_staged =
            |message: &Value| message["type"] != "stderr" || message["data"]["stage"] == "compile";
        assert!(compiler.client.messages().all(is_staged));
        compiler.client.take_output();
    }
    let mut terminal = compiler.daemon.run("pty=1");
    terminal.hello(None);
    let data = json!({"runner": "x", "code": "true", "env": {"WORK": compiler.daemon.work()}});
    for _ in 0..2 {
        assert_eq!(terminal.run("1", data.clone()).stdout, "warned\r\none\r\n");
    }
    assert_eq!(compiler.runs(), 1);
    // More than is kept comes whole each time.
    let mut compiler = Compiler::new("many words", "yes | head -c 200000");
    for runs in 1..3 {
        assert_eq!(compiler.run(json!({"code": "true"})).1.len(), 200_000);
        assert_eq!(compiler.runs(), runs);
    }
}

#[test]
fn what_is_broken_in_the_store_is_compiled() {
    let mut compiler = Compiler::new("broken", "true");
    let folder = pi().home.join(".cache/further-link/compiled");
    let stored = |text: &str| {
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let ours = files.filter(|file| fs::read(file).is_ok_and(|bytes| contains(&bytes, text.as_bytes())));
        ours.collect::<Vec<_>>()
    };
    let unique = format!("echo broken {}", std::process::id());
    for cut in [0, 3, 40, usize::MAX] {
        compiler.run(json!({"code": unique}));
        let runs = compiler.runs();
        compiler.run(json!({"code": unique}));
        assert_eq!(compiler.runs(), runs, "it is there");
        let [file] = stored(&unique).try_into().unwrap();
        let bytes = fs::read(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, &bytes[..cut.min(bytes.len() - 1)]).unwrap();
        assert!(compiler.run(json!({"code": unique})).0.starts_with("one\nbroken"));
        assert_eq!(compiler.runs(), runs + 1);
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
