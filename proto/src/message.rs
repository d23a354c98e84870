//! The messages: two requests, five events. PROTOCOL.md has them as tables.
//!
//! Which one is allowed when is not decided here but by the helper's phases (`exec-helper/src/serve.rs`).
//! Nothing here can carry argv, an environment, a uid or a descriptor number, so no frontend can ask for one.

use bincode::{Decode, Encode};

use crate::value::{CodeLength, PathText, UserName};

/// What the frontend may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Start one program. The first message of a connection, and once only.
    Run(Run),
    /// End the program: SIGTERM, a grace time, SIGKILL. May be repeated; closing the connection means the same.
    Stop,
}

/// One program to start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// Whom to become; none means the default user, whom the helper knows.
    pub user: Option<UserName>,
    /// Which kind of program.
    pub runner: Runner,
    /// The client's path (B8): the file to start, or the directory to work in.
    pub path: Option<PathText>,
    /// Program text of this length follows through the pipe of [`Event::Code`].
    pub code: Option<CodeLength>,
    /// A pty of this size; none means three pipes.
    pub terminal: Option<WindowSize>,
}

/// The kinds of program (B8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Runner {
    /// `python3 -u FILE`
    Python3,
    /// The file itself.
    Exec,
    /// The user's login shell.
    Shell,
}

impl Runner {
    /// The name that clients use, and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python3 => "python3",
            Self::Exec => "exec",
            Self::Shell => "shell",
        }
    }
}

/// Size of a terminal in characters. Zero is allowed: `/run-py` has 0 x 0 (B9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// What the helper says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// With one descriptor: write the program text into this pipe, then close it.
    Code,
    /// The program runs. With the pty leader, or with the pipes stdin, stdout, stderr in this order.
    Started {
        /// Its pid, which is its process group and its session too.
        pid: u32,
    },
    /// Not permitted; nothing was started. The last message.
    Refused(Refusal),
    /// Permitted, but it did not work; nothing is left running. The last message.
    Failed {
        /// Where it went wrong.
        step: Step,
        /// The kernel's reason, as in errno(3).
        errno: i32,
    },
    /// The program has ended and nothing of its run is left. The last message.
    Exited(ExitStatus),
}

/// Why the helper refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// The frontend speaks another version of the protocol.
    Version,
    /// There is no such account.
    UnknownUser,
    /// The account exists, but this helper was not told to run programs for it.
    UserNotAllowed,
    /// The helper is not root and so cannot become another user.
    CannotSwitchUser,
}

/// The steps of a start, in their order. The first that fails is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Step {
    /// Make the pty or the pipes.
    Streams,
    /// Fork.
    Fork,
    /// Own session, controlling terminal, the three standard descriptors.
    Attach,
    /// Groups, gid, uid, capabilities.
    Identity,
    /// Make the directory that the program text or the shell goes to.
    MakeDirectory,
    /// Write the program text into its file.
    WriteCode,
    /// Go to the working directory.
    ChangeDirectory,
    /// Find and execute the program.
    Execute,
}

/// How the program ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExitStatus {
    /// It called exit with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
    /// The kernel killed it (signal 9) because the run had used up its memory.
    OutOfMemory,
}
