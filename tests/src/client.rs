//! A blocking WebSocket client that remembers all it saw.
//!
//! Every wait has a deadline and fails with the last messages and the end of the daemon's log. Messages are
//! taken once: an `expect` finds what has come already or waits for it, and what was not taken can be
//! asserted not to be there. It reads while a write has to wait, so that a full pipe on both sides never
//! locks up a test.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use further_link_api::{ClientMessage, Dialect, Hello, Integer, ProcessId, Secret};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::log::Log;
use crate::processes::Watched;
use crate::record::Record;
use crate::stream::{Stream, Trust};
use crate::wait::DEADLINE;

/// The exit code of a `stopped`, and why it came.
pub fn ending(stopped: &Value) -> (i64, &str) {
    let data = &stopped["data"];
    (data["exitCode"].as_i64().expect("an exit code"), data["reason"].as_str().expect("a reason"))
}

/// How one run ended and what it wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// `exitCode` of its `stopped`.
    pub exit_code: i64,
    /// All of its `stdout`.
    pub stdout: String,
    /// All of its `stderr`.
    pub stderr: String,
}

/// One connection to `/run` or `/run-py`.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<Stream>,
    dialect: Dialect,
    record: Record,
    log: Log,
    /// What the daemon answered to ping frames.
    pub pong_frames: Vec<Vec<u8>>,
    /// Why the connection ended, once it has: the close frame's code, if there was one.
    pub closed: Option<Option<u16>>,
}

impl Client {
    /// Connects to `path` (with its query) and shakes hands, with TLS if a trust is given.
    #[track_caller]
    pub fn connect(address: SocketAddr, path: &str, trust: Option<&Trust>, log: Log) -> Self {
        Self::shake_hands(Stream::connect(address, trust), &address.to_string(), path, log)
    }

    /// Shakes hands on a connection that there is, for `path` of `host`.
    #[track_caller]
    pub fn over(stream: TcpStream, host: &str, path: &str, log: Log) -> Self {
        Self::shake_hands(Stream::over(stream), host, path, log)
    }

    #[track_caller]
    fn shake_hands(stream: Stream, host: &str, path: &str, log: Log) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let url = format!("ws://{host}{path}");
        let (socket, _) = tungstenite::client::client_with_config(url.as_str(), stream, Some(config))
            .unwrap_or_else(|e| panic!("no WebSocket on {path}: {e}\n{}", log.tail()));
        socket.get_ref().tcp().set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let dialect = if path.starts_with("/run-py") { Dialect::RunPy } else { Dialect::Run };
        let record = Record::new(dialect);
        Self { socket, dialect, record, log, pong_frames: Vec::new(), closed: None }
    }

    /// The connection below the WebSocket.
    pub fn stream(&mut self) -> &mut Stream {
        self.socket.get_mut()
    }

    /// Cuts the connection, without a word of the WebSocket protocol.
    pub fn cut(&mut self) {
        // It may be cut already.
        let (Ok(()) | Err(_)) = self.socket.get_ref().tcp().shutdown(Shutdown::Both);
    }

    /// Sends one message as a text frame.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// Sends a text frame as it is.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text));
    }

    /// Sends a frame; while the daemon does not take it, reads.
    #[track_caller]
    pub fn send_frame(&mut self, frame: Message) {
        let end = Instant::now() + DEADLINE;
        let mut outcome = self.socket.send(frame);
        loop {
            match outcome {
                Ok(()) => return,
                Err(Error::Io(error)) if is_timeout(error.kind()) && Instant::now() < end => {
                    self.read_one(Instant::now() + Duration::from_millis(1));
                    outcome = self.socket.flush();
                }
                Err(error) => self.fail(&format!("cannot send: {error}")),
            }
        }
    }

    /// Sends a frame that the daemon may refuse half-way.
    pub fn send_and_ignore_errors(&mut self, frame: Message) {
        self.socket.get_ref().tcp().set_write_timeout(Some(DEADLINE)).expect("a timeout");
        if let Err(error) = self.socket.send(frame) {
            eprintln!("not all was taken: {error}");
        }
    }

    /// Says `hello`, and returns the answer's data. From here on it may use kept programs.
    #[track_caller]
    pub fn hello(&mut self, client: Option<&str>) -> Value {
        self.introduce(Hello { client: client.map(Secret::new), acks: false })
    }

    /// Says `hello` as one that acknowledges output of kept programs.
    #[track_caller]
    pub fn hello_with_acks(&mut self, client: &str) {
        self.introduce(Hello { client: Some(Secret::new(client)), acks: true });
    }

    #[track_caller]
    fn introduce(&mut self, hello: Hello) -> Value {
        self.say(&ClientMessage::Hello(hello));
        self.dialect = Dialect::Version1;
        self.record.speak_version_1();
        self.expect("hello", |message| message["type"] == "hello")["data"].take()
    }

    /// Sends a ping frame of the WebSocket protocol.
    #[track_caller]
    pub fn send_ping_frame(&mut self, payload: &[u8]) {
        self.send_frame(Message::Ping(payload.to_vec().into()));
    }

    /// Reads one frame, if one comes before `end`; whether one came.
    #[track_caller]
    pub fn read_one(&mut self, end: Instant) -> bool {
        if self.closed.is_some() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.get_ref().tcp().set_read_timeout(Some(left)).expect("a timeout");
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                let content = serde_json::from_str(&text)
                    .unwrap_or_else(|e| self.fail(&format!("a message that is not JSON, {e}: {text:?}")));
                if let Err(broken) = self.record.add(content) {
                    self.fail(&format!("a broken promise: {broken}"));
                }
            }
            Ok(Message::Pong(payload)) => self.pong_frames.push(payload.to_vec()),
            Ok(Message::Close(frame)) => self.closed = Some(frame.map(|frame| frame.code.into())),
            Ok(Message::Ping(_)) => {}
            Ok(other) => self.fail(&format!("a frame that is not text (B3.4): {other:?}")),
            Err(Error::Io(error)) if is_timeout(error.kind()) => return false,
            Err(_) => self.closed = Some(None),
        }
        true
    }

    /// Takes the first message that `matches`, waiting for it up to `limit`.
    #[track_caller]
    pub fn expect_within(&mut self, limit: Duration, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        let mut unseen_from = 0;
        loop {
            if let Some(found) = self.record.take(unseen_from, &matches) {
                return found;
            }
            unseen_from = self.record.len();
            if self.closed.is_some() || (!self.read_one(end) && Instant::now() >= end) {
                self.fail(&format!("no {what} within {limit:?}"));
            }
        }
    }

    /// Takes the first message that `matches`, waiting for it.
    #[track_caller]
    pub fn expect(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.expect_within(DEADLINE, what, matches)
    }

    /// Reads until `enough` holds for what has come.
    #[track_caller]
    pub fn read_until(&mut self, limit: Duration, what: &str, enough: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !enough(self) {
            if !self.read_one(end) && (self.closed.is_some() || Instant::now() >= end) {
                self.fail(&format!("not within {limit:?}: {what}"));
            }
        }
    }

    /// Takes the next error and returns its text.
    #[track_caller]
    pub fn next_error(&mut self) -> String {
        let error = self.expect("error", |message| message["type"] == "error");
        error["data"]["message"].as_str().expect("checked by the record").to_owned()
    }

    /// Sends each frame and compares the one error that follows with `expected`.
    #[track_caller]
    pub fn refuses(&mut self, frames: &[impl AsRef<str>], expected: &str) {
        for frame in frames.iter().map(AsRef::as_ref) {
            self.send_text(frame);
            // Taken before the ping is sent, so that the failure names the frame.
            let error = self.next_error();
            assert_eq!(error, expected, "answer to {frame}");
            self.expect_no_reply();
        }
    }

    /// Asks for a pong and waits for it. All messages sent before have been handled then (B4.8).
    #[track_caller]
    pub fn ping(&mut self) {
        self.say(&ClientMessage::Ping);
        self.expect("pong", |message| message["type"] == "pong");
    }

    /// Fails if anything has come, or comes before a pong, that no `expect` took.
    #[track_caller]
    pub fn expect_no_reply(&mut self) {
        self.ping();
        let surplus = self.record.untaken();
        if !surplus.is_empty() {
            self.fail(&format!("{} messages too many: {}", surplus.len(), surplus[0]));
        }
    }

    /// Takes all output that has come, so that [`Client::expect_no_reply`] does not stumble over it.
    pub fn take_output(&mut self) {
        let output = |message: &Value| message["type"] == "stdout" || message["type"] == "stderr";
        while self.record.take(0, output).is_some() {}
    }

    /// Takes all errors that have come, so that the next one is about what comes next.
    pub fn take_errors(&mut self) {
        while self.record.take(0, |message| message["type"] == "error").is_some() {}
    }

    /// Asks for a start and waits for `started`, or the error's text.
    #[track_caller]
    pub fn try_start(&mut self, id: &str, data: Value) -> Result<(), String> {
        self.send_start(id, data);
        let id = id.to_owned();
        let answer = self.expect("answer to start", move |message| {
            message["type"] == "error" || (message["type"] == "started" && message["process"] == *id)
        });
        match answer["data"]["message"].as_str() {
            Some(text) => Err(text.to_owned()),
            None => Ok(()),
        }
    }

    /// Asks for a start without waiting for anything.
    #[track_caller]
    pub fn send_start(&mut self, id: &str, data: Value) {
        // As the test wrote the data: many of them are wrong on purpose.
        let mut message = match self.dialect {
            Dialect::Run | Dialect::Version1 => json!({"type": "start", "process": id}),
            Dialect::RunPy => json!({"type": "start"}),
        };
        message["data"] = data;
        self.send(&message);
    }

    /// Starts a program that must start.
    #[track_caller]
    pub fn start(&mut self, id: &str, data: Value) {
        if let Err(text) = self.try_start(id, data) {
            self.fail(&format!("start of {id:?} failed: {text}"));
        }
    }

    /// Starts `cat` and waits until it has answered once, with `cat\n`: then it is at rest.
    #[track_caller]
    pub fn start_cat(&mut self, id: &str) {
        self.start(id, crate::programs::program("/usr/bin/cat"));
        self.stdin(id, "cat\n");
        // A terminal echoes the first one.
        let answered = |text: &str| text == "cat\n" || text == "cat\r\ncat\r\n";
        self.read_until(DEADLINE, "an answer of cat", |client| answered(&client.stdout(id)));
    }

    /// Starts a program on a terminal of this size.
    #[track_caller]
    pub fn start_sized(&mut self, id: &str, data: Value, rows: u16, columns: u16) {
        self.start(id, data);
        self.resize(id, rows, columns);
    }

    /// Waits for the end of a program and returns its exit code.
    #[track_caller]
    pub fn wait_stopped(&mut self, id: &str) -> i64 {
        self.wait_stopped_within(DEADLINE, id)
    }

    /// As [`Client::wait_stopped`], for programs that take their time.
    #[track_caller]
    pub fn wait_stopped_within(&mut self, limit: Duration, id: &str) -> i64 {
        let about_it = |message: &Value| message["type"] == "stopped" && message["process"] == id;
        let stopped = self.expect_within(limit, &format!("stopped of {id:?}"), about_it);
        stopped["data"]["exitCode"].as_i64().expect("checked by the record")
    }

    /// Starts a program and waits for its end.
    #[track_caller]
    pub fn run(&mut self, id: &str, data: Value) -> Finished {
        self.start(id, data);
        let exit_code = self.wait_stopped(id);
        Finished { exit_code, stdout: self.stdout(id), stderr: self.stderr(id) }
    }

    /// Sends input to a program.
    #[track_caller]
    pub fn stdin(&mut self, id: &str, input: &str) {
        self.say(&ClientMessage::Stdin {
            process: self.id(id),
            input: input.to_owned(),
            end: false,
            n: None,
        });
    }

    /// Asks for a program's end.
    #[track_caller]
    pub fn stop(&mut self, id: &str) {
        self.say(&ClientMessage::Stop { process: self.id(id), signal: None });
    }

    /// Sets the size of a program's terminal.
    #[track_caller]
    pub fn resize(&mut self, id: &str, rows: u16, columns: u16) {
        let (rows, cols) = (Integer::Fits(rows), Integer::Fits(columns));
        self.say(&ClientMessage::Resize { process: self.id(id), rows, cols });
    }

    /// Sends a message of the contract.
    #[track_caller]
    pub fn say(&mut self, message: &ClientMessage) {
        let text = message.to_json(self.dialect).expect("the endpoint has the message");
        self.send_text(&text);
    }

    /// The id in messages: `/run-py` has one process without a name.
    fn id(&self, id: &str) -> ProcessId {
        ProcessId::new(if self.dialect == Dialect::RunPy { "" } else { id })
    }

    /// All messages that have come.
    pub fn messages(&self) -> impl Iterator<Item = &Value> {
        self.record.messages()
    }

    /// All that the current or last run of `id` wrote to stdout, as far as it has come.
    pub fn stdout(&self, id: &str) -> String {
        self.record.outputs(id, "stdout").concat()
    }

    /// The same of stderr.
    pub fn stderr(&self, id: &str) -> String {
        self.record.outputs(id, "stderr").concat()
    }

    /// The same, message by message.
    pub fn outputs(&self, id: &str, stream: &str) -> Vec<String> {
        self.record.outputs(id, stream)
    }

    /// Waits until the stdout of `id` contains `text`.
    #[track_caller]
    pub fn wait_stdout(&mut self, id: &str, text: &str) {
        let what = format!("{text:?} in the stdout of {id:?}");
        self.read_until(DEADLINE, &what, |client| client.stdout(id).contains(text));
    }

    /// Waits until `id` has written `count` whole lines to stdout, and returns them without their ends.
    #[track_caller]
    pub fn wait_lines(&mut self, id: &str, count: usize) -> Vec<String> {
        let what = format!("{count} lines from {id:?}");
        self.read_until(DEADLINE, &what, |client| client.stdout(id).matches('\n').count() >= count);
        self.stdout(id).lines().take(count).map(str::to_owned).collect()
    }

    /// Waits for `count` lines that are pids, and looks after these processes from now on.
    #[track_caller]
    pub fn wait_pids(&mut self, id: &str, count: usize) -> Vec<Watched> {
        let lines = self.wait_lines(id, count);
        let parse = |line: &String| line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is no pid"));
        lines.iter().map(|line| Watched::new(parse(line))).collect()
    }

    /// Waits for the first line, a pid.
    #[track_caller]
    pub fn wait_pid(&mut self, id: &str) -> Watched {
        self.wait_pids(id, 1)[0]
    }

    /// Says goodbye as most clients do and returns the code of the daemon's close frame.
    #[track_caller]
    pub fn close(self) -> Option<u16> {
        self.close_with(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
    }

    /// Says goodbye with this frame, or an empty one.
    #[track_caller]
    pub fn close_with(mut self, frame: Option<CloseFrame>) -> Option<u16> {
        if let Err(error) = self.socket.close(frame) {
            self.fail(&format!("cannot close: {error}"));
        }
        self.read_until(DEADLINE, "the daemon's close frame", |client| client.closed.is_some());
        self.closed.flatten()
    }

    /// Ends the test with all that is known.
    #[track_caller]
    pub fn fail(&self, text: &str) -> ! {
        let closed =
            self.closed.map(|code| format!("\nthe connection is closed, code {code:?}")).unwrap_or_default();
        panic!("{text}{closed}\nlast messages:\n{}\nend of the log:\n{}", self.record.tail(), self.log.tail())
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
