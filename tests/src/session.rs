//! A kept program as its clients know it: by an id and two keys.

use serde_json::{Value, json};

use crate::Client;

/// What a client needs to come back.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// The key for using it.
    pub key: String,
    /// The key for watching it.
    pub view_key: String,
}

impl Session {
    /// Starts a program whose `data` has `keep`.
    #[track_caller]
    pub fn start(client: &mut Client, id: &str, data: Value) -> Self {
        client.send_start(id, data);
        let is_it = |message: &Value| message["type"] == "started" && message["process"] == id;
        let started = client.expect("started", is_it);
        let text = |name: &str| started["data"][name].as_str().expect("a kept program").to_owned();
        Self { id: text("session"), key: text("key"), view_key: text("viewKey") }
    }

    /// Asks to be attached by any id and key, with these fields beside them.
    #[track_caller]
    pub fn ask(client: &mut Client, process: &str, id: &str, key: &str, more: &Value) {
        let mut data = json!({"session": id, "key": key});
        for (name, value) in more.as_object().expect("an object") {
            data[name] = value.clone();
        }
        client.send(&json!({"type": "attach", "process": process, "data": data}));
    }

    /// Attaches a client that may use the program, and returns the data of the answer.
    #[track_caller]
    pub fn attach(&self, client: &mut Client, process: &str, more: &Value) -> Value {
        Self::ask(client, process, &self.id, &self.key, more);
        attached(client)
    }

    /// The same for a client that may only watch.
    #[track_caller]
    pub fn watch(&self, client: &mut Client, process: &str, more: &Value) -> Value {
        Self::ask(client, process, &self.id, &self.view_key, more);
        attached(client)
    }
}

#[track_caller]
fn attached(client: &mut Client) -> Value {
    client.expect("attached", |message| message["type"] == "attached")["data"].take()
}
