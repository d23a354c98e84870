//! Reads messages of clients. Parsing is total: any text gives a message or an error.
//!
//! `/run-py` is an older dialect of `/run`: `run_py` translates its messages, and nothing after this file
//! knows the difference.

use serde_json::{Map, Value};

use crate::{
    error::{BadMessage, ClientError},
    json_size::JsonSize,
    keep::{Attach, CLIENT_SECRET, Hello, VERSION},
    limits::{MAX_ID, MAX_VALUES},
    message::{ClientMessage, Dialect, ORIGINAL_RUNNERS, ProcessId, Raw, SHELL, Start, addressed},
    run_py,
};

/// Reads one message.
pub fn parse(text: &[u8], dialect: Dialect) -> Result<ClientMessage, ClientError> {
    let text = std::str::from_utf8(text).map_err(|_| ClientError::MessageException)?;
    if JsonSize::of(text.as_bytes()).values > MAX_VALUES {
        return Err(BadMessage::TooManyValues.into());
    }
    let Value::Object(mut object) = serde_json::from_str(text).map_err(|_| BadMessage::NotJson)? else {
        return Err(ClientError::MessageException);
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
    match dialect {
        Dialect::Run | Dialect::Version1 => Ok(run(raw, dialect)?),
        Dialect::RunPy => run_py::parse(raw),
    }
}

fn run(mut raw: Raw, dialect: Dialect) -> Result<ClientMessage, BadMessage> {
    let is_new = dialect == Dialect::Version1;
    match raw.kind.as_str() {
        "ping" => return Ok(ClientMessage::Ping),
        "hello" if is_new => return Err(BadMessage::SecondHello),
        "hello" => return hello(raw),
        "sessions" if is_new => return Ok(ClientMessage::Sessions),
        _ => {}
    }
    if !(1..=MAX_ID).contains(&raw.process.len()) {
        return Err(BadMessage::Field("process"));
    }
    let process = ProcessId::new(std::mem::take(&mut raw.process));
    match raw.kind.as_str() {
        "start" => start(raw, dialect).map(|start| ClientMessage::Start { process, start }),
        "resize" => {
            let (rows, cols) = (raw.size_of("rows")?, raw.size_of("cols")?);
            Ok(ClientMessage::Resize { process, rows, cols })
        }
        "attach" if is_new => attach(raw).map(|attach| ClientMessage::Attach { process, attach }),
        "detach" if is_new => Ok(ClientMessage::Detach { process }),
        "take" if is_new => Ok(ClientMessage::Take { process }),
        "ack" if is_new => {
            let seq = raw.count("seq", "data.seq")?.ok_or(BadMessage::Field("data.seq"))?;
            Ok(ClientMessage::Ack { process, seq })
        }
        _ => addressed(process, raw, dialect),
    }
}

fn hello(mut raw: Raw) -> Result<ClientMessage, BadMessage> {
    if raw.count("version", "data.version")? != Some(VERSION) {
        return Err(BadMessage::Field("data.version"));
    }
    let is_named = raw.data.contains_key("client");
    let client =
        raw.secret("client").filter(|secret| CLIENT_SECRET.contains(&secret.as_str().chars().count()));
    if is_named && client.is_none() {
        return Err(BadMessage::Field("data.client"));
    }
    let acks = match raw.data.get("ack") {
        None => false,
        Some(Value::Bool(acks)) => *acks,
        Some(_) => return Err(BadMessage::Field("data.ack")),
    };
    Ok(ClientMessage::Hello(Hello { client, acks }))
}

fn attach(mut raw: Raw) -> Result<Attach, BadMessage> {
    let session = raw.text("session").ok_or(BadMessage::Field("data.session"))?;
    let key = raw.secret("key").ok_or(BadMessage::Field("data.key"))?;
    let after = raw.count("after", "data.after")?;
    Ok(Attach { session, key, after, size: raw.size() })
}

fn start(mut raw: Raw, dialect: Dialect) -> Result<Start, BadMessage> {
    let is_new = dialect == Dialect::Version1;
    let is_named = raw.data.contains_key("runner");
    let runner = raw.text("runner");
    if runner.is_none() && (is_named || !is_new) {
        return Err(BadMessage::Field("data.runner"));
    }
    if !is_new && !runner.as_deref().is_some_and(|name| ORIGINAL_RUNNERS.contains(&name)) {
        return Err(BadMessage::UnknownRunner);
    }
    // A shell has no program text (B8).
    let code = raw.text("code").filter(|_| runner.as_deref() != Some(SHELL));
    let start = Start { runner, path: raw.filled("path"), code, size: raw.size(), ..Start::default() };
    if !is_new {
        return Ok(start);
    }
    let names_venv = raw.data.contains_key("venv");
    let venv = raw.filled("venv");
    if names_venv && venv.is_none() {
        return Err(BadMessage::Field("data.venv"));
    }
    let (keep, args, env, install) = (raw.keep()?, raw.args()?, raw.env()?, raw.install()?);
    Ok(Start { args, env, venv, install, keep, ..start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Integer, PYTHON3};

    fn run(text: &str) -> Result<ClientMessage, ClientError> {
        parse(text.as_bytes(), Dialect::Run)
    }

    #[test]
    fn wrong_messages_get_the_error_of_b4_and_b5() {
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
            r#"{"type":"stop","process":"1","data":{"signal":"SIGSTOP"}}"#,
            r#"{"type":"stop","process":"1","data":{"signal":2}}"#,
            r#"{"type":"signal","process":"1"}"#,
            r#"{"type":"signal","process":"1","data":{"signal":"INT"}}"#,
            r#"{"type":"stdin","process":"1","data":{"end":1}}"#,
            r#"{"type":"stdin","process":"1","data":{"end":true,"input":1}}"#,
        ];
        for text in bad {
            let parsed = run(text);
            assert!(matches!(parsed, Err(ClientError::BadMessage(_))), "{text}: {parsed:?}");
        }
        for text in ["[]", "1", "null", "\"ping\"", "true"] {
            assert_eq!(run(text), Err(ClientError::MessageException), "{text}");
        }
        assert_eq!(parse(b"{\"type\":\"\xff\"}", Dialect::Run), Err(ClientError::MessageException));
    }

    #[test]
    fn nesting_without_end_is_a_bad_message_and_not_a_full_stack() {
        let deep = format!("{{\"data\":{}", "[".repeat(1_000_000));
        assert_eq!(run(&deep), Err(BadMessage::TooManyValues.into()));
    }

    #[test]
    fn a_message_has_a_limit_of_values_and_ids_have_one_of_length() {
        let with = |count: usize| run(&format!(r#"{{"type":"ping","x":[{}0]}}"#, "0,".repeat(count)));
        // What is not in the array counts as six.
        assert_eq!(with(MAX_VALUES - 6), Ok(ClientMessage::Ping));
        assert_eq!(with(MAX_VALUES - 5), Err(BadMessage::TooManyValues.into()));
        let text = format!(r#"{{"type":"ping","x":"\"{}\\"}}"#, ",[{:".repeat(MAX_VALUES));
        assert_eq!(run(&text), Ok(ClientMessage::Ping), "within a string they are no values");
        let stop = |length| run(&format!(r#"{{"type":"stop","process":"{}"}}"#, "x".repeat(length)));
        assert!(stop(MAX_ID).is_ok());
        assert_eq!(stop(MAX_ID + 1), Err(BadMessage::Field("process").into()));
    }

    #[test]
    fn start_takes_what_counts_and_ignores_the_rest() {
        let text = r#"{"type":"start","process":"ü","data":{"runner":"python3","code":"","path":"","directoryName":"x"},"more":1}"#;
        let start = Start { code: Some(String::new()), ..Start::new(PYTHON3) };
        assert_eq!(run(text), Ok(ClientMessage::Start { process: ProcessId::new("ü"), start }));
        let text = r#"{"type":"start","process":"1","data":{"runner":"shell","code":"x","path":"p"}}"#;
        let start = Start { path: Some("p".to_owned()), ..Start::new(SHELL) };
        assert_eq!(run(text), Ok(ClientMessage::Start { process: ProcessId::new("1"), start }));
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
            let expected = expected.map(|rows| ClientMessage::Resize {
                process: ProcessId::new("1"),
                rows,
                cols: Integer::Fits(1),
            });
            assert_eq!(run(&text), expected.ok_or(BadMessage::Field("data.rows").into()), "{literal}");
        }
    }
}
