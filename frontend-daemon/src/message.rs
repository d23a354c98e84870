//! Messages of the WebSocket: one JSON object each. Parsing is total: any text gives a message or a complaint.
//!
//! The rules are B4 and B5. `/run-py` is an older dialect of the same thing: `run_py` reads and addresses it, and
//! nothing behind this file knows the difference.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{complaint::Complaint, escape::push_string, run_py};

/// Most values in one message. Each costs up to a hundred bytes once it is read, and 4 MiB of text can have two millions
/// of them; the largest upload has some thousands.
const MAX_VALUES: usize = 32 * 1024;
/// Longest id of a process: each message about the process carries it.
const MAX_ID: usize = 16 * 1024;

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

/// Reads one message.
pub(crate) fn parse(text: &[u8], dialect: Dialect) -> Result<Incoming, Complaint> {
    let text = std::str::from_utf8(text).map_err(|_| Complaint::MessageException)?;
    if values(text.as_bytes()) > MAX_VALUES {
        return Err(Complaint::BadMessage);
    }
    let Value::Object(mut object) = serde_json::from_str(text).map_err(|_| Complaint::BadMessage)? else {
        return Err(Complaint::MessageException);
    };
    let mut take_text = |key| match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (kind, process) = (take_text("type"), take_text("process"));
    let data = match object.remove("data") {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    let raw = Raw { kind, process, data };
    let message = match dialect {
        Dialect::Run => run(raw),
        Dialect::RunPy => run_py::parse(raw),
    };
    message.ok_or(Complaint::BadMessage)
}

/// At most so many values are in this text. Not JSON yet, so an estimate from above.
fn values(text: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' | b':' if !in_string => values = values.saturating_add(1),
            _ => {}
        }
    }
    values
}

fn run(mut raw: Raw) -> Option<Incoming> {
    if raw.kind == "ping" {
        return Some(Incoming::Ping);
    }
    if !(1..=MAX_ID).contains(&raw.process.len()) {
        return None;
    }
    let process = ProcessId::new(std::mem::take(&mut raw.process));
    match raw.kind.as_str() {
        "start" => start(raw).map(|start| Incoming::Start { process, start }),
        "resize" => {
            let (rows, cols) = (raw.integer("rows")?, raw.integer("cols")?);
            Some(Incoming::Resize { process, rows, cols })
        }
        _ => addressed(process, raw),
    }
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

fn start(mut raw: Raw) -> Option<Start> {
    use further_link_proto::Runner::{Exec, Python3, Shell};
    let name = raw.text("runner")?;
    let runner = [Python3, Exec, Shell].into_iter().find(|runner| runner.name() == name)?;
    // A shell has no program text (B8).
    let code = raw.text("code").filter(|_| runner != Shell);
    Some(Start { runner, path: raw.filled("path"), code })
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
    use further_link_proto::Runner;

    fn run(text: &str) -> Result<Incoming, Complaint> {
        parse(text.as_bytes(), Dialect::Run)
    }

    #[test]
    fn wrong_messages_get_the_complaint_of_b4_and_b5() {
        let bad = [
            "",
            "{",
            "nonsense",
            r#"{"type":"nope"}"#,
            "{}",
            r#"{"type":5}"#,
            r#"{"type":"start"}"#,
            r#"{"type":"start","process":"1"}"#,
            r#"{"type":"start","process":"1","data":{"runner":"ruby"}}"#,
            r#"{"type":"start","process":"1","data":{"runner":3}}"#,
            r#"{"type":"start","process":"","data":{"runner":"shell"}}"#,
            r#"{"type":"start","process":7,"data":{"runner":"shell"}}"#,
            r#"{"type":"stdin","process":"1"}"#,
            r#"{"type":"stdin","process":"1","data":{"input":1}}"#,
            r#"{"type":"resize","process":"1","data":{"rows":3.0,"cols":4}}"#,
            r#"{"type":"resize","process":"1","data":{"rows":"3","cols":4}}"#,
            r#"{"type":"resize","process":"1","data":{"rows":1e3,"cols":4}}"#,
            r#"{"type":"keyevent","process":"1","data":{"key":"a"}}"#,
            r#"{"type":"upload","process":"1","data":{}}"#,
            r#"{"type":"stop"}"#,
        ];
        for text in bad {
            assert_eq!(run(text), Err(Complaint::BadMessage), "{text}");
        }
        for text in ["[]", "1", "null", "\"ping\"", "true"] {
            assert_eq!(run(text), Err(Complaint::MessageException), "{text}");
        }
        assert_eq!(parse(b"{\"type\":\"\xff\"}", Dialect::Run), Err(Complaint::MessageException));
    }

    #[test]
    fn nesting_without_end_is_a_bad_message_and_not_a_full_stack() {
        let deep = format!("{{\"data\":{}", "[".repeat(1_000_000));
        assert_eq!(run(&deep), Err(Complaint::BadMessage));
    }

    #[test]
    fn a_message_has_a_limit_of_values_and_ids_have_one_of_length() {
        let with = |count: usize| run(&format!(r#"{{"type":"ping","x":[{}0]}}"#, "0,".repeat(count)));
        // What is not in the array counts as six.
        assert_eq!(with(MAX_VALUES - 6), Ok(Incoming::Ping));
        assert_eq!(with(MAX_VALUES - 5), Err(Complaint::BadMessage));
        let text = format!(r#"{{"type":"ping","x":"\"{}\\"}}"#, ",[{:".repeat(MAX_VALUES));
        assert_eq!(run(&text), Ok(Incoming::Ping), "within a string they are no values");
        let stop = |length| run(&format!(r#"{{"type":"stop","process":"{}"}}"#, "x".repeat(length)));
        assert!(stop(MAX_ID).is_ok());
        assert_eq!(stop(MAX_ID + 1), Err(Complaint::BadMessage));
    }

    #[test]
    fn start_takes_what_counts_and_ignores_the_rest() {
        let text = r#"{"type":"start","process":"ü","data":{"runner":"python3","code":"","path":"","directoryName":"x"},"more":1}"#;
        let start = Start { runner: Runner::Python3, path: None, code: Some(String::new()) };
        assert_eq!(run(text), Ok(Incoming::Start { process: ProcessId::new("ü"), start }));
        let text = r#"{"type":"start","process":"1","data":{"runner":"shell","code":"x","path":"p"}}"#;
        let start = Start { runner: Runner::Shell, path: Some("p".to_owned()), code: None };
        assert_eq!(run(text), Ok(Incoming::Start { process: ProcessId::new("1"), start }));
    }

    #[test]
    fn integers_are_told_apart_from_other_numbers_and_from_sizes_no_terminal_has() {
        for (literal, expected) in [
            ("24", Some(Integer::Fits(24))),
            ("0", Some(Integer::Fits(0))),
            ("-0", Some(Integer::Fits(0))),
            ("65535", Some(Integer::Fits(65535))),
            ("65536", Some(Integer::OutOfRange)),
            ("-1", Some(Integer::OutOfRange)),
            ("123456789012345678901234567890", Some(Integer::OutOfRange)),
            ("3.0", None),
            ("1e3", None),
        ] {
            let text =
                format!(r#"{{"type":"resize","process":"1","data":{{"rows":{literal},"cols":true}}}}"#);
            let expected = expected.map(|rows| Incoming::Resize {
                process: ProcessId::new("1"),
                rows,
                cols: Integer::Fits(1),
            });
            assert_eq!(run(&text), expected.ok_or(Complaint::BadMessage), "{literal}");
        }
    }

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
