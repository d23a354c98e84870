//! One connection to the helper, as a frontend has it: proto's messages, or any bytes and descriptors at all.
//!
//! Every wait has a deadline. `PROTOCOL.md` says what should come; this file only says what came.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use further_link_proto::{
    CodeLength, Connection, Ended, Event, ExitStatus, Identity, PathText, Refusal, RelativePath, Request,
    Run, RunnerId, SocketError, UserName, WindowSize,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

use crate::processes::Process;
use crate::wait::{DEADLINE, wait_until};

/// Most descriptors that Linux takes with one message (`SCM_MAX_FD`, unix(7)).
pub const MOST_DESCRIPTORS: usize = 253;

/// What came from the helper.
#[derive(Debug)]
pub enum Heard {
    /// An event with its descriptors.
    Event(Event, Vec<OwnedFd>),
    /// The helper has closed.
    End,
}

/// The frontend's side of one conversation.
#[derive(Debug)]
pub struct Frontend(pub Connection);

impl Frontend {
    /// Connects; waits while the helper's queue is full.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let mut connected = Self::try_connect(socket);
        wait_until(2 * DEADLINE, &format!("a connection to {}", socket.display()), || {
            if connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                connected = Self::try_connect(socket);
            }
            !connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        });
        connected.unwrap_or_else(|e| panic!("{}: {e}", socket.display()))
    }

    /// Connects if that goes at once.
    pub fn try_connect(socket: &Path) -> io::Result<Self> {
        Ok(Self(further_link_proto::connect(&SocketAddrUnix::new(socket)?)?))
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&self, request: &Request) {
        self.0.send(request).unwrap_or_else(|e| panic!("{request:?}: {e}"));
    }

    /// Sends a datagram of any bytes. The helper may have gone: then there is nothing to tell it.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), Errno> {
        self.send_with(bytes, &[])
    }

    /// Sends any bytes with descriptors, as many as the kernel takes.
    pub fn send_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "at most {MOST_DESCRIPTORS}");
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
    }

    /// Whether something has come, or comes within `limit`.
    pub fn has_news(&self, limit: Duration) -> bool {
        readable(self.0.as_fd(), Instant::now() + limit)
    }

    /// The next event, or the end.
    #[track_caller]
    pub fn hear(&self) -> Heard {
        loop {
            assert!(self.has_news(2 * DEADLINE), "the helper says nothing");
            match self.0.recv_with() {
                Ok((event, descriptors)) => return Heard::Event(event, descriptors),
                Err(SocketError::Closed) => return Heard::End,
                // What the helper did not read when it closed is told once as a reset, before what it had
                // said last.
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => panic!("from the helper: {error}"),
            }
        }
    }

    /// Fails unless the helper closes without another word.
    #[track_caller]
    pub fn expect_end(&self) {
        let heard = self.hear();
        assert!(matches!(heard, Heard::End), "after the last message: {heard:?}");
    }

    /// Fails unless the request is refused like this, as the last message.
    #[track_caller]
    pub fn expect_refused(&self, refusal: Refusal) {
        let heard = self.hear();
        let refused = matches!(&heard, Heard::Event(Event::Refused(why), descriptors) if *why == refusal && descriptors.is_empty());
        assert!(refused, "not {refusal:?} but {heard:?}");
        self.expect_end();
    }

    /// Waits for `Data`; the writing end of its pipe.
    #[track_caller]
    pub fn expect_code(&self) -> File {
        match self.hear() {
            Heard::Event(Event::Data, mut descriptors) if descriptors.len() == 1 => {
                descriptors.remove(0).into()
            }
            other => panic!("not Data but {other:?}"),
        }
    }

    /// Waits for `Exited` and the end: how the program has ended.
    #[track_caller]
    pub fn wait_exited(&self) -> ExitStatus {
        self.wait_ended().status
    }

    /// Waits for `Exited` and the end.
    #[track_caller]
    pub fn wait_ended(&self) -> Ended {
        match self.hear() {
            Heard::Event(Event::Exited(ended), descriptors) if descriptors.is_empty() => {
                self.expect_end();
                ended
            }
            other => panic!("not Exited but {other:?}"),
        }
    }

    /// Starts a program that must start.
    #[track_caller]
    pub fn start(self, run: &Run, text: &[u8]) -> Running {
        self.send(&Request::Run(run.clone()));
        if run.code.is_some() {
            self.expect_code().write_all(text).expect("the pipe takes the program text");
        }
        self.expect_started(run.terminal.is_some())
    }

    /// Starts a `cat` of this user, which has answered: its helper only waits.
    #[track_caller]
    pub fn start_cat(self, user: &str, terminal: bool) -> Running {
        let run = as_user(user, exec("/usr/bin/cat"));
        let mut running = self.start(&if terminal { on_terminal(run) } else { run }, &[]);
        running.write_line("ready");
        assert_eq!(running.read_line().trim_end(), "ready");
        running
    }

    /// Waits for `Started` with the descriptors that belong to it.
    #[track_caller]
    pub fn expect_started(self, terminal: bool) -> Running {
        match self.hear() {
            Heard::Event(Event::Started { pid }, descriptors) => {
                // With the socket of the user channel behind the streams.
                assert_eq!(descriptors.len(), if terminal { 2 } else { 4 }, "{descriptors:?}");
                let pid = i32::try_from(pid).expect("a pid");
                Running::new(self, Program::new(pid), descriptors)
            }
            other => panic!("not Started but {other:?}"),
        }
    }
}

/// The process of a program. Unlike `processes::Watched` it may have ended before a test looks.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The kernel's number.
    pub pid: i32,
    start: Option<u64>,
}

impl Program {
    /// Looks after `pid`.
    pub fn new(pid: i32) -> Self {
        Self { pid, start: Process::read(pid).map(|process| process.start) }
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        Process::read(self.pid).is_some_and(|now| Some(now.start) == self.start && now.state != 'Z')
    }
}

/// A program that runs, with all that a frontend has of it.
#[derive(Debug)]
pub struct Running {
    /// The conversation about it.
    pub frontend: Frontend,
    /// Its process.
    pub program: Program,
    /// The writing end of its input, or the leader.
    pub input: File,
    /// Its output.
    pub output: BufReader<File>,
    /// Standard error; absent with a terminal.
    pub errors: Option<File>,
    /// The listening socket of the user channel.
    pub channel: OwnedFd,
}

impl Running {
    fn new(frontend: Frontend, program: Program, descriptors: Vec<OwnedFd>) -> Self {
        let mut files: Vec<File> = descriptors.into_iter().map(File::from).collect();
        let channel = files.pop().expect("the user channel").into();
        let errors = (files.len() == 3).then(|| files.remove(2));
        // The leader of a terminal is read and written.
        let output =
            if files.len() == 2 { files.remove(1) } else { files[0].try_clone().expect("a duplicate") };
        let input = files.remove(0);
        Self { frontend, program, input, output: BufReader::new(output), errors, channel }
    }

    /// Writes a line to its input.
    #[track_caller]
    pub fn write_line(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("its input takes a line");
    }

    /// Its next line of output.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        let end = Instant::now() + 2 * DEADLINE;
        let ready = !self.output.buffer().is_empty() || readable(self.output.get_ref().as_fd(), end);
        assert!(ready, "the program writes nothing");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output can be read");
        line
    }

    /// All that is left of its output, up to the end.
    #[track_caller]
    pub fn read_rest(&mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output can be read");
        rest
    }
}

/// Whether there is something to read, or the end, before `end`. Signals of other tests' children interrupt
/// poll(2).
fn readable(descriptor: BorrowedFd<'_>, end: Instant) -> bool {
    loop {
        let left =
            PollTimeout::try_from(end.saturating_duration_since(Instant::now())).expect("short enough");
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], left) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// A run of the default user without path, text or terminal.
pub fn run(runner: &str) -> Run {
    let runner = RunnerId::new(runner).expect("the id of a runner");
    Run { identity: Identity::default(), runner, path: None, details: None, code: None, terminal: None }
}

/// Starts this file.
#[track_caller]
pub fn exec(path: &str) -> Run {
    Run { path: Some(PathText::new(path).expect("a path")), ..run("exec") }
}

/// Starts program text of this length.
#[track_caller]
pub fn with_text(runner: &str, length: usize) -> Run {
    Run { code: Some(CodeLength::new(length).expect("a length")), ..run(runner) }
}

/// The same as this user.
#[track_caller]
pub fn as_user(user: &str, run: Run) -> Run {
    Run { identity: identity(user), ..run }
}

/// A request for this user.
#[track_caller]
pub fn identity(user: &str) -> Identity {
    Identity { user: Some(UserName::new(user).expect("a user name")), ..Identity::default() }
}

/// A path below a directory.
#[track_caller]
pub fn below(path: &str) -> RelativePath {
    RelativePath::new(path).expect("a path below a directory")
}

/// The same on a terminal.
pub fn on_terminal(run: Run) -> Run {
    Run { terminal: Some(WindowSize { rows: 24, cols: 80 }), ..run }
}

/// The bytes of a request.
#[track_caller]
pub fn bytes_of(request: &Request) -> Vec<u8> {
    further_link_proto::encode(request).expect("a request can be encoded")
}
