//! Messages of the daemon: one JSON object each. The daemon writes them, a client reads them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    error::ClientError,
    escape::push_string,
    keep::EndReason,
    kept_message::{KeptMessage, Stage},
    message::{Dialect, ProcessId},
};

/// More than what stands around the text of an output message, but for a long id.
const OUTPUT_SPARE: usize = 128;
/// A field of the compiler's output.
const OF_COMPILER: &str = ",\"stage\":\"compile\"";
/// Room for one more byte in so many of text: a line feed in each line.
const SHARE_OF_ESCAPES: usize = 32;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// The answer to `ping`.
    Pong,
    /// Something did not work; the text of a [`ClientError`].
    Error(Cow<'a, str>),
    /// The program runs.
    Started,
    /// The upload is stored.
    Uploaded,
    /// The program has ended, and all its output was sent.
    Stopped {
        /// The exit code, or minus the signal number (B6.2).
        exit_code: i32,
    },
    /// Standard output.
    Stdout(Cow<'a, str>),
    /// Standard error.
    Stderr(Cow<'a, str>),
    /// What the compiler says. Standard error for clients that have not said `hello`.
    Compiler(Cow<'a, str>),
    /// A picture as text.
    Video(Cow<'a, str>),
    /// The program wants to hear of this key.
    KeyListen(Cow<'a, str>),
    /// For clients that have said `hello`.
    Kept(KeptMessage<'a>),
}

impl From<&ClientError> for ServerMessage<'_> {
    fn from(error: &ClientError) -> Self {
        Self::Error(error.to_string().into())
    }
}

/// The JSON form: always these three keys (B4.1).
#[derive(Serialize)]
struct Envelope<'a, D> {
    r#type: &'a str,
    data: D,
    process: Option<&'a str>,
}

#[derive(Serialize)]
struct KeyListen<'a> {
    /// The original sends this one, and documents the other (B12.4).
    output: &'a str,
    key: &'a str,
}

#[derive(Serialize)]
struct Stopped {
    #[serde(rename = "exitCode")]
    exit_code: i32,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    message: &'a str,
}

impl ServerMessage<'_> {
    /// Writes the message. `process` is the one it is about, if it is about one.
    pub fn to_json(&self, dialect: Dialect, process: Option<&ProcessId>) -> String {
        let process = match dialect {
            Dialect::Run | Dialect::Version1 => process.map(ProcessId::as_str),
            Dialect::RunPy => Some(""),
        };
        match self {
            Self::Pong => write("pong", (), process),
            Self::Error(message) => write("error", ErrorData { message }, process),
            Self::Started => write("started", (), process),
            Self::Uploaded => write("uploaded", (), process),
            Self::Stopped { exit_code } => write("stopped", Stopped { exit_code: *exit_code }, process),
            Self::Stdout(text) => output("stdout", text, "", process),
            Self::Compiler(text) if dialect == Dialect::Version1 => {
                output("stderr", text, OF_COMPILER, process)
            }
            Self::Stderr(text) | Self::Compiler(text) => output("stderr", text, "", process),
            Self::Video(text) => output("video", text, "", process),
            Self::KeyListen(key) => write("keylisten", KeyListen { output: key, key }, process),
            Self::Kept(KeptMessage::Stdout { output: text, seq }) => {
                output("stdout", text, &format!(",\"seq\":{seq}"), process)
            }
            Self::Kept(KeptMessage::Stderr { output: text, seq, stage: None }) => {
                output("stderr", text, &format!(",\"seq\":{seq}"), process)
            }
            Self::Kept(message) => {
                serde_json::to_string(&KeptEnvelope { message, process }).unwrap_or_default()
            }
        }
    }
}

/// The JSON form of the messages that carry their type.
#[derive(Serialize, Deserialize)]
struct KeptEnvelope<M, P> {
    #[serde(flatten)]
    message: M,
    process: P,
}

fn write<D: Serialize>(kind: &str, data: D, process: Option<&str>) -> String {
    // Strings and numbers into a string: there is nothing that could fail.
    serde_json::to_string(&Envelope { r#type: kind, data, process }).unwrap_or_default()
}

/// A message whose data is the text of `output`, and more fields, in one piece of memory: the bulk of all
/// traffic.
fn output(kind: &str, text: &str, more: &str, process: Option<&str>) -> String {
    let mut json = String::with_capacity(text.len() + text.len() / SHARE_OF_ESCAPES + OUTPUT_SPARE);
    for part in ["{\"type\":\"", kind, "\",\"data\":{\"output\":"] {
        json.push_str(part);
    }
    push_string(&mut json, text);
    json.push_str(more);
    json.push_str("},\"process\":");
    match process {
        Some(process) => push_string(&mut json, process),
        None => json.push_str("null"),
    }
    json.push('}');
    json
}

/// A message of the daemon as a client reads it, with the process that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub message: ServerMessage<'static>,
    /// None where no process is meant.
    pub process: Option<ProcessId>,
}

/// Why a text is no message of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not with these fields.
    #[error("not a message of the daemon: {0}")]
    Json(#[from] serde_json::Error),
    /// A type that this client does not know, or one without its data.
    #[error("a message of type {0:?} that is not known, or lacks its data")]
    Kind(String),
}

#[derive(Deserialize)]
struct Raw {
    r#type: String,
    data: Option<RawData>,
    process: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawData {
    output: Option<String>,
    message: Option<String>,
    key: Option<String>,
    #[serde(rename = "exitCode")]
    exit_code: Option<i32>,
    // What only messages about kept programs have.
    seq: Option<u64>,
    session: Option<String>,
    reason: Option<EndReason>,
    stage: Option<Stage>,
}

/// The types that only clients get which have said `hello`.
const KEPT_TYPES: [&str; 9] =
    ["hello", "attached", "screen", "lost", "detached", "sessions", "holder", "viewers", "resized"];

impl RawData {
    fn is_of_kept(&self) -> bool {
        self.seq.is_some() || self.session.is_some() || self.reason.is_some()
    }
}

impl Received {
    /// Reads a message of the daemon, of any dialect.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let Raw { r#type: kind, data, process } = serde_json::from_slice(text)?;
        let data = data.unwrap_or_default();
        if data.is_of_kept() || KEPT_TYPES.contains(&kind.as_str()) {
            let KeptEnvelope { message, process } =
                serde_json::from_slice::<KeptEnvelope<_, Option<String>>>(text)?;
            return Ok(Self { message: ServerMessage::Kept(message), process: process.map(ProcessId::new) });
        }
        let message = match (kind.as_str(), data) {
            ("pong", _) => ServerMessage::Pong,
            ("started", _) => ServerMessage::Started,
            ("uploaded", _) => ServerMessage::Uploaded,
            ("error", RawData { message: Some(text), .. }) => ServerMessage::Error(text.into()),
            ("stopped", RawData { exit_code: Some(exit_code), .. }) => ServerMessage::Stopped { exit_code },
            ("stdout", RawData { output: Some(text), .. }) => ServerMessage::Stdout(text.into()),
            ("stderr", RawData { output: Some(text), stage: Some(Stage::Compile), .. }) => {
                ServerMessage::Compiler(text.into())
            }
            ("stderr", RawData { output: Some(text), .. }) => ServerMessage::Stderr(text.into()),
            ("video", RawData { output: Some(text), .. }) => ServerMessage::Video(text.into()),
            ("keylisten", RawData { key: Some(key), .. }) => ServerMessage::KeyListen(key.into()),
            _ => return Err(Malformed::Kind(kind)),
        };
        Ok(Self { message, process: process.map(ProcessId::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::BadMessage,
        keep::{Mode, Outcome, Usage},
        kept_message::{Attached, HelloAnswer, KeptLimits, KeptSession, KeptState, RunnerEntry},
    };

    #[test]
    fn every_message_has_the_three_keys_in_the_originals_order() {
        let id = ProcessId::new("a\"b");
        let json = |message: ServerMessage<'_>, process| message.to_json(Dialect::Run, process);
        assert_eq!(json(ServerMessage::Pong, None), r#"{"type":"pong","data":null,"process":null}"#);
        assert_eq!(
            json(ServerMessage::Started, Some(&id)),
            r#"{"type":"started","data":null,"process":"a\"b"}"#
        );
        assert_eq!(
            json(ServerMessage::Stopped { exit_code: -15 }, Some(&id)),
            r#"{"type":"stopped","data":{"exitCode":-15},"process":"a\"b"}"#
        );
        assert_eq!(
            json(ServerMessage::Stdout("a\n\u{1}€".into()), Some(&id)),
            "{\"type\":\"stdout\",\"data\":{\"output\":\"a\\n\\u0001€\"},\"process\":\"a\\\"b\"}"
        );
        assert_eq!(
            json(ServerMessage::Video("/9j/4A==".into()), Some(&id)),
            r#"{"type":"video","data":{"output":"/9j/4A=="},"process":"a\"b"}"#
        );
        assert_eq!(
            json(ServerMessage::KeyListen(" ".into()), Some(&id)),
            r#"{"type":"keylisten","data":{"output":" ","key":" "},"process":"a\"b"}"#
        );
        assert_eq!(
            json(ServerMessage::from(&ClientError::BadMessage(BadMessage::NotJson)), None),
            r#"{"type":"error","data":{"message":"Bad message"},"process":null}"#
        );
        assert_eq!(
            ServerMessage::Pong.to_json(Dialect::RunPy, None),
            r#"{"type":"pong","data":null,"process":""}"#
        );
    }

    /// One of each message about kept programs.
    fn of_kept() -> Vec<KeptMessage<'static>> {
        let text = || "\"ä\n".into();
        let limits = KeptLimits {
            message: 1,
            programs: 2,
            keep_seconds: 3,
            sessions: 4,
            sessions_per_client: 5,
            viewers: 6,
            text: 7,
            text_of_all: 8,
        };
        let hello = HelloAnswer {
            version: 1,
            server: "further-link".to_owned(),
            device: "pi".to_owned(),
            features: vec!["keep".to_owned()],
            limits,
            runners: vec![RunnerEntry {
                id: "c".to_owned(),
                title: "C".to_owned(),
                extensions: vec!["c".to_owned()],
                available: false,
                hint: Some("install it".to_owned()),
                version: Some("c 1".to_owned()),
            }],
        };
        let attached = Attached {
            seq: 9,
            state: KeptState::Running,
            mode: Mode::View,
            rows: 24,
            cols: 80,
            lost: 1,
            input: 2,
            holder: false,
            viewers: 3,
        };
        let session = |exit_code: Option<i32>| KeptSession {
            session: "s".to_owned(),
            started: 1,
            runner: "python3".to_owned(),
            path: exit_code.map(|_| "p".to_owned()),
            user: exit_code.map(|_| "pi".to_owned()),
            state: KeptState::Stopped,
            viewers: 0,
            seconds: 60,
            exit_code,
        };
        vec![
            KeptMessage::Hello(hello),
            KeptMessage::Started { session: text(), key: text(), view_key: text() },
            KeptMessage::Stdout { output: text(), seq: 4 },
            KeptMessage::Stderr { output: text(), seq: 1 << 52, stage: None },
            KeptMessage::Stderr { output: text(), seq: 0, stage: Some(Stage::Compile) },
            KeptMessage::Stopped(Outcome { exit_code: -9, reason: EndReason::Memory, usage: None }),
            KeptMessage::Stopped(Outcome {
                exit_code: 0,
                reason: EndReason::Exited,
                usage: Some(Usage { cpu_ms: 12, peak_memory: 9_000_000 }),
            }),
            KeptMessage::Attached(attached),
            KeptMessage::Screen { output: text(), seq: 0 },
            KeptMessage::Lost { lost: 1, seq: 2 },
            KeptMessage::Detached { seq: 3 },
            KeptMessage::Sessions { sessions: vec![session(None), session(Some(-15))] },
            KeptMessage::Holder { holder: true, input: 5 },
            KeptMessage::Viewers { viewers: 2 },
            KeptMessage::Resized { rows: 1, cols: 2 },
        ]
    }

    #[test]
    fn what_the_daemon_writes_is_what_a_client_reads() {
        let id = ProcessId::new("1\"");
        for message in [
            ServerMessage::Pong,
            ServerMessage::from(&ClientError::BadUpload),
            ServerMessage::Started,
            ServerMessage::Uploaded,
            ServerMessage::Stopped { exit_code: -15 },
            ServerMessage::Stdout("a\n\u{1}€\"".into()),
            ServerMessage::Stderr("\\".into()),
            ServerMessage::Video("/9j/4A==".into()),
            ServerMessage::KeyListen(" ".into()),
        ] {
            let process = Some(id.clone());
            let json = message.to_json(Dialect::Run, process.as_ref());
            assert_eq!(Received::parse(json.as_bytes()).unwrap(), Received { message, process }, "{json}");
        }
        for message in of_kept() {
            let process = Some(id.clone());
            let message = ServerMessage::Kept(message);
            let json = message.to_json(Dialect::Version1, process.as_ref());
            assert_eq!(Received::parse(json.as_bytes()).unwrap(), Received { message, process }, "{json}");
        }
        assert!(Received::parse(br#"{"type":"stdout","data":null,"process":"1"}"#).is_err());
        assert!(Received::parse(br#"{"type":"ping","data":null,"process":null}"#).is_err());
    }
}
