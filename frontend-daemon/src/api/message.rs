//! Messages of the WebSocket: one JSON object each, in both directions.
//!
//! The rules are B4 and B5. `parse` reads messages of clients, in either dialect.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::{error::Complaint, escape::push_string};

/// Which endpoint the connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Run,
    RunPy,
}

/// The client's name for a process: any text, its own for each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId(String);

impl ProcessId {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    Ping,
    Start {
        process: ProcessId,
        start: Start,
    },
    Stdin {
        process: ProcessId,
        input: String,
    },
    Resize {
        process: ProcessId,
        rows: Integer,
        cols: Integer,
    },
    Stop {
        process: ProcessId,
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
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) runner: further_link_proto::Runner,
    pub(crate) path: Option<String>,
    pub(crate) code: Option<String>,
}

/// A JSON integer as a terminal can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integer {
    Fits(u16),
    OutOfRange,
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

    pub(crate) fn integer(&self, key: &str) -> Option<Integer> {
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
pub(crate) fn addressed(process: ProcessId, mut raw: Raw) -> Option<Incoming> {
    match raw.kind.as_str() {
        "stdin" => raw.text("input").map(|input| Incoming::Stdin { process, input }),
        "stop" => Some(Incoming::Stop { process }),
        "keyevent" => {
            let (key, event) = (raw.text("key")?, raw.text("event")?);
            Some(Incoming::KeyEvent { process, key, event })
        }
        _ => None,
    }
}

/// More than what stands around the text of an output message, but for a long id.
const OUTPUT_SPARE: usize = 128;
/// Room for one more byte in so many of text: a line feed in each line.
const SHARE_OF_ESCAPES: usize = 32;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing<'a> {
    Pong,
    Error(&'a Complaint),
    Started,
    Uploaded,
    Stopped {
        exit_code: i32,
    },
    Stdout(&'a str),
    Stderr(&'a str),
    /// A picture as text.
    Video(&'a str),
    /// The program wants to hear of this key.
    KeyListen(&'a str),
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
struct ErrorData {
    message: String,
}

impl Outgoing<'_> {
    /// Writes the message. `process` is the one it is about, if it is about one.
    pub(crate) fn to_json(&self, dialect: Dialect, process: Option<&ProcessId>) -> String {
        let process = match dialect {
            Dialect::Run => process.map(|id| id.0.as_str()),
            Dialect::RunPy => Some(""),
        };
        match self {
            Self::Pong => write("pong", (), process),
            Self::Error(complaint) => write("error", ErrorData { message: complaint.text() }, process),
            Self::Started => write("started", (), process),
            Self::Uploaded => write("uploaded", (), process),
            Self::Stopped { exit_code } => write("stopped", Stopped { exit_code: *exit_code }, process),
            Self::Stdout(text) => output("stdout", text, process),
            Self::Stderr(text) => output("stderr", text, process),
            Self::Video(text) => output("video", text, process),
            Self::KeyListen(key) => write("keylisten", KeyListen { output: key, key }, process),
        }
    }
}

fn write<D: Serialize>(kind: &str, data: D, process: Option<&str>) -> String {
    // Strings and numbers into a string: there is nothing that could fail.
    serde_json::to_string(&Envelope { r#type: kind, data, process }).unwrap_or_default()
}

/// A message whose data is the text of `output`, in one piece of memory: the bulk of all traffic.
fn output(kind: &str, text: &str, process: Option<&str>) -> String {
    let mut json = String::with_capacity(text.len() + text.len() / SHARE_OF_ESCAPES + OUTPUT_SPARE);
    for part in ["{\"type\":\"", kind, "\",\"data\":{\"output\":"] {
        json.push_str(part);
    }
    push_string(&mut json, text);
    json.push_str("},\"process\":");
    match process {
        Some(process) => push_string(&mut json, process),
        None => json.push_str("null"),
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_the_three_keys_in_the_originals_order() {
        let id = ProcessId::new("a\"b");
        let json = |message: Outgoing, process| message.to_json(Dialect::Run, process);
        assert_eq!(json(Outgoing::Pong, None), r#"{"type":"pong","data":null,"process":null}"#);
        assert_eq!(json(Outgoing::Started, Some(&id)), r#"{"type":"started","data":null,"process":"a\"b"}"#);
        assert_eq!(
            json(Outgoing::Stopped { exit_code: -15 }, Some(&id)),
            r#"{"type":"stopped","data":{"exitCode":-15},"process":"a\"b"}"#
        );
        assert_eq!(
            json(Outgoing::Stdout("a\n\u{1}€"), Some(&id)),
            "{\"type\":\"stdout\",\"data\":{\"output\":\"a\\n\\u0001€\"},\"process\":\"a\\\"b\"}"
        );
        assert_eq!(
            json(Outgoing::Video("/9j/4A=="), Some(&id)),
            r#"{"type":"video","data":{"output":"/9j/4A=="},"process":"a\"b"}"#
        );
        assert_eq!(
            json(Outgoing::KeyListen(" "), Some(&id)),
            r#"{"type":"keylisten","data":{"output":" ","key":" "},"process":"a\"b"}"#
        );
        assert_eq!(
            json(Outgoing::Error(&Complaint::BadMessage), None),
            r#"{"type":"error","data":{"message":"Bad message"},"process":null}"#
        );
        assert_eq!(
            Outgoing::Pong.to_json(Dialect::RunPy, None),
            r#"{"type":"pong","data":null,"process":""}"#
        );
    }
}
