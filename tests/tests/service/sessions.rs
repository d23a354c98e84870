//! `further-link sessions`: an administrator lists, watches and ends kept programs by the local socket.
#![expect(
    clippy::disallowed_methods,
    reason = "the ban on Command is for the production crates; here the program runs as an administrator would run it"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "helpers of tests may fail the test"
)]

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use further_link_tests::client::ending;
use further_link_tests::daemon::{Builder, free_port};
use further_link_tests::log::Log;
use further_link_tests::programs::{program, python};
use further_link_tests::scratch::set_mode;
use further_link_tests::session::Session;
use further_link_tests::{Client, DEADLINE, Daemon, accounts, binaries, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SECRET: &str = "the secret of one client";

/// What a subcommand printed, and whether it worked.
#[derive(Debug)]
struct Said {
    worked: bool,
    stdout: String,
    stderr: String,
}

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.scratch().root().join("admin.sock")
}

fn builder() -> Builder {
    let builder = Daemon::builder();
    let socket = builder.scratch().root().join("admin.sock");
    builder.argument("--admin-socket").argument(socket.to_str().expect("a path in UTF-8"))
}

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::frontend());
    command.args(["sessions", "--admin-socket"]).arg(socket).args(arguments).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn output(command: &mut Command) -> Said {
    let output = command.output().expect("it can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { worked: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs it, which has to work, and returns what it printed.
#[track_caller]
fn works(socket: &Path, arguments: &[&str]) -> String {
    let said = output(&mut command(socket, arguments));
    assert!(said.worked && said.stderr.is_empty(), "{said:?}");
    said.stdout
}

/// Runs it, which must not work, and returns the one line that says why.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let said = output(command);
    assert!(!said.worked && said.stdout.is_empty(), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    said.stderr
}

fn client(daemon: &Daemon, query: &str, secret: &str) -> Client {
    let mut client = daemon.run(query);
    client.hello(Some(secret));
    client
}

fn kept(mut data: Value) -> Value {
    data["keep"] = json!({"seconds": 3600});
    data
}

fn viewers(client: &mut Client) -> Value {
    client.expect("viewers", |message| message["type"] == "viewers")["data"]["viewers"].take()
}

/// A watcher that runs.
struct Watcher {
    child: Child,
    stdout: Log,
}

impl Watcher {
    fn start(socket: &Path, id: &str) -> Self {
        let mut child = command(socket, &["watch", id]).spawn().expect("it can be started");
        let stdout = Log::gather(child.stdout.take().expect("a pipe"));
        Self { child, stdout }
    }

    /// Waits for its end, and returns what it said on standard error.
    #[track_caller]
    fn end(mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

#[test]
fn the_kept_programs_of_all_clients_are_listed_with_their_accounts() {
    let daemon = builder().start();
    let socket = socket(&daemon);
    assert_eq!(works(&socket, &[]), "No program is kept.\n");
    assert_eq!(works(&socket, &["--json"]).trim(), "[]");
    let mut one = client(&daemon, "user=pi", SECRET);
    let first = Session::start(&mut one, "1", kept(program("/usr/bin/cat")));
    let mut other = client(&daemon, "pty=1", "the secret of another client");
    let second = Session::start(&mut other, "1", kept(python("import sys; input(); sys.exit(3)")));
    other.start("not kept", program("/usr/bin/cat"));
    other.stdin("1", "\r");
    other.wait_stdout("1", "\r\n");
    drop(other);
    let listed = || -> Vec<Value> { serde_json::from_str(&works(&socket, &["--json"])).expect("JSON") };
    wait_until(DEADLINE, "the second one has ended", || {
        listed().iter().any(|session| session["exitCode"] == 3) || listed().len() == 1
    });
    let listed = listed();
    let of_first = &listed[0];
    assert_eq!((&of_first["session"], &of_first["user"]), (&json!(first.id), &json!("pi")));
    assert_eq!((&of_first["runner"], &of_first["path"]), (&json!("exec"), &json!("/usr/bin/cat")));
    assert_eq!((&of_first["state"], &of_first["viewers"]), (&json!("running"), &json!(1)));
    let table = works(&socket, &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("EXIT CODE"), "{table}");
    assert!(lines[1].starts_with(&first.id[..8]) && lines[1].contains(" pi "), "{table}");
    assert!(lines[1].contains("exec /usr/bin/cat") && lines[1].contains("running"), "{table}");
    if let Some(line) = lines.get(2) {
        assert!(line.starts_with(&second.id[..8]) && line.contains("(default)"), "{table}");
        assert!(line.contains("stopped") && line.ends_with('3'), "{table}");
    }
    assert!(!table.contains(SECRET) && !table.contains(&first.key), "{table}");
}

#[test]
fn who_watches_sees_screen_and_output_and_is_seen_and_in_the_log() {
    let daemon = builder().start();
    let socket = socket(&daemon);
    let mut owner = client(&daemon, "pty=1", SECRET);
    let sizes = "import os\nwhile True: print('typed', input(), *os.get_terminal_size(), flush=True)";
    let session = Session::start(&mut owner, "1", kept(python(sizes)));
    owner.stdin("1", "secret-one\r");
    owner.wait_stdout("1", "typed secret-one 60 4\r\n");
    let watcher = Watcher::start(&socket, &session.id[..10]);
    assert_eq!(viewers(&mut owner), 2);
    // A screen has no line end: what comes next brings one.
    owner.stdin("1", "secret-two\r");
    watcher.stdout.expect("typed secret-two 60 4");
    watcher.stdout.expect("typed secret-one 60 4");
    // Ctrl-C ends the watcher, and not the program.
    kill(Pid::from_raw(i32::try_from(watcher.child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(watcher.end(), "");
    assert_eq!(viewers(&mut owner), 1);
    owner.stdin("1", "secret-three\r");
    owner.wait_stdout("1", "typed secret-three 60 4\r\n");

    let again = Watcher::start(&socket, &session.id);
    assert_eq!(viewers(&mut owner), 2);
    owner.stdin("1", "secret-four\r");
    again.stdout.expect("typed secret-four 60 4");
    again.stdout.expect("typed secret-three 60 4");
    owner.stop("1");
    owner.wait_stopped("1");
    let said = again.end();
    assert_eq!(said, format!("{} has ended: exit code -15, stopped\n", session.id));

    let who = "a local administrator, uid 0, pid ";
    for line in ["attached to watch it", "detached, was attached to watch it", "has heard of its end"] {
        daemon.log().expect(&format!(": session {}: {line}", session.id));
        let log = daemon.log().text();
        let found = log.lines().any(|found| found.contains(who) && found.contains(line));
        assert!(found, "{line}: {log}");
    }
    let log = daemon.log().text();
    assert!(log.contains("connection 0 from 127.0.0.1: session "), "{log}");
    assert!(!log.contains("secret-"), "{log}");
}

/// Between two terminals: what the watched program asks the terminal must not become input of a shell.
#[test]
fn on_a_terminal_nothing_is_left_of_what_was_watched() {
    let daemon = builder().start();
    let mut owner = client(&daemon, "pty=1", SECRET);
    let code = "print('\\x1b[?1049h\\x1b[?1000hon the other screen', flush=True); input()";
    let session = Session::start(&mut owner, "1", kept(python(code)));
    // With the end of the line, which python writes by itself: a cursor behind the text is drawn apart.
    owner.wait_stdout("1", "on the other screen\r\n");
    let own = binaries::frontend();
    let watch = format!(
        "{} sessions --admin-socket {} watch {}; stty -a; cat",
        own.display(),
        socket(&daemon).display(),
        session.id
    );
    let mut terminal = Command::new("/usr/bin/script")
        .args(["--quiet", "--flush", "--command", &watch, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of Debian's bsdutils");
    let screen = Log::gather(terminal.stdout.take().unwrap());
    let mut keyboard = terminal.stdin.take().unwrap();
    let sees = |what: &str| screen.wait_for(DEADLINE, |text| text.contains(what).then_some(()));
    // Lines only, by which the log is gathered: the screen has none at its end.
    assert_eq!(viewers(&mut owner), 2);
    keyboard.write_all(b"\x1b[24;80Rrm -rf x").unwrap();
    keyboard.flush().unwrap();
    owner.stdin("1", "\r");
    owner.wait_stopped("1");
    assert!(sees("on the other screen").is_some(), "{}", screen.text());
    assert!(sees(" echo ").is_some() && sees(" icanon ").is_some(), "{}", screen.text());
    keyboard.write_all(b"typed later\r").unwrap();
    assert!(sees("typed later").is_some(), "{}", screen.text());
    drop(keyboard);
    assert!(terminal.wait().unwrap().success());
    let text = screen.text();
    assert!(text.contains("\x1b[?1049l") && !text.contains("rm -rf"), "{text:?}");
}

#[test]
fn an_administrator_ends_a_program_by_the_beginning_of_its_id() {
    let daemon = builder().start();
    let socket = socket(&daemon);
    let mut owner = client(&daemon, "", SECRET);
    let session = Session::start(&mut owner, "1", kept(program("/usr/bin/cat")));
    let other = Session::start(&mut owner, "2", kept(program("/usr/bin/cat")));
    let wrong = fails(&mut command(&socket, &["end", "no-such"]));
    assert!(wrong.contains("no kept program has an id that begins with \"no-such\""), "{wrong}");
    let several = fails(&mut command(&socket, &["end", ""]));
    assert!(several.contains("2 kept programs have ids that begin with \"\": write more"), "{several}");
    let mut length = 4;
    while other.id.starts_with(&session.id[..length]) {
        length += 1;
    }
    let said = works(&socket, &["end", &session.id[..length]]);
    assert_eq!(said, format!("{} has ended: exit code -15, stopped\n", session.id));
    let stopped = owner.expect("stopped", |message| message["type"] == "stopped");
    assert_eq!(stopped["process"], "1");
    assert_eq!(ending(&stopped), (-15, "stopped"));
    owner.stdin("2", "it runs on\n");
    owner.wait_stdout("2", "it runs on\n");
    // One whose end no client has heard of.
    drop(owner);
    daemon.log().expect(&format!("session {}: detached", other.id));
    assert!(works(&socket, &["end", &other.id]).contains("exit code -15, stopped"));
    let again = works(&socket, &["end", &other.id]);
    assert_eq!(again, format!("{} had ended before: exit code -15\n", other.id));
}

#[test]
fn whoever_watches_is_one_of_the_viewers() {
    let daemon = builder().argument("--max-viewers=1").start();
    let mut owner = client(&daemon, "", SECRET);
    let session = Session::start(&mut owner, "1", kept(program("/usr/bin/cat")));
    let said = fails(&mut command(&socket(&daemon), &["watch", &session.id]));
    assert!(said.contains("1 clients are attached to this session already"), "{said}");
    // There is always room to end it.
    works(&socket(&daemon), &["end", &session.id]);
    owner.wait_stopped("1");
}

fn as_stranger(daemon: &Daemon) -> Command {
    accounts::ensure();
    let copy = daemon.scratch().root().join("further-link");
    if !copy.exists() {
        binaries::copy(&binaries::frontend(), &copy);
    }
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=linkother", "--regid=linkother", "--init-groups", "--"]);
    command.arg(copy).args(["sessions", "--admin-socket"]).arg(socket(daemon)).env_clear();
    command
}

#[test]
fn another_account_is_refused_by_the_files_mode_and_by_its_uid() {
    let daemon = builder().start();
    let found = std::fs::metadata(socket(&daemon)).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600));
    let said = fails(&mut as_stranger(&daemon));
    assert!(said.contains("only root and the group further-link may use") && said.contains("sudo"), "{said}");
    set_mode(&socket(&daemon), 0o666);
    let said = fails(&mut as_stranger(&daemon));
    assert!(said.contains("the service has closed the connection; its log says why"), "{said}");
    let uid = accounts::account("linkother").uid;
    daemon.log().expect(&format!("no administrator: uid {uid}"));
    assert_eq!(works(&socket(&daemon), &[]), "No program is kept.\n");
}

#[test]
fn where_no_service_is_it_says_what_to_do() {
    let said = fails(&mut command(Path::new("/run/no-such-directory/admin.sock"), &[]));
    assert!(said.contains("start the service") && said.contains("--admin-socket"), "{said}");
    let mut daemon = builder().start();
    daemon.end_with(Signal::SIGTERM);
    let said = fails(&mut command(&socket(&daemon), &[]));
    assert!(said.contains("start the service"), "{said}");
    let said = fails(&mut command(&socket(&daemon), &["--json", "watch", "x"]));
    assert!(said.contains("--json is for the list only"), "{said}");
}

#[test]
fn a_socket_of_a_server_that_runs_is_not_taken_and_one_that_was_left_is() {
    let daemon = builder().start();
    let path = socket(&daemon);
    let path = path.to_str().unwrap();
    let (code, said) = Daemon::builder().argument("--admin-socket").argument(path).fail();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("another further-link serves it") && said.contains("--admin-socket"), "{said}");
    let left = Daemon::builder();
    let place = left.scratch().root().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
    let daemon = left.argument("--admin-socket").argument(place.to_str().unwrap()).start();
    assert_eq!(works(&place, &[]), "No program is kept.\n");
    drop(daemon);
}

/// By construction: no message of clients is one of this socket.
#[test]
fn the_socket_does_nothing_but_list_watch_and_end() {
    let daemon = builder().start();
    let mut owner = client(&daemon, "", SECRET);
    let session = Session::start(&mut owner, "1", kept(program("/usr/bin/cat")));
    for line in [
        "",
        "GET /status HTTP/1.1",
        r#"{"type":"start","process":"1","data":{"runner":"shell"}}"#,
        r#"{"type":"stdin","process":"1","data":{"input":"x\n"}}"#,
        &json!({"type": "attach", "session": session.id}).to_string(),
        &format!("{}\"", "x".repeat(100_000)),
    ] {
        let mut stream = UnixStream::connect(socket(&daemon)).unwrap();
        // All of a long line is not taken.
        let (Ok(()) | Err(_)) = stream.write_all(format!("{line}\n").as_bytes());
        let mut answer = String::new();
        let (Ok(_) | Err(_)) = stream.read_to_string(&mut answer);
        let refused = r#"{"type":"error","data":{"message":"Bad message"},"process":null}"#;
        assert!(answer.trim_end() == refused || line.len() > 1024, "{line}: {answer}");
    }
    // What comes after a request ends the watching.
    let mut stream = UnixStream::connect(socket(&daemon)).unwrap();
    let line = |message: Value| format!("{message}\n").into_bytes();
    stream.write_all(&line(json!({"type": "watch", "session": session.id}))).unwrap();
    assert_eq!(viewers(&mut owner), 2);
    let typed = json!({"type": "stdin", "process": session.id, "data": {"input": "x\n"}});
    stream.write_all(&line(typed)).unwrap();
    assert_eq!(viewers(&mut owner), 1);
    owner.expect_no_reply();
    assert_eq!(owner.stdout("1"), "");
}

#[test]
fn the_service_manager_may_pass_the_socket_in_any_order() {
    for names in ["http:admin", "admin:http"] {
        let builder = Daemon::builder();
        let path = builder.scratch().root().join("admin.sock");
        let path = path.to_str().unwrap().to_owned();
        let port = free_port();
        let at = format!("127.0.0.1:{port}");
        let (first, second) = if names == "http:admin" { (&at, &path) } else { (&path, &at) };
        let names = format!("--fdname={names}");
        let daemon = builder
            .activated_by(port, &["systemd-socket-activate", "-l", first, "-l", second, &names, "--"])
            .start();
        // It is started by the first connection, of an administrator.
        assert_eq!(works(Path::new(&path), &[]), "No program is kept.\n");
        assert_eq!(daemon.http("GET", "/status").status, 200);
    }
}
