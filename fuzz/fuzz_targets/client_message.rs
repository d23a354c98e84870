//! What the frontend parses of a stranger: any text gives a message or a complaint, in both dialects, and what it answers
//! is JSON.
//!
//! The frontend is a binary, so its files are taken in by path; they know each other under the same names as there.
#![no_main]

#[allow(dead_code, reason = "the fuzz target calls the parser only")]
#[path = "../../frontend-daemon/src/complaint.rs"]
mod complaint;
#[path = "../../frontend-daemon/src/escape.rs"]
mod escape;
#[allow(dead_code, reason = "the fuzz target calls the parser only")]
#[path = "../../frontend-daemon/src/message.rs"]
mod message;
#[path = "../../frontend-daemon/src/run_py.rs"]
mod run_py;

use libfuzzer_sys::fuzz_target;
use message::{Dialect, Incoming, Outgoing, ProcessId};

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::Run, Dialect::RunPy] {
        match message::parse(bytes, dialect) {
            Ok(Incoming::Stdin { process, input }) => {
                let answer = Outgoing::Stdout(&input).to_json(dialect, Some(&process));
                let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
                assert_eq!(value["data"]["output"], input.as_str());
            }
            Ok(_) => {}
            Err(complaint) => {
                let answer = Outgoing::Error(&complaint).to_json(dialect, Some(&ProcessId::new("1")));
                serde_json::from_str::<serde_json::Value>(&answer).expect("JSON");
            }
        }
    }
});
