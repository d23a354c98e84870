//! A stand-in for systemd as far as a restart of the frontend goes: it owns the listening socket, keeps the
//! descriptors that it is given (`FDSTORE=1`, `sd_notify(3)`), and passes all of them to the next frontend.
//!
//! The helper is another one's child, as under systemd. What systemd itself does is for `tests/boot`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use crate::daemon::{Builder, Daemon};
use crate::standalone::{Helper, service};
use crate::wait::{DEADLINE, wait_until};

/// `python3 -c CODE STORE_SIZE DIRECTORY COMMAND...`
const CODE: &str = r#"
import os, select, signal, socket, struct, sys

most, directory, command = sys.argv[1], sys.argv[2], sys.argv[3:]
listener = socket.create_server(("127.0.0.1", 0))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(directory + "/notify")
os.chmod(directory + "/notify", 0o666)
control = socket.socket(socket.AF_UNIX)
control.bind(directory + "/control")
control.listen()
store, child = [], None

def start():
    global child
    child = os.fork()
    if child:
        return
    passed = [("http", listener.fileno())] + store
    # First out of the way of the numbers that they are to have.
    passed = [(name, os.dup2(fd, 1000 + i)) for i, (name, fd) in enumerate(passed)]
    for i, (name, fd) in enumerate(passed):
        os.dup2(fd, 3 + i)
    os.closerange(3 + len(passed), 4000)
    environment = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)), FDSTORE=most,
        LISTEN_FDNAMES=":".join(name for name, _ in passed), NOTIFY_SOCKET=directory + "/notify")
    os.execve(command[0], command, environment)

def heed():
    message, fds, _, _ = socket.recv_fds(notify, 4096, 8)
    fields = dict(line.split("=", 1) for line in message.decode().splitlines())
    name = fields.get("FDNAME")
    if fields.get("FDSTORE") == "1":
        assert fields["FDPOLL"] == "0", fields
        store.extend((name, fd) for fd in fds)
    if fields.get("FDSTOREREMOVE") == "1":
        for stored in [stored for stored in store if stored[0] == name]:
            os.close(stored[1])
            store.remove(stored)

def end(number):
    global child
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    while select.select([notify], [], [], 0)[0]:
        heed()
    child = None
    return str(os.waitstatus_to_exitcode(status))

def empty():
    while store:
        os.close(store.pop()[1])

def terminate(*_):
    if child:
        end(signal.SIGTERM)
    empty()
    os._exit(0)

def obey(word, *words):
    if word == "start":
        start()
    if word == "end":
        return end(int(words[0]))
    if word == "empty":
        empty()
    if word == "outdate":
        for name, fd in store:
            if name.endswith("-state"):
                os.pwrite(fd, struct.pack("<I", 999), 8)
    return " ".join(sorted(name for name, _ in store))

signal.signal(signal.SIGTERM, terminate)
start()
client = None
while True:
    ready = select.select([notify, client or control], [], [])[0]
    if notify in ready:
        heed()
    elif client is None:
        client = control.accept()[0]
    else:
        client.sendall(obey(*client.recv(4096).decode().split()).encode() + b"\n")
"#;

/// The stand-in, and what it started.
#[derive(Debug)]
pub struct ServiceManager {
    /// The frontend, as clients reach it: the port stays the same.
    pub daemon: Daemon,
    /// The helper, which is not restarted.
    pub helper: Helper,
    control: BufReader<UnixStream>,
}

impl ServiceManager {
    /// Starts a frontend, with room for so many descriptors, and its helper.
    #[track_caller]
    pub fn start(builder: Builder, room: u16) -> Self {
        Self::start_with(builder, room, &[])
    }

    /// The same, with these options for the helper.
    #[track_caller]
    pub fn start_with(builder: Builder, room: u16, more: &[&str]) -> Self {
        let service = service();
        let options = [&["--listen", "SOCKET", "--frontend-user", &service], more].concat();
        let helper = Helper::start(builder.scratch(), &[], &options);
        let directory = builder.scratch().root();
        let place = directory.to_str().unwrap();
        let command = ["python3", "-c", CODE, &room.to_string(), place];
        let daemon = helper.used_by(builder).wrapped_in(&command).start();
        let control = UnixStream::connect(directory.join("control")).unwrap();
        control.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { daemon, helper, control: BufReader::new(control) }
    }

    /// Ends the frontend with a signal; its exit code, or minus the signal.
    #[track_caller]
    pub fn end_frontend(&mut self, signal: i32) -> i32 {
        self.ask(&format!("end {signal}")).parse().unwrap()
    }

    /// Starts the next frontend, and waits until it listens.
    #[track_caller]
    pub fn start_frontend(&mut self) {
        let starts = |log: &str| log.matches("listening on http").count();
        let before = starts(&self.daemon.log().text());
        self.ask("start");
        wait_until(DEADLINE, "it listens", || starts(&self.daemon.log().text()) > before);
    }

    /// The names of the descriptors that it keeps.
    #[track_caller]
    pub fn stored(&mut self) -> Vec<String> {
        self.ask("stored").split_whitespace().map(str::to_owned).collect()
    }

    /// Does what systemd does when the service is stopped: closes all of them.
    #[track_caller]
    pub fn empty_store(&mut self) {
        self.ask("empty");
    }

    /// Makes each state one of an unknown version.
    #[track_caller]
    pub fn outdate_states(&mut self) {
        self.ask("outdate");
    }

    #[track_caller]
    fn ask(&mut self, words: &str) -> String {
        let mut line = String::new();
        writeln!(line, "{words}").unwrap();
        let asked = self.control.get_mut().write_all(line.as_bytes());
        line.clear();
        let answered = asked.and_then(|()| self.control.read_line(&mut line));
        let length =
            answered.unwrap_or_else(|error| panic!("{words}: {error}: {}", self.daemon.log().tail()));
        assert_ne!(length, 0, "{words}: {}", self.daemon.log().tail());
        line.trim().to_owned()
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The helper is no process of the daemon, and tidies up after its programs by itself.
            self.daemon.end();
            self.helper.assert_only_the_listener_is_left();
        }
    }
}
