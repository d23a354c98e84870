//! Messages of clients: one JSON object each.
//!
//! The rules are B4 and B5. `parse` reads messages of clients, in either dialect.

use serde_json::{Map, Value, json};

use crate::{
    error::BadMessage,
    keep::{Attach, Hello, Keep, Secret, WhenFull},
};

/// Which endpoint the connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/run`: many processes, each with an id of the client.
    Run,
    /// `/run-py`: one python program at a time, without ids (B10).
    RunPy,
    /// `/run` after a `hello` of version 1: kept programs, and numbers of inputs.
    Version1,
}

/// The runners of the original (B8): all that a client can name which has not said `hello`.
pub const ORIGINAL_RUNNERS: [&str; 3] = [PYTHON3, EXEC, SHELL];
/// A file of python, or a text.
pub const PYTHON3: &str = "python3";
/// A file that is a program, or a script with its first line.
pub const EXEC: &str = "exec";
/// The login shell of the user.
pub const SHELL: &str = "shell";

/// The client's name for a process: any text, its own for each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId(String);

impl ProcessId {
    /// An id that was read, or that a client chose.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "API.md has the fields, under these names")]
pub enum ClientMessage {
    Ping,
    Hello(Hello),
    Start {
        process: ProcessId,
        start: Start,
    },
    Stdin {
        process: ProcessId,
        input: String,
        /// Nothing comes after this input.
        end: bool,
        /// The number of this input, for a kept program.
        n: Option<u64>,
    },
    Resize {
        process: ProcessId,
        rows: Integer,
        cols: Integer,
    },
    Stop {
        process: ProcessId,
        /// The signal to send first. SIGTERM if there is none.
        signal: Option<Signal>,
    },
    /// Only sends the signal.
    Signal {
        process: ProcessId,
        signal: Signal,
    },
    KeyEvent {
        process: ProcessId,
        key: String,
        event: String,
    },
    /// What `/run-py` calls a directory: the body of an upload, as JSON.
    Upload {
        directory: String,
    },
    Attach {
        process: ProcessId,
        attach: Attach,
    },
    Detach {
        process: ProcessId,
    },
    /// The keyboard for this client.
    Take {
        process: ProcessId,
    },
    /// The output up to this position was used.
    Ack {
        process: ProcessId,
        seq: u64,
    },
    Sessions,
}

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The id of the runner. None: the one of the path's ending, or of the text's first line.
    pub runner: Option<String>,
    /// The file, or the directory of a program text.
    pub path: Option<String>,
    /// The program text.
    pub code: Option<String>,
    /// Arguments for the program.
    pub args: Vec<String>,
    /// Variables for the program, by name and value.
    pub env: Vec<(String, String)>,
    /// The folder of an environment of packages.
    pub venv: Option<String>,
    /// Packages to install, instead of a program.
    pub install: Option<Install>,
    /// The size of the terminal, rows and columns, from the beginning.
    pub size: Option<(u16, u16)>,
    /// Whether the program outlives its connection.
    pub keep: Option<Keep>,
}

/// What to install into a project's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Install {
    /// These packages.
    Packages(Vec<String>),
    /// Those that a file of the project names.
    Requirements(String),
}

/// The signals that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as Ctrl-C in a terminal.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, as of a terminal that is closed.
    HangUp,
    /// SIGKILL.
    Kill,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Interrupt, Self::Terminate, Self::HangUp, Self::Kill];

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Kill => "SIGKILL",
        }
    }
}

/// A JSON integer as a terminal can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// A number of rows or columns.
    Fits(u16),
    /// Negative, or too large.
    OutOfRange,
}

impl Integer {
    /// The number in a message. One that is out of range stays so.
    fn written(self) -> i64 {
        match self {
            Self::Fits(number) => number.into(),
            Self::OutOfRange => -1,
        }
    }
}

impl ClientMessage {
    /// Writes the message as a client does. `None` if the dialect does not have it.
    pub fn to_json(&self, dialect: Dialect) -> Option<String> {
        let (kind, process, data) = match self {
            Self::Ping => ("ping", None, Value::Null),
            Self::Start { process, start } => ("start", Some(process), start.data(dialect)?),
            Self::Stdin { process, input, end, n } => ("stdin", Some(process), stdin(input, *end, *n)),
            Self::Resize { process, rows, cols } if dialect != Dialect::RunPy => {
                ("resize", Some(process), json!({ "rows": rows.written(), "cols": cols.written() }))
            }
            Self::Stop { process, signal: None } => ("stop", Some(process), Value::Null),
            Self::Stop { process, signal: Some(signal) } => {
                ("stop", Some(process), json!({ "signal": signal.name() }))
            }
            Self::Signal { process, signal } => ("signal", Some(process), json!({ "signal": signal.name() })),
            Self::KeyEvent { process, key, event } => {
                ("keyevent", Some(process), json!({ "key": key, "event": event }))
            }
            Self::Upload { directory } if dialect == Dialect::RunPy => {
                let directory: Value = serde_json::from_str(directory).ok()?;
                ("upload", None, json!({ "directory": directory }))
            }
            Self::Hello(hello) if dialect == Dialect::Run => ("hello", None, hello.data()),
            Self::Attach { process, attach } if dialect == Dialect::Version1 => {
                ("attach", Some(process), attach.data())
            }
            Self::Detach { process } if dialect == Dialect::Version1 => {
                ("detach", Some(process), Value::Null)
            }
            Self::Take { process } if dialect == Dialect::Version1 => ("take", Some(process), Value::Null),
            Self::Ack { process, seq } if dialect == Dialect::Version1 => {
                ("ack", Some(process), json!({ "seq": seq }))
            }
            Self::Sessions if dialect == Dialect::Version1 => ("sessions", None, Value::Null),
            Self::Resize { .. }
            | Self::Upload { .. }
            | Self::Hello(_)
            | Self::Attach { .. }
            | Self::Detach { .. }
            | Self::Take { .. }
            | Self::Ack { .. }
            | Self::Sessions => return None,
        };
        let process = process.filter(|_| dialect != Dialect::RunPy).map(ProcessId::as_str);
        Some(json!({ "type": kind, "data": data, "process": process }).to_string())
    }
}

fn stdin(input: &str, end: bool, n: Option<u64>) -> Value {
    let mut data = Map::from_iter([("input".to_owned(), input.into())]);
    if end {
        data.insert("end".to_owned(), true.into());
    }
    if let Some(n) = n {
        data.insert("n".to_owned(), n.into());
    }
    Value::Object(data)
}

impl Start {
    /// One with this runner, and nothing else.
    pub fn new(runner: &str) -> Self {
        Self { runner: Some(runner.to_owned()), ..Self::default() }
    }

    fn data(&self, dialect: Dialect) -> Option<Value> {
        let mut data = Map::new();
        let mut put = |key: &str, value: &Option<String>| {
            if let Some(text) = value {
                data.insert(key.to_owned(), text.as_str().into());
            }
        };
        match dialect {
            Dialect::Run | Dialect::Version1 => {
                put("path", &self.path);
                put("code", &self.code);
                put("runner", &self.runner);
            }
            Dialect::RunPy if self.runner.as_deref() != Some(PYTHON3) => return None,
            Dialect::RunPy => {
                put("sourceScript", &self.code);
                put(if self.code.is_some() { "directoryName" } else { "sourcePath" }, &self.path);
            }
        }
        if let Some((rows, cols)) = self.size {
            data.insert("rows".to_owned(), rows.into());
            data.insert("cols".to_owned(), cols.into());
        }
        if dialect == Dialect::Version1 {
            if let Some(keep) = self.keep {
                data.insert("keep".to_owned(), keep.data());
            }
            if let Some(venv) = &self.venv {
                data.insert("venv".to_owned(), venv.as_str().into());
            }
            match &self.install {
                Some(Install::Packages(packages)) => drop(data.insert("install".to_owned(), json!(packages))),
                Some(Install::Requirements(file)) => drop(data.insert("install".to_owned(), json!(file))),
                None => {}
            }
            if !self.args.is_empty() {
                data.insert("args".to_owned(), json!(self.args));
            }
            if !self.env.is_empty() {
                let env = self.env.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
                data.insert("env".to_owned(), Value::Object(env.collect()));
            }
        }
        Some(Value::Object(data))
    }
}

fn in_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The parts of any message, wrong types made empty (B4.4).
pub(crate) struct Raw {
    pub(crate) kind: String,
    pub(crate) process: String,
    pub(crate) data: Map<String, Value>,
}

impl Raw {
    /// A string of the data, moved out.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.data.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A string that counts only if it is not empty.
    pub(crate) fn filled(&mut self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    fn signal(&mut self) -> Result<Signal, BadMessage> {
        let name = self.text("signal").unwrap_or_default();
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
        signal.ok_or(BadMessage::Field("data.signal"))
    }

    /// The size of a terminal. What is no size counts as none, since the original ignores it.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        match (self.integer("rows")?, self.integer("cols")?) {
            (Integer::Fits(rows), Integer::Fits(cols)) if rows > 0 && cols > 0 => Some((rows, cols)),
            _ => None,
        }
    }

    /// `rows` or `cols` of a resize.
    pub(crate) fn size_of(&self, key: &'static str) -> Result<Integer, BadMessage> {
        self.integer(key).ok_or(BadMessage::Field(if key == "rows" { "data.rows" } else { "data.cols" }))
    }

    /// A whole number of the data that is not negative. `None` if there is none.
    pub(crate) fn count(&self, key: &str, field: &'static str) -> Result<Option<u64>, BadMessage> {
        match self.data.get(key) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(BadMessage::Field(field)),
        }
    }

    /// The number of an input, from 1 on.
    fn input_number(&self) -> Result<Option<u64>, BadMessage> {
        match self.count("n", "data.n")? {
            Some(0) => Err(BadMessage::Field("data.n")),
            number => Ok(number),
        }
    }

    /// A secret of the data.
    pub(crate) fn secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    /// `args` of a start.
    pub(crate) fn args(&mut self) -> Result<Vec<String>, BadMessage> {
        let wrong = BadMessage::Field("data.args");
        match self.data.remove("args") {
            None => Ok(Vec::new()),
            Some(Value::Array(args)) => args.into_iter().map(|arg| in_text(arg).ok_or(wrong)).collect(),
            Some(_) => Err(wrong),
        }
    }

    /// `install` of a start.
    pub(crate) fn install(&mut self) -> Result<Option<Install>, BadMessage> {
        let wrong = BadMessage::Field("data.install");
        match self.data.remove("install") {
            None => Ok(None),
            Some(Value::String(file)) => Ok(Some(Install::Requirements(file))),
            Some(Value::Array(packages)) => {
                let packages = packages.into_iter().map(|one| in_text(one).ok_or(wrong));
                Ok(Some(Install::Packages(packages.collect::<Result<_, _>>()?)))
            }
            Some(_) => Err(wrong),
        }
    }

    /// `env` of a start.
    pub(crate) fn env(&mut self) -> Result<Vec<(String, String)>, BadMessage> {
        let wrong = BadMessage::Field("data.env");
        match self.data.remove("env") {
            None => Ok(Vec::new()),
            Some(Value::Object(env)) => {
                env.into_iter().map(|(name, value)| Ok((name, in_text(value).ok_or(wrong)?))).collect()
            }
            Some(_) => Err(wrong),
        }
    }

    /// `keep` of a start.
    pub(crate) fn keep(&self) -> Result<Option<Keep>, BadMessage> {
        let Some(keep) = self.data.get("keep") else { return Ok(None) };
        let seconds = keep.get("seconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or(BadMessage::Field("data.keep.seconds"))?;
        let when_full = match keep.get("full") {
            None => WhenFull::Drop,
            Some(name) => WhenFull::ALL
                .into_iter()
                .find(|full| *name == full.name())
                .ok_or(BadMessage::Field("data.keep.full"))?,
        };
        Ok(Some(Keep { seconds, when_full }))
    }

    fn integer(&self, key: &str) -> Option<Integer> {
        match self.data.get(key)? {
            // Python's True and False are integers, and the original takes them (B5).
            Value::Bool(flag) => Some(Integer::Fits(u16::from(*flag))),
            Value::Number(number) => integer(&number.to_string()),
            _ => None,
        }
    }
}

/// JSON tells 3 and 3.0 apart only by how they are written.
fn integer(literal: &str) -> Option<Integer> {
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits == "0" {
        return Some(Integer::Fits(0));
    }
    Some(literal.parse().map_or(Integer::OutOfRange, Integer::Fits))
}

/// What means the same in both dialects once the process is known.
pub(crate) fn addressed(
    process: ProcessId,
    mut raw: Raw,
    dialect: Dialect,
) -> Result<ClientMessage, BadMessage> {
    match raw.kind.as_str() {
        "stdin" => {
            let end = raw.data.get("end") == Some(&Value::Bool(true));
            // The end may come alone.
            let is_alone = end && !raw.data.contains_key("input");
            let input = if is_alone {
                String::new()
            } else {
                raw.text("input").ok_or(BadMessage::Field("data.input"))?
            };
            let n = if dialect == Dialect::Version1 { raw.input_number()? } else { None };
            Ok(ClientMessage::Stdin { process, input, end, n })
        }
        "stop" if !raw.data.contains_key("signal") => Ok(ClientMessage::Stop { process, signal: None }),
        "stop" => Ok(ClientMessage::Stop { process, signal: Some(raw.signal()?) }),
        "signal" => Ok(ClientMessage::Signal { process, signal: raw.signal()? }),
        "keyevent" => {
            let key = raw.text("key").ok_or(BadMessage::Field("data.key"))?;
            let event = raw.text("event").ok_or(BadMessage::Field("data.event"))?;
            Ok(ClientMessage::KeyEvent { process, key, event })
        }
        _ => Err(BadMessage::UnknownType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn what_a_client_writes_after_hello_is_what_the_daemon_reads_then_and_not_before() {
        let process = ProcessId::new("1");
        let start = |keep| Start { keep: Some(Keep { seconds: 60, when_full: keep }), ..Start::new(SHELL) };
        let chosen = Start {
            runner: None,
            path: Some("a.c".to_owned()),
            args: vec!["a b".to_owned(), String::new()],
            env: vec![("NAME".to_owned(), "ü".to_owned())],
            venv: Some("v".to_owned()),
            install: Some(Install::Packages(vec!["p".to_owned()])),
            ..Start::default()
        };
        let required = Start {
            install: Some(Install::Requirements("requirements.txt".to_owned())),
            ..Start::new(PYTHON3)
        };
        let attach = |after, size| Attach { session: "s".to_owned(), key: Secret::new("k"), after, size };
        let stdin =
            |n| ClientMessage::Stdin { process: process.clone(), input: "x".to_owned(), end: false, n };
        let messages = [
            ClientMessage::Start { process: process.clone(), start: start(WhenFull::Drop) },
            ClientMessage::Start { process: process.clone(), start: start(WhenFull::Wait) },
            ClientMessage::Start { process: process.clone(), start: chosen },
            ClientMessage::Start { process: process.clone(), start: required },
            ClientMessage::Start { process: process.clone(), start: Start::new("my-basic") },
            stdin(Some(1)),
            stdin(Some(u64::MAX)),
            ClientMessage::Attach { process: process.clone(), attach: attach(None, None) },
            ClientMessage::Attach { process: process.clone(), attach: attach(Some(7), Some((24, 80))) },
            ClientMessage::Detach { process: process.clone() },
            ClientMessage::Take { process: process.clone() },
            ClientMessage::Ack { process: process.clone(), seq: 7 },
            ClientMessage::Sessions,
        ];
        for message in messages {
            let json = message.to_json(Dialect::Version1).unwrap();
            assert_eq!(parse(json.as_bytes(), Dialect::Version1).as_ref(), Ok(&message), "{json}");
            assert_ne!(parse(json.as_bytes(), Dialect::Run).as_ref(), Ok(&message), "{json}");
        }
        for (client, acks) in [(None, false), (None, true), (Some(Secret::new("x".repeat(22))), true)] {
            let hello = ClientMessage::Hello(Hello { client, acks });
            let json = hello.to_json(Dialect::Run).unwrap();
            assert_eq!(parse(json.as_bytes(), Dialect::Run), Ok(hello));
            assert!(parse(json.as_bytes(), Dialect::Version1).is_err(), "a second one");
            assert!(parse(json.as_bytes(), Dialect::RunPy).is_err());
        }
    }

    #[test]
    fn wrong_fields_of_kept_programs_are_bad_messages_after_hello() {
        for text in [
            r#"{"type":"start","process":"1","data":{"runner":"shell","keep":{}}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","keep":{"seconds":0}}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","keep":{"seconds":1.5}}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","keep":{"seconds":1,"full":"no"}}}"#,
            r#"{"type":"start","process":"1","data":{"runner":3}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","args":"x"}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","args":[1]}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","env":["x"]}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","install":{}}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","install":[1]}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","venv":1}}"#,
            r#"{"type":"start","process":"1","data":{"runner":"shell","env":{"x":null}}}"#,
            r#"{"type":"stdin","process":"1","data":{"input":"x","n":0}}"#,
            r#"{"type":"stdin","process":"1","data":{"input":"x","n":-1}}"#,
            r#"{"type":"stdin","process":"1","data":{"input":"x","n":"1"}}"#,
            r#"{"type":"attach","process":"1","data":{"session":"s"}}"#,
            r#"{"type":"attach","process":"1","data":{"key":"s"}}"#,
            r#"{"type":"attach","process":"1","data":{"session":"s","key":"k","after":-1}}"#,
            r#"{"type":"attach","data":{"session":"s","key":"k"}}"#,
            r#"{"type":"ack","process":"1"}"#,
            r#"{"type":"ack","process":"1","data":{"seq":-1}}"#,
            r#"{"type":"ack","data":{"seq":1}}"#,
        ] {
            let parsed = parse(text.as_bytes(), Dialect::Version1);
            assert!(matches!(parsed, Err(crate::ClientError::BadMessage(_))), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn what_a_client_writes_is_what_the_daemon_reads() {
        let start = |runner, path: Option<&str>, code: Option<&str>| Start {
            path: path.map(str::to_owned),
            code: code.map(str::to_owned),
            size: code.map(|_| (24, 80)),
            ..Start::new(runner)
        };
        let starts = [
            start(PYTHON3, None, Some("print(\"ü\")")),
            start(PYTHON3, Some("d"), Some("")),
            start(PYTHON3, Some("a/b.py"), None),
            start(EXEC, Some("a"), None),
            start(SHELL, None, None),
        ];
        for dialect in [Dialect::Run, Dialect::RunPy] {
            let process = ProcessId::new(if dialect == Dialect::Run { "1\"" } else { "" });
            let mut messages = vec![
                ClientMessage::Ping,
                ClientMessage::Stdin {
                    process: process.clone(),
                    input: "\u{1}€\n".to_owned(),
                    end: false,
                    n: None,
                },
                ClientMessage::Stdin { process: process.clone(), input: String::new(), end: true, n: None },
                ClientMessage::Stop { process: process.clone(), signal: None },
                ClientMessage::Stop { process: process.clone(), signal: Some(Signal::Kill) },
                ClientMessage::Signal { process: process.clone(), signal: Signal::Interrupt },
                ClientMessage::KeyEvent {
                    process: process.clone(),
                    key: "a".into(),
                    event: "keydown".into(),
                },
                ClientMessage::Upload { directory: r#"{"name":"x"}"#.to_owned() },
            ];
            messages.extend([(0, 65535), (24, 80)].map(|(rows, cols)| ClientMessage::Resize {
                process: process.clone(),
                rows: Integer::Fits(rows),
                cols: Integer::Fits(cols),
            }));
            messages.extend(
                starts
                    .iter()
                    .map(|start| ClientMessage::Start { process: process.clone(), start: start.clone() }),
            );
            let mut written = 0;
            for message in messages {
                let Some(json) = message.to_json(dialect) else { continue };
                assert_eq!(parse(json.as_bytes(), dialect).as_ref(), Ok(&message), "{json}");
                written += 1;
            }
            assert_eq!(written, if dialect == Dialect::Run { 14 } else { 11 });
        }
    }
}
