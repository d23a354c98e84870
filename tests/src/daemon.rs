//! One running daemon with folders, a port and a helper of its own.
//!
//! Built with options, started as root unless told otherwise, ready when it says where it listens. When it is
//! dropped it gets a SIGTERM, which must be enough, and the test fails if then any process that it started is
//! left, or anything of a run in its temp directory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries;
use crate::client::{Client, Finished};
use crate::http::{self, Response};
use crate::log::Log;
use crate::processes::Process;
use crate::scratch::Scratch;
use crate::stream::Trust;
use crate::supervised::Supervised;
use crate::wait::{DEADLINE, holds_within, wait_until};

/// Whether a daemon is told about TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tls {
    /// `--no-tls`.
    Off,
    /// Not by an option.
    Unsaid,
    /// By the places of its files.
    On { extra: PathBuf, state: PathBuf },
}

/// How to start a daemon.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    scratch: Scratch,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folders: bool,
    address: bool,
    tls: Tls,
    activated_on: Option<u16>,
    run_as: Option<String>,
}

impl Builder {
    /// Where the daemon will have its folders.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Lets these users run programs, and no other: the list is the whole list.
    pub fn allow_users(self, users: &[&str]) -> Self {
        users.iter().fold(self, |builder, user| builder.argument("--allow-user").argument(user))
    }

    /// Sets the grace time of `stop`.
    pub fn grace(self, seconds: f64) -> Self {
        self.argument("--grace").argument(&seconds.to_string())
    }

    /// Adds a command-line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Adds to the daemon's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves work and temp directory to the daemon's own defaults.
    pub fn default_folders(mut self) -> Self {
        self.folders = false;
        self
    }

    /// Leaves address and port to the daemon's own defaults.
    pub fn default_address(mut self) -> Self {
        self.address = false;
        self
    }

    /// Serves with TLS: with the files in [`Scratch::extra`], or a certificate of its own in
    /// [`Scratch::state`].
    pub fn tls(self) -> Self {
        let (extra, state) = (self.scratch.extra(), self.scratch.state());
        self.tls_from(extra, state)
    }

    /// Serves with TLS as this daemon does, after it or beside it.
    pub fn tls_as(self, other: &Daemon) -> Self {
        self.tls_from(other.scratch.extra(), other.scratch.state())
    }

    fn tls_from(mut self, extra: PathBuf, state: PathBuf) -> Self {
        for (option, path) in [("--extra-dir", &extra), ("--state-dir", &state)] {
            self = self.argument(option).argument(path.to_str().expect("a path in UTF-8"));
        }
        self.tls = Tls::On { extra, state };
        self
    }

    /// Gives it no options at all: all comes from the environment.
    pub fn bare(mut self) -> Self {
        self.tls = Tls::Unsaid;
        self.default_folders().default_address()
    }

    /// Starts the whole daemon as this user, without any privilege.
    pub fn run_as(mut self, user: &str) -> Self {
        self.run_as = Some(user.to_owned());
        self
    }

    /// Starts it through a program that replaces itself with its last arguments.
    pub fn wrapped_in(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Has systemd-socket-activate listen on a free port and start the daemon at the first connection.
    pub fn socket_activated(self) -> Self {
        let port = free_port();
        let place = format!("127.0.0.1:{port}");
        self.activated_by(port, &["systemd-socket-activate", "-l", &place, "--"])
    }

    /// Has this command, of systemd-socket-activate, listen on the port and perhaps elsewhere.
    pub fn activated_by(mut self, port: u16, command: &[&str]) -> Self {
        self.activated_on = Some(port);
        self.default_address().wrapped_in(command)
    }

    /// Starts it and waits until it listens. Clients trust the certificate that is there then.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = self.start_untrusted();
        if let Tls::On { .. } = daemon.tls {
            daemon.trust_what_is_there();
        }
        daemon
    }

    /// The same, but its clients trust nothing yet.
    #[track_caller]
    pub fn start_untrusted(mut self) -> Daemon {
        let command = self.command();
        let process = Supervised::start(&command, &self.environment);
        let port = match self.activated_on {
            Some(port) => process.log.wait_for(DEADLINE, |log| log.contains("Listening on ").then_some(port)),
            None => process.log.wait_for(DEADLINE, listening_port),
        };
        let port = port.unwrap_or_else(|| panic!("it does not say where it listens: {}", process.log.tail()));
        Daemon { process, scratch: self.scratch, port, tls: self.tls, trust: None, gone: false }
    }

    /// Starts it and waits until it ends by itself, which it must; its exit code and all that it said.
    #[track_caller]
    pub fn fail(mut self) -> (i32, String) {
        let process = Supervised::start(&self.command(), &self.environment);
        let code = process.wait_exit(DEADLINE);
        let code = code.unwrap_or_else(|| panic!("it runs: {}", process.log.tail()));
        wait_until(DEADLINE, "all that it started has ended", || process.descendants().is_empty());
        let said = process.log.wait_for(DEADLINE, |log| log.ends_with('\n').then_some(()));
        assert!(said.is_some(), "it ended without a word");
        (code, process.log.text())
    }

    fn command(&mut self) -> Vec<String> {
        let mut command = std::mem::take(&mut self.wrapper);
        let mut binary = binaries::frontend();
        if let Some(user) = &self.run_as {
            // The build may lie in a home directory that this user cannot enter.
            let copy = self.scratch.root().join("further-link");
            binaries::copy(&binary, &copy);
            binary = copy;
            let become_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"];
            command.extend(become_user.map(str::to_owned));
            self.environment.push(("HOME".to_owned(), format!("/home/{user}")));
        }
        command.push(binary.to_str().expect("a path in UTF-8").to_owned());
        if self.tls == Tls::Off {
            command.push("--no-tls".to_owned());
        }
        if self.address {
            command.extend(["--port", "0", "--address", "127.0.0.1"].map(str::to_owned));
        }
        if self.folders {
            for (option, path) in [("--work-dir", self.scratch.work()), ("--temp-dir", self.scratch.temp())] {
                command.push(option.to_owned());
                command.push(path.to_str().expect("a path in UTF-8").to_owned());
            }
        }
        command.append(&mut self.arguments);
        command
    }
}

/// Finds the port in the line that says where the daemon listens.
pub fn listening_port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on http")?;
    // Only a whole line: the number could still be growing.
    let (line, _) = rest.split_once('\n')?;
    let (_, line) = line.split_once("://")?;
    let place = line.split(|c: char| c.is_whitespace() || c == '/').next()?;
    let (_, port) = place.rsplit_once(':')?;
    port.parse().ok()
}

/// A port that is free now. Another process may take it before its user does; only for what cannot take port
/// 0.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Supervised,
    scratch: Scratch,
    port: u16,
    tls: Tls,
    trust: Option<Trust>,
    gone: bool,
}

impl Daemon {
    /// Starts one as root with default options.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Starts to choose options.
    pub fn builder() -> Builder {
        Builder {
            scratch: Scratch::new(),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folders: true,
            address: true,
            tls: Tls::Off,
            activated_on: None,
            run_as: None,
        }
    }

    /// From now on clients trust the certificate that lies in its directories now.
    #[track_caller]
    pub fn trust_what_is_there(&mut self) {
        self.trust = Some(Trust::in_file(&self.certificate()));
    }

    /// The file of the certificate that it should serve.
    #[track_caller]
    pub fn certificate(&self) -> PathBuf {
        let Tls::On { extra, state } = &self.tls else { panic!("a daemon without TLS") };
        let provided = extra.join("cert.pem");
        if provided.exists() { provided } else { state.join("cert.pem") }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Connects to `/run` with this query (`"user=pi&pty=1"`, or nothing).
    #[track_caller]
    pub fn run(&self, query: &str) -> Client {
        self.connect("/run", query)
    }

    /// Connects to `/run-py` with this query.
    #[track_caller]
    pub fn run_py(&self, query: &str) -> Client {
        self.connect("/run-py", query)
    }

    #[track_caller]
    fn connect(&self, path: &str, query: &str) -> Client {
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("{path}{mark}{query}");
        Client::connect(self.address(), &path, self.trust.as_ref(), self.log().clone())
    }

    /// Runs one program on a connection of its own, as the default user, without a terminal.
    #[track_caller]
    pub fn run_once(&self, data: Value) -> Finished {
        self.run("").run("once", data)
    }

    /// Asks a question without a body.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str) -> Response {
        http::request(self.address(), self.trust.as_ref(), method, path)
    }

    /// Posts an upload with this query.
    #[track_caller]
    pub fn upload(&self, query: &str, body: &Value) -> Response {
        http::post(self.address(), &format!("/upload?{query}"), "", body.to_string().as_bytes())
    }

    /// The folders.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The work directory.
    pub fn work(&self) -> PathBuf {
        self.scratch.work()
    }

    /// The temp directory.
    pub fn temp(&self) -> PathBuf {
        self.scratch.temp()
    }

    /// The temporary files of runs that are there now: sockets of user channels, and directories for program
    /// text.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        self.scratch.leftovers()
    }

    /// Removes them, where only the test can.
    pub fn remove_temporary_files(&self) {
        self.scratch.remove_leftovers();
    }

    /// The pid of the process that serves the network.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// All processes that descend from the daemon's start, the frontend included.
    pub fn processes(&self) -> Vec<Process> {
        self.process.descendants()
    }

    /// Waits for the one process with this kernel name (15 letters at most) below the daemon.
    #[track_caller]
    pub fn process_named(&self, name: &str) -> Process {
        let mut found = Vec::new();
        wait_until(DEADLINE, &format!("one process named {name}"), || {
            found = self.processes().into_iter().filter(|process| process.name == name).collect();
            found.len() == 1
        });
        found.remove(0)
    }

    /// What it said on stderr.
    pub fn log(&self) -> &Log {
        &self.process.log
    }

    /// Ends it with `signal` and waits; its exit code, or minus the signal.
    #[track_caller]
    pub fn end_with(&mut self, signal: Signal) -> i32 {
        self.gone = true;
        self.process.signal(signal);
        let code = self.process.wait_exit(DEADLINE);
        code.unwrap_or_else(|| panic!("{signal} did not end the daemon:\n{}", self.log().tail()))
    }

    /// Ends it if it was not ended before, which it must not have done by itself.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        if !self.gone {
            let before = self.process.exit_code();
            assert_eq!(before, None, "the daemon ended by itself:\n{}", self.log().tail());
            self.end_with(Signal::SIGTERM);
        }
    }

    fn assert_nothing_is_left(&mut self) {
        self.end();
        let nobody_left = holds_within(Duration::from_secs(5), || self.processes().is_empty());
        let left: Vec<_> =
            self.processes().into_iter().map(|process| (process.arguments(), process)).collect();
        assert!(
            nobody_left,
            "processes are left 5 s after the daemon's end: {left:?}\n{}",
            self.log().tail()
        );
        let leftovers = self.scratch.leftovers();
        assert!(leftovers.is_empty(), "files are left in the temp directory: {leftovers:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_nothing_is_left();
        }
    }
}
