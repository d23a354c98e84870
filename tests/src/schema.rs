//! api/asyncapi.json as a judge: what it says of messages is compared with the messages.
//!
//! Every message from the daemon, in every test, has to fit the description of its direction and endpoint
//! (`record` asks). Messages to the daemon are compared where a test says that they are right.

use std::sync::OnceLock;

use further_link_api::Dialect;
use jsonschema::Validator;
use serde_json::{Value, json};

/// The description of all messages of one direction on one endpoint.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    fn new(operation: &str) -> Self {
        let document = document();
        let messages = document["operations"][operation]["messages"].as_array().expect("its messages");
        let payloads: Vec<&Value> =
            messages.iter().map(|message| &resolve(&document, message)["payload"]).collect();
        let schema = json!({ "anyOf": payloads, "components": document["components"] });
        Self(jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("asyncapi.json, {operation}: {e}")))
    }

    /// What is wrong with the message, if something is.
    pub fn check(&self, message: &Value) -> Result<(), String> {
        self.0.validate(message).map_err(|error| format!("not as asyncapi.json describes it: {error}"))
    }
}

/// Messages from the daemon.
pub fn outgoing(dialect: Dialect) -> &'static Schema {
    static RUN: OnceLock<Schema> = OnceLock::new();
    static RUN_PY: OnceLock<Schema> = OnceLock::new();
    static VERSION_1: OnceLock<Schema> = OnceLock::new();
    match dialect {
        Dialect::Version1 => VERSION_1.get_or_init(|| Schema::new("toClientVersion1")),
        Dialect::Run => RUN.get_or_init(|| Schema::new("toClientRun")),
        Dialect::RunPy => RUN_PY.get_or_init(|| Schema::new("toClientRunPy")),
    }
}

/// Messages to the daemon.
pub fn incoming(dialect: Dialect) -> &'static Schema {
    static RUN: OnceLock<Schema> = OnceLock::new();
    static RUN_PY: OnceLock<Schema> = OnceLock::new();
    static VERSION_1: OnceLock<Schema> = OnceLock::new();
    match dialect {
        Dialect::Version1 => VERSION_1.get_or_init(|| Schema::new("fromClientVersion1")),
        Dialect::Run => RUN.get_or_init(|| Schema::new("fromClientRun")),
        Dialect::RunPy => RUN_PY.get_or_init(|| Schema::new("fromClientRunPy")),
    }
}

/// The whole file.
pub fn document() -> Value {
    serde_json::from_str(include_str!("../../api/asyncapi.json")).expect("asyncapi.json is JSON")
}

/// Follows `$ref` as often as it takes.
fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(reference) = value["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').expect("a reference into this file");
        value = document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"));
    }
    value
}
