//! All that a client saw, and the promises that every message must keep.
//!
//! Each message is checked as it arrives, in every test: exactly the keys of B4.1, the process id of B4.2,
//! `data` as its type needs it, `started` before and `stopped` after all output of a process (B6.1). It knows
//! nothing about sockets; `client` feeds it.

use std::collections::HashMap;

use further_link_api::{Dialect, Received};
use serde_json::{Map, Value, json};

use crate::schema;

/// The messages of one connection, in order.
#[derive(Debug)]
pub struct Record {
    dialect: Dialect,
    messages: Vec<Message>,
    /// Where the run that each id stands for now began, while it runs.
    running: HashMap<String, usize>,
    /// The same, kept after its end.
    began: HashMap<String, usize>,
}

#[derive(Debug)]
struct Message {
    content: Value,
    taken: bool,
}

impl Record {
    /// Nothing seen yet.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, messages: Vec::new(), running: HashMap::new(), began: HashMap::new() }
    }

    /// The client has said `hello`.
    pub fn speak_version_1(&mut self) {
        self.dialect = Dialect::Version1;
    }

    /// Checks a message and keeps it; the text says what is wrong with it.
    pub fn add(&mut self, content: Value) -> Result<(), String> {
        let verdict = self.check(&content);
        self.messages.push(Message { content, taken: false });
        verdict
    }

    fn check(&mut self, content: &Value) -> Result<(), String> {
        schema::outgoing(self.dialect).check(content)?;
        Received::parse(content.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let object = content.as_object().ok_or("not an object")?;
        let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
        keys.sort_unstable();
        if keys != ["data", "process", "type"] {
            return Err(format!("keys {keys:?} instead of type, data and process"));
        }
        let kind = object["type"].as_str().ok_or("the type is no string")?;
        if !is_of_kept(kind, &object["data"]) {
            check_data(kind, &object["data"])?;
        }
        self.check_process(kind, &object["process"])
    }

    fn check_process(&mut self, kind: &str, process: &Value) -> Result<(), String> {
        let about_one = ABOUT_ONE.contains(&kind);
        let id = match (self.dialect, about_one, process) {
            (Dialect::Run | Dialect::Version1, false, Value::Null) => return Ok(()),
            (Dialect::RunPy, _, Value::String(id)) if id.is_empty() => id.clone(),
            (Dialect::Run | Dialect::Version1, true, Value::String(id)) if !id.is_empty() => id.clone(),
            _ => return Err(format!("{kind} with process {process}")),
        };
        let runs = self.running.contains_key(&id);
        match kind {
            "started" | "attached" if runs => return Err(format!("a second {kind}")),
            "started" | "attached" => {
                self.running.insert(id.clone(), self.messages.len());
                self.began.insert(id, self.messages.len());
            }
            _ if about_one && !runs => return Err(format!("{kind} of what does not run")),
            "stopped" | "detached" => {
                self.running.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the first message from `start` on that matches and was not taken before.
    pub fn take(&mut self, start: usize, matches: impl Fn(&Value) -> bool) -> Option<Value> {
        let fresh = self.messages.iter_mut().skip(start).filter(|message| !message.taken);
        let found = fresh.into_iter().find(|message| matches(&message.content))?;
        found.taken = true;
        Some(found.content.clone())
    }

    /// Messages that were not taken yet.
    pub fn untaken(&self) -> Vec<Value> {
        self.messages.iter().filter(|message| !message.taken).map(|message| message.content.clone()).collect()
    }

    /// All messages, in their order.
    pub fn messages(&self) -> impl Iterator<Item = &Value> {
        self.messages.iter().map(|message| &message.content)
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Message by message, what the current or last run of `id` wrote to `stream`.
    pub fn outputs(&self, id: &str, stream: &str) -> Vec<String> {
        let begin = self.began.get(id).copied().unwrap_or(self.messages.len());
        let later = self.messages.iter().skip(begin).map(|message| &message.content);
        later
            .filter(|content| content["type"] == stream && content["process"] == id)
            .filter_map(|content| content["data"]["output"].as_str().map(str::to_owned))
            .collect()
    }

    /// The last messages, shortened, for a failure message.
    pub fn tail(&self) -> String {
        let first = self.messages.len().saturating_sub(30);
        let shown = self.messages.iter().skip(first).map(|message| {
            let text = message.content.to_string();
            let short: String = text.chars().take(400).collect();
            format!("  {short}{}", if short.len() < text.len() { " ..." } else { "" })
        });
        shown.collect::<Vec<_>>().join("\n")
    }
}

/// The types of messages about one process.
const ABOUT_ONE: [&str; 13] = [
    "started",
    "stopped",
    "stdout",
    "stderr",
    "video",
    "keylisten",
    "attached",
    "detached",
    "screen",
    "lost",
    "holder",
    "viewers",
    "resized",
];

/// Whether it is a message about kept programs: the schema has its data.
fn is_of_kept(kind: &str, data: &Value) -> bool {
    const NEW: [&str; 9] =
        ["hello", "attached", "detached", "screen", "lost", "sessions", "holder", "viewers", "resized"];
    let is_marked = ["session", "seq", "reason", "stage"].iter().any(|mark| !data[*mark].is_null());
    NEW.contains(&kind) || is_marked
}

fn check_data(kind: &str, data: &Value) -> Result<(), String> {
    let only = |key: &str, good: fn(&Value) -> bool| {
        let single = |object: &Map<String, Value>| object.len() == 1 && object.get(key).is_some_and(good);
        data.as_object().is_some_and(single)
    };
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let good = match kind {
        "pong" | "started" | "uploaded" => data.is_null(),
        "error" => only("message", text),
        "stopped" => only("exitCode", Value::is_i64),
        "stdout" | "stderr" => only("output", text),
        "video" => only("output", Value::is_string),
        // B12.4
        "keylisten" => data["key"].is_string() && *data == json!({"output": data["key"], "key": data["key"]}),
        _ => return Err(format!("unknown type {kind:?}")),
    };
    if good { Ok(()) } else { Err(format!("{kind} with data {data}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_good(dialect: Dialect, messages: &[Value]) -> Result<(), String> {
        let mut record = Record::new(dialect);
        messages.iter().try_for_each(|message| record.add(message.clone()))
    }

    /// B6.1: the order in which a client may see the messages of one process.
    #[test]
    fn a_proper_run_is_accepted() {
        let run = [
            json!({"type": "started", "data": null, "process": "1"}),
            json!({"type": "stdout", "data": {"output": "hi\n"}, "process": "1"}),
            json!({"type": "stopped", "data": {"exitCode": -15}, "process": "1"}),
            json!({"type": "started", "data": null, "process": "1"}),
        ];
        all_good(Dialect::Run, &run).unwrap();
    }

    /// B4.1, B4.2, B6.1: what the harness must notice by itself in every test.
    #[test]
    fn broken_promises_are_noticed() {
        let broken = [
            vec![json!({"type": "pong", "data": null})],
            vec![json!({"type": "pong", "data": null, "process": null, "client": ""})],
            vec![json!({"type": "pong", "data": {}, "process": null})],
            vec![json!({"type": "pong", "data": null, "process": "1"})],
            vec![json!({"type": "error", "data": {"message": "Bad message"}, "process": "1"})],
            vec![json!({"type": "started", "data": null, "process": null})],
            vec![json!({"type": "stdout", "data": {"output": "early"}, "process": "1"})],
            vec![json!({"type": "stopped", "data": {"exitCode": 0}, "process": "1"})],
            vec![
                json!({"type": "started", "data": null, "process": "1"}),
                json!({"type": "stdout", "data": {"output": ""}, "process": "1"}),
            ],
        ];
        for messages in broken {
            assert!(all_good(Dialect::Run, &messages).is_err(), "{messages:?}");
        }
        let with_id = json!({"type": "started", "data": null, "process": "1"});
        assert!(all_good(Dialect::RunPy, &[with_id]).is_err());
    }
}
