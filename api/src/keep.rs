//! Kept programs, which outlive their connection: what a client that has said `hello` may ask for.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The version of this protocol that `hello` names.
pub const VERSION: u64 = 1;
/// Characters of a client's secret.
pub const CLIENT_SECRET: std::ops::RangeInclusive<usize> = 22..=128;

/// Text that must not get into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that was read, or that a client has.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a client introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// A secret of the client's own, by which it is known again.
    pub client: Option<Secret>,
    /// It says by `ack` what output of kept programs it has used; its library only says what it has read.
    pub acks: bool,
}

/// How a program is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long it runs on without a client.
    pub seconds: u64,
    /// What happens to its output meanwhile.
    pub when_full: WhenFull,
}

/// What happens when the room for output is full and no client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest output goes, and is counted.
    Drop,
    /// The program waits in its write.
    Wait,
}

impl WhenFull {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Wait];

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Wait => "wait",
        }
    }
}

/// What a client attaches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Which kept program.
    pub session: String,
    /// The key, or the view key.
    pub key: Secret,
    /// The position up to which the client has the output.
    pub after: Option<u64>,
    /// The size of the client's window, rows and columns.
    pub size: Option<(u16, u16)>,
}

impl Hello {
    pub(crate) fn data(&self) -> Value {
        let mut data = Map::from_iter([("version".to_owned(), VERSION.into())]);
        if let Some(client) = &self.client {
            data.insert("client".to_owned(), client.as_str().into());
        }
        if self.acks {
            data.insert("ack".to_owned(), true.into());
        }
        Value::Object(data)
    }
}

impl Keep {
    pub(crate) fn data(self) -> Value {
        json!({ "seconds": self.seconds, "full": self.when_full.name() })
    }
}

impl Attach {
    pub(crate) fn data(&self) -> Value {
        let mut data = Map::from_iter([
            ("session".to_owned(), self.session.as_str().into()),
            ("key".to_owned(), self.key.as_str().into()),
        ]);
        let sizes = self.size.map(|(rows, cols)| [("rows", u64::from(rows)), ("cols", u64::from(cols))]);
        let numbers = sizes.into_iter().flatten().chain(self.after.map(|after| ("after", after)));
        data.extend(numbers.map(|(key, number)| (key.to_owned(), number.into())));
        Value::Object(data)
    }
}

/// Whether a client may use a kept program, or only watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It was attached with the key.
    Use,
    /// It was attached with the view key.
    View,
}

/// How a program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The exit code, or minus the signal number (B6.2).
    pub exit_code: i32,
    /// Why.
    pub reason: EndReason,
    /// What all its processes used, its compiler among them. None if this is not known.
    #[serde(flatten)]
    pub usage: Option<Usage>,
}

/// What a run used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// The most memory in bytes that one of its processes had at once.
    pub peak_memory: u64,
}

/// Why a program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// By itself, or by a signal that was not a client's `stop`.
    Exited,
    /// A client has stopped it.
    Stopped,
    /// No client has come back in time.
    Expired,
    /// Its place was needed for another one.
    Evicted,
    /// It used too much memory.
    Memory,
    /// It took longer than its runner allows.
    Time,
    /// It could make no more processes, and ended in its own way.
    Processes,
    /// The service has ended.
    Shutdown,
}
