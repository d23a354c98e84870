//! Messages of the daemon that only clients get which have said `hello`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::keep::{Mode, Outcome};

/// Which stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output, and all of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the compiler says.
    Compiler,
}

/// A part of a run before the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The compiler runs.
    Compile,
}

/// What such a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "lowercase", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "API.md has the fields, under these names")]
pub enum KeptMessage<'a> {
    Hello(HelloAnswer),
    Started {
        session: Cow<'a, str>,
        key: Cow<'a, str>,
        view_key: Cow<'a, str>,
    },
    Stdout {
        output: Cow<'a, str>,
        seq: u64,
    },
    Stderr {
        output: Cow<'a, str>,
        seq: u64,
        /// None: the program itself has said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
    },
    Stopped(Outcome),
    Attached(Attached),
    /// What a terminal shows at this position.
    Screen {
        output: Cow<'a, str>,
        seq: u64,
    },
    /// So many bytes before this position cannot be given any more.
    Lost {
        lost: u64,
        seq: u64,
    },
    /// Nothing comes after this position.
    Detached {
        seq: u64,
    },
    Sessions {
        sessions: Vec<KeptSession>,
    },
    /// Whether this client has the keyboard, and the highest number of an input that was taken.
    Holder {
        holder: bool,
        input: u64,
    },
    Viewers {
        viewers: usize,
    },
    Resized {
        rows: u16,
        cols: u16,
    },
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// Of the protocol.
    pub version: u64,
    /// Name and version of the program.
    pub server: String,
    /// The device's name.
    pub device: String,
    /// What this server has beside the protocol of the original.
    pub features: Vec<String>,
    /// What this server allows.
    pub limits: KeptLimits,
    /// The languages and kinds of program that it runs.
    pub runners: Vec<RunnerEntry>,
}

/// A runner, as `GET /runners` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerEntry {
    /// What `start` names.
    pub id: String,
    /// What people read.
    pub title: String,
    /// Endings of file names, without a dot.
    pub extensions: Vec<String>,
    /// Whether the programs that it needs are installed.
    pub available: bool,
    /// What to do if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The version, in the words of the program. None: it is not known, or not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Limits that a client may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptLimits {
    /// Longest message of a client, in bytes.
    pub message: usize,
    /// Programs on one connection.
    pub programs: usize,
    /// Longest time that a program is kept without a client, in seconds.
    pub keep_seconds: u64,
    /// Kept programs of all clients.
    pub sessions: usize,
    /// Kept programs of one client.
    pub sessions_per_client: usize,
    /// Clients attached to one kept program.
    pub viewers: usize,
    /// Output that is kept of one program, in bytes.
    pub text: usize,
    /// Output that is kept of all programs together, in bytes.
    pub text_of_all: usize,
}

/// The answer to `attach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The position of the end of all output so far.
    pub seq: u64,
    /// Whether the program runs.
    pub state: KeptState,
    /// What this client may do.
    pub mode: Mode,
    /// The size of the terminal; 0 where there is none.
    pub rows: u16,
    /// As `rows`.
    pub cols: u16,
    /// Bytes between the position that the client has and the first that can be given.
    pub lost: u64,
    /// Highest number of an input that was taken; 0 before the first.
    pub input: u64,
    /// Whether this client has the keyboard.
    pub holder: bool,
    /// How many clients are attached, this one included.
    pub viewers: usize,
}

/// Whether a kept program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptState {
    /// It runs.
    Running,
    /// It has ended; its last output and its exit code are kept.
    Stopped,
}

/// One kept program in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptSession {
    /// Its id.
    pub session: String,
    /// When it was started, in seconds since 1970.
    pub started: u64,
    /// The kind of program.
    pub runner: String,
    /// The file, or the directory of a program text.
    pub path: Option<String>,
    /// The account that was asked for. Only administrators are told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it runs.
    pub state: KeptState,
    /// How many clients are attached.
    pub viewers: usize,
    /// How long it is kept from now on, if no client attaches.
    pub seconds: u64,
    /// The exit code, or minus the signal number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
