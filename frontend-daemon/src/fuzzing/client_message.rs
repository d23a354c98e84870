//! Messages of clients: any text gives a message or an error, in both dialects, and each answer is JSON.

use further_link_api::{ClientMessage, Dialect, ProcessId, ServerMessage, parse};

/// Parses the bytes as a message of each dialect, and writes an answer.
pub fn client_message(bytes: &[u8]) {
    for dialect in [Dialect::Run, Dialect::RunPy] {
        match parse(bytes, dialect) {
            Ok(ClientMessage::Stdin { process, input, .. }) => {
                let answer = ServerMessage::Stdout(input.as_str().into()).to_json(dialect, Some(&process));
                let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
                assert_eq!(value["data"]["output"], input.as_str());
            }
            Ok(_) => {}
            Err(complaint) => {
                let answer = ServerMessage::from(&complaint).to_json(dialect, Some(&ProcessId::new("1")));
                serde_json::from_str::<serde_json::Value>(&answer).expect("JSON");
            }
        }
    }
}
