//! The messages: requests from the frontend, events from the helper. PROTOCOL.md has them as tables.
//!
//! Which one is allowed when is not decided here but by the helper's phases (`exec-helper/src/serve.rs`,
//! `watcher` and `upload`). Nothing here can carry argv, an environment, a uid or a descriptor number, so no
//! frontend can ask for one.

use bincode::{Decode, Encode};

use crate::{
    files::{FileVersion, Files, Opened},
    value::{CodeLength, DetailsLength, PathText, RelativePath, RunnerId, Token, UserName},
};

/// What the frontend may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Start one program. The first message of a connection, and once only.
    Run(Run),
    /// End the program: SIGTERM, a grace time, on a terminal SIGHUP, SIGKILL. May be repeated; closing the
    /// connection means the same.
    Stop {
        /// A signal to try before SIGTERM, with a grace time of its own. SIGKILL leaves out the rest.
        first: Option<Signal>,
    },
    /// Store one directory of files. The first message of a connection, and once only.
    Upload(Upload),
    /// A file of the upload. Its content follows through the pipe of [`Event::Data`].
    File {
        /// Where, below the directory.
        path: RelativePath,
        /// How many bytes.
        length: u32,
        /// What may be done with it.
        mode: FileMode,
    },
    /// A link of the upload to a file in the user's cache of downloads.
    Link {
        /// Where, below the directory.
        path: RelativePath,
        /// Which file, below the cache.
        cached: RelativePath,
    },
    /// After [`Event::Missing`], any number of times: the next bytes of the download follow through the
    /// pipe.
    Piece {
        /// How many bytes.
        length: u32,
    },
    /// After the last `Piece`: the download is complete and may be kept.
    Downloaded,
    /// The upload is complete: it replaces the directory, or the file.
    Commit,
    /// Send a signal to all processes of the run, and do nothing else.
    Signal(Signal),
    /// Do one thing with files. The first message of a connection, and once only.
    Files(Files),
}

/// The signals that a client may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Signal {
    /// SIGINT, as Ctrl-C in a terminal.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP, as of a terminal that is closed.
    HangUp,
    /// SIGKILL.
    Kill,
}

/// The permissions of an uploaded file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum FileMode {
    /// 0644, or 0755 if the file begins with `#!`.
    #[default]
    Plain,
    /// 0755.
    Executable,
}

/// The user of a run or an upload, and the proof that the client may use that account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The user to become; none means the default user, which the helper knows.
    pub user: Option<UserName>,
    /// The proof for users that the helper's list marks with `:token` (root, as packaged).
    pub token: Option<Token>,
    /// The number of the client's connection in the frontend's log. The helper writes it into its own log
    /// lines.
    pub origin: Option<u64>,
}

/// A directory of files to store.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Upload {
    /// The user to become.
    pub identity: Identity,
    /// Which directory, below the user's work dir.
    pub directory: RelativePath,
    /// Store a copy of it among the projects of this person, too (B11.12).
    pub project_of: Option<RelativePath>,
    /// Keep the files of the old directory that the upload does not name.
    pub keep: bool,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// The user to become.
    pub identity: Identity,
    /// Which runner's file says what to execute.
    pub runner: RunnerId,
    /// The client's path (B8): the file to start, or the directory to work in.
    pub path: Option<PathText>,
    /// The client's choices have this length, and are the first to come through the pipe of [`Event::Data`].
    pub details: Option<DetailsLength>,
    /// Program text of this length follows through that pipe.
    pub code: Option<CodeLength>,
    /// A pty of this size; none means three pipes.
    pub terminal: Option<WindowSize>,
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
    /// With one descriptor: write the client's choices and the program text, or what the files of an upload
    /// have in them, into this pipe.
    Data,
    /// The program runs, or is compiled before it does. With the pty leader, or with the pipes stdin, stdout,
    /// stderr in this order; then the listening socket of the user channel. If it is compiled and has no
    /// terminal a pipe follows, with what the compiler says.
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
    Exited(Ended),
    /// The file is in the cache, and the link is made.
    Cached,
    /// The file is not in the cache: its pieces are waited for.
    Missing,
    /// The directory is in its place. The last message.
    Stored,
    /// The compiler is through, and the program runs. After `Started` of a run that is compiled first.
    Compiled,
    /// With one descriptor: what was asked for. The last message if it is a file; else `Done` comes when all
    /// has been written into the pipe.
    Opened(Opened),
    /// The file is in its place. The last message.
    Written {
        /// What it is known by.
        version: FileVersion,
        /// Whether another file was there.
        replaced: bool,
    },
    /// So much of a resumable upload has come: asked for, or since the part is not the next one, or not the
    /// last. The last message.
    Progress {
        /// Bytes.
        bytes: u64,
    },
    /// The condition of a `Write` does not hold, and nothing was changed. The last message.
    Changed,
    /// What was asked for is done. The last message.
    Done,
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
    /// This user needs a token, and none was given.
    TokenMissing,
    /// The token is not the one.
    TokenWrong,
    /// The account is locked or expired, or its shell allows no login (nologin, false).
    AccountDisabled,
    /// The administrator lets no users log in at the moment (/etc/nologin).
    LoginsDisabled,
}

/// The steps of a start, in their order, and those of an upload. The first that fails is reported.
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
    /// Read the client's choices.
    ReadDetails,
    /// Read the runner's file: not there, not root's alone, or broken.
    ReadRunner,
    /// Make the directory that the program text or the shell goes to.
    MakeDirectory,
    /// Write the program text into its file.
    WriteCode,
    /// Go to the working directory.
    ChangeDirectory,
    /// Find a program that the runner needs.
    FindProgram,
    /// Set the limits of the runner's file.
    SetLimits,
    /// Execute the program.
    Execute,
    /// Open the work dir, or make a directory in it, for an upload.
    Stage,
    /// Write a file or make a link of an upload.
    WriteFile,
    /// Put the uploaded directory into its place.
    Replace,
    /// Do something with files.
    Files,
}

impl Step {
    /// The step in words, for logs and errors.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Streams => "making the terminal or the pipes",
            Self::Fork => "making a process",
            Self::Attach => "attaching the terminal",
            Self::Identity => "becoming the user",
            Self::MakeDirectory => "making the directory",
            Self::WriteCode => "writing the program's file",
            Self::ChangeDirectory => "changing to the directory",
            Self::ReadDetails => "reading the arguments and variables",
            Self::ReadRunner => "reading the runner's file",
            Self::FindProgram => "finding a program that the runner needs",
            Self::SetLimits => "setting the limits of the runner's file",
            Self::Execute => "executing the file",
            Self::Stage => "preparing the upload",
            Self::WriteFile => "writing a file",
            Self::Replace => "putting the directory into its place",
            Self::Files => "reading or changing files",
        }
    }
}

impl Refusal {
    /// The reason in words, for logs. Clients get more of them from the frontend.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Version => "the frontend is of another version; restart the service",
            Self::UnknownUser => "there is no such account",
            Self::UserNotAllowed => "the list of allowed users does not have it",
            Self::CannotSwitchUser => "this helper is not root, and cannot become another user",
            Self::TokenMissing => "no token was shown for it",
            Self::TokenWrong => "the token shown for it is wrong",
            Self::AccountDisabled => "the account is locked or expired, or has no login shell",
            Self::LoginsDisabled => "/etc/nologin lets no user log in",
        }
    }
}

/// How the program ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExitStatus {
    /// The program called exit with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
}

/// The end of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// The limit that it came to.
    pub limit: Option<Limit>,
    /// What it used.
    pub usage: Usage,
}

/// A limit of a run, by its runner's file or by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Limit {
    /// The kernel killed the program (signal 9) because the run had used up its memory.
    Memory,
    /// Its time was over, and the helper stopped it.
    Time,
    /// It could make no more processes, and ended in its own way.
    Processes,
}

/// What all processes of a run used, a compiler among them (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Usage {
    /// Processor time in microseconds.
    pub cpu: u64,
    /// The most memory that one of them had at once, in KiB.
    pub memory: u64,
}
