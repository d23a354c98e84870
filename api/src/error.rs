//! Errors that a client is told, as data with one text each. API.md lists the texts; a test compares.
//!
//! The first words are the original's, exactly: clients compare them (B4.6). Only a failed start says more,
//! so that the user in front of the browser knows what to do next.

use crate::limits::MAX_VALUES;

/// The error in a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not JSON, unknown type, missing or wrong field, wrong state.
    #[error("Bad message")]
    BadMessage(BadMessage),
    /// JSON, but not an object; or a number that no terminal can have.
    #[error("Message Exception")]
    MessageException,
    /// The end of input for a program on a terminal.
    #[error("Bad message: a terminal has no end of input; send Ctrl-D (\"\\u0004\") instead")]
    NoEndOnTerminal,
    /// `attach` with a wrong key, or to a session that is unknown or has ended.
    #[error("Bad message: no session has this id and this key; it may have ended")]
    NoSession,
    /// As many clients as may be attached.
    #[error("Bad message: {most} clients are attached to this session already; detach one first")]
    ViewersFull {
        /// The limit.
        most: usize,
    },
    /// A client with the view key wants to do more than watch.
    #[error("Bad message: the view key only watches; attach with the key to use the program")]
    ViewOnly,
    /// `take` or `detach` for a program that is not kept.
    #[error("Bad message: this program is not kept")]
    NotKept,
    /// An input that does not follow the one before.
    #[error("Bad message: the number of the next input is {wanted}")]
    InputNumber {
        /// The number that comes next.
        wanted: u64,
    },
    /// An upload that failed (`/run-py`).
    #[error("Bad upload")]
    BadUpload,
    /// A start that failed.
    #[error("Message Exception: cannot start the program: {0}")]
    NotStarted(#[from] StartFailure),
}

/// What is wrong with a message. The client hears "Bad message", as of the original; the daemon's log names
/// the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Not JSON, or nested too deeply.
    #[error("it is not JSON, or nested too deeply")]
    NotJson,
    /// More values than a message may have.
    #[error("it has more than {MAX_VALUES} values")]
    TooManyValues,
    /// The type is missing, or the endpoint does not have it.
    #[error("its type is not one of this endpoint")]
    UnknownType,
    /// A field is missing or of another type.
    #[error("its field {0} is missing, or not what it has to be")]
    Field(&'static str),
    /// `hello` was said before.
    #[error("hello was said before on this connection")]
    SecondHello,
    /// No runner has this name.
    #[error("its runner is not one of python3, exec and shell, and it has not said hello")]
    UnknownRunner,
    /// No live process has this id.
    #[error("no live process has its id")]
    NoSuchProcess,
    /// A live process has this id.
    #[error("a live process has its id")]
    ProcessInUse,
    /// The end of input came before.
    #[error("the end of input came before")]
    InputEnded,
    /// Only a terminal has a size.
    #[error("the process has no terminal")]
    NoTerminal,
    /// The directory of an upload is not what one looks like.
    #[error("its directory is not that of an upload")]
    Upload,
}

impl From<BadMessage> for ClientError {
    fn from(reason: BadMessage) -> Self {
        Self::BadMessage(reason)
    }
}

/// Of a start and of an upload alike.
const NO_HELPER: &str = "the helper service does not answer; see the log of further-link";

/// A step of the root side that did not work, which no client can do anything about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct FailedStep {
    /// Which step.
    pub step: &'static str,
    /// The kernel's reason.
    pub reason: String,
}

/// Why a program did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartFailure {
    /// Nothing runs as this user.
    #[error(transparent)]
    User(#[from] UserFailure),
    /// A path that no kernel takes.
    #[error("the path is too long or has a NUL in it")]
    Path,
    /// The runner `exec` without a file and without a text.
    #[error("nothing is named to run; give a file in path, or its text in code")]
    Nothing,
    /// A relative `directoryName` (`/run-py`) that goes up too far.
    #[error("the directory is outside of the work dir; name one below it, or an absolute path")]
    OutsideWorkDir,
    /// A program text above the limit.
    #[error("the program text is longer than {most} bytes")]
    Code {
        /// The limit.
        most: usize,
    },
    /// As many programs as one connection may have.
    #[error("{most} programs run on this connection already; stop one first")]
    ConnectionFull {
        /// The limit.
        most: usize,
    },
    /// As many programs as the device runs.
    #[error("{most} programs run on this device already; stop one first")]
    DeviceFull {
        /// The limit.
        most: usize,
    },
    /// As many kept programs as one client may have.
    #[error("{most} kept programs of this client run already; stop one first")]
    ClientKeepsTooMany {
        /// The limit.
        most: usize,
    },
    /// As many kept programs as the device may have, and clients are attached to all.
    #[error("{most} kept programs run on this device already; stop one first")]
    DeviceKeepsTooMany {
        /// The limit.
        most: usize,
    },
    /// Longer than programs are kept here.
    #[error("programs are kept for at most {most} seconds here")]
    KeptTooLong {
        /// The limit.
        most: u64,
    },
    /// `stop` came before the program ran.
    #[error("it was stopped before it ran")]
    Stopped,
    /// Something took too long, such as a file system that hangs.
    #[error("the device did not start it in time")]
    TimedOut,
    /// No runner has this id, and none may have it.
    #[error("there is no runner {id:?}; GET /runners lists those of this device")]
    UnknownRunner {
        /// As the client wrote it, cut.
        id: String,
    },
    /// The client named no runner, and neither path nor text tells which.
    #[error(
        "no runner is named, and neither the path's ending nor the first line of the text is one of a runner's; name \
         one in runner (GET /runners lists them)"
    )]
    NoRunner,
    /// The runner's file has an error, or could have been written by another user.
    #[error("the file of the runner {id} cannot be used: {reason}")]
    BrokenRunner {
        /// Which runner.
        id: String,
        /// File, line and field.
        reason: String,
    },
    /// A program that the runner needs is missing.
    #[error("{title} is not installed, or not in the PATH; on this device: {hint}")]
    NotInstalled {
        /// The runner's title.
        title: String,
        /// What to do.
        hint: String,
    },
    /// `venv` or `install` for a language without environments of packages.
    #[error("{title} has no environments of packages here; leave venv and install out")]
    NoVenvs {
        /// The runner's title.
        title: String,
    },
    /// The environment that the client named is not there.
    #[error("there is no such environment of packages; make the project's with install, or leave venv out")]
    VenvMissing,
    /// `install` without a folder to install into.
    #[error("install needs path, the folder of the project, and neither code nor args")]
    InstallWhere,
    /// Not the name of a package.
    #[error(
        "{name:?} is no package to install: a name such as requests, with a version if you like (requests==2.31)"
    )]
    PackageName {
        /// As the client wrote it, cut.
        name: String,
    },
    /// Too many arguments.
    #[error("more than {most} arguments; join some, or give them by stdin")]
    ArgsTooMany {
        /// The limit.
        most: usize,
    },
    /// Arguments above the limit.
    #[error("the arguments are longer than {most} bytes together; give them by stdin")]
    ArgsTooLong {
        /// The limit.
        most: usize,
    },
    /// The kernel ends each argument and variable with a NUL.
    #[error("an argument, or the value of a variable, has a NUL in it")]
    Nul,
    /// Variables above the limit.
    #[error("the variables are longer than {most} bytes together")]
    EnvTooLong {
        /// The limit.
        most: usize,
    },
    /// Not a name that a variable can have.
    #[error("{name:?} is not the name of a variable: letters, digits and _, not a digit first, at most 128")]
    EnvName {
        /// As the client wrote it, cut.
        name: String,
    },
    /// A variable that is not the client's to choose.
    #[error(
        "the variable {name} cannot be chosen: it belongs to the account, the interpreter or this service"
    )]
    EnvRefused {
        /// Which one.
        name: String,
    },
    /// The file or its interpreter is missing.
    #[error("no such file, or the interpreter that its first line names does not exist")]
    NoFile,
    /// The kernel cannot execute the file.
    #[error("the file is not a program; a script must begin with a line such as #!/bin/sh")]
    NotAProgram,
    /// The file's mode forbids it.
    #[error("no permission to execute the file")]
    NotExecutable,
    /// Another reason why the file was not executed.
    #[error("cannot execute the file: {0}")]
    Execute(String),
    /// The directory to work in is missing.
    #[error("there is no such directory")]
    NoDirectory,
    /// Another reason why the program cannot work there.
    #[error("cannot work in the directory: {0}")]
    ChangeDirectory(String),
    /// The directory to work in could not be made.
    #[error("cannot make the directory: {0}")]
    MakeDirectory(String),
    /// The program text could not be stored.
    #[error("cannot write the program's file: {0}")]
    WriteCode(String),
    /// A step that is the device's own.
    #[error("the device cannot start programs now ({0})")]
    Device(FailedStep),
    /// The root side does not answer.
    #[error("{NO_HELPER}")]
    NoHelper,
}

/// Why the root side did not store an upload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadFailure {
    /// Nothing is stored as this user.
    #[error(transparent)]
    User(#[from] UserFailure),
    /// No space, or the user's quota is used up.
    #[error("the device's disk is full")]
    DiskFull,
    /// A file has the name of another file's directory.
    #[error("two files of the upload need the same name")]
    SameName,
    /// The work dir cannot be used.
    #[error("the user's directory for uploads cannot be used: {0}")]
    Stage(String),
    /// A file was not written.
    #[error("cannot write a file: {0}")]
    WriteFile(String),
    /// The old directory is a mount point, or a link to another disk.
    #[error("the directory is on another disk than the user's directory for uploads; upload to a new name")]
    OtherDisk,
    /// The new directory did not replace the old one.
    #[error("cannot put the directory into its place: {0}")]
    Replace(String),
    /// A step that is the device's own.
    #[error("the device cannot store uploads now ({0})")]
    Device(FailedStep),
    /// The root side does not answer.
    #[error("{NO_HELPER}")]
    NoHelper,
}

/// Why something was not done with files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesFailure {
    /// Nothing is done as this user.
    #[error(transparent)]
    User(#[from] UserFailure),
    /// Not a path below the work dir.
    #[error(
        "this is no path below the work dir: write plain names with one slash between two, and no . or .."
    )]
    Path,
    /// A name that the helper needs.
    #[error(
        "names that begin with .flcache, .flupload- or .flparts are the server's own; choose another one"
    )]
    OwnName,
    /// Nothing has the name.
    #[error(
        "there is no such file or directory; list its directory to see what is there, or write with ?parents=1 to make it"
    )]
    NotFound,
    /// The user may not.
    #[error("the user may not do this ({0}); change the permissions, or choose another directory")]
    NotAllowed(String),
    /// A link that leads out when something is read.
    #[error("a link leads out of the work dir; name a file below the work dir")]
    LeadsOut,
    /// A link on the way when something is changed, or one that leads to itself.
    #[error("a link is on the way, and changes follow none; name the directory that it leads to")]
    LinkOnTheWay,
    /// A pipe, a socket, a device.
    #[error("this is neither a file nor a directory; only these can be read, written or listed")]
    NoFile,
    /// The new name is taken.
    #[error("something has this name already; choose another one, or remove it first")]
    Exists,
    /// A directory where a file is wanted, or the other way round.
    #[error("this is a directory where a file is needed, or a file where a directory is needed")]
    WrongKind,
    /// A directory would go into itself.
    #[error("a directory cannot go into itself; choose another place")]
    IntoItself,
    /// A rename from one disk to another.
    #[error("the new name is on another disk; download it, upload it there, and remove the old one")]
    OtherDisk,
    /// The condition does not hold.
    #[error("what is there is not what the request names; read it again, then decide which one stays")]
    Changed,
    /// More bytes than a file may have.
    #[error("a file may have {most} bytes; the administrator can allow more with {setting}")]
    TooLarge {
        /// The limit.
        most: u64,
        /// The setting.
        setting: &'static str,
    },
    /// A range behind the end.
    #[error("the range is not within the file, which has {size} bytes")]
    Range {
        /// Bytes of the file.
        size: u64,
    },
    /// No space, or the user's quota is used up.
    #[error("the device's disk is full; remove something first")]
    DiskFull,
    /// As many as may be.
    #[error("too many requests for files are under way; try again later")]
    Busy,
    /// Another part is the next.
    #[error("{bytes} bytes of this upload are here; go on from there")]
    Offset {
        /// Bytes.
        bytes: u64,
    },
    /// A header or parameter.
    #[error("{0} is missing, or not what API.md says")]
    Parameter(&'static str),
    /// The body of `POST /files`.
    #[error(
        "the body is no JSON object with an action (rename, directory, remove), a path, and to for a rename"
    )]
    Action,
    /// A body with fewer bytes than announced.
    #[error("the body breaks off")]
    BodyEnded,
    /// A body with more bytes than the upload has left.
    #[error("the body goes beyond Upload-Length")]
    BodyTooLong,
    /// No byte for a while.
    #[error("the body comes too slowly")]
    Slow,
    /// The kernel's reason, which no client can do anything about.
    #[error("the device cannot do this now: {0}")]
    Device(String),
    /// The root side does not answer.
    #[error("{NO_HELPER}")]
    NoHelper,
}

/// Why a client may not use an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserFailure {
    /// Not a user name.
    #[error("{0:?} is not a user name")]
    Name(String),
    /// Not a token.
    #[error("the user_token is not a token")]
    TokenText,
    /// No such account.
    #[error("there is no user {0:?} on this device")]
    Unknown(String),
    /// The client named no user, and the default one is missing.
    #[error("the default user does not exist on this device; create it, or allow another one with {setting}")]
    NoDefault {
        /// The setting that allows users.
        setting: &'static str,
    },
    /// The account is not listed.
    #[error("{user} may not run programs here; this device's administrator can allow it with {setting}")]
    NotAllowed {
        /// The account.
        user: String,
        /// The setting that allows users.
        setting: &'static str,
    },
    /// The account needs a token.
    #[error(
        "running programs as {user} needs this device's token for it: ask this device's administrator for it, and add \
         user_token=… to the address"
    )]
    TokenMissing {
        /// The account.
        user: String,
    },
    /// The token is another one.
    #[error(
        "this is not the device's token for {user}: ask this device's administrator for the one it has now"
    )]
    TokenWrong {
        /// The account.
        user: String,
    },
    /// Too many wrong tokens.
    #[error("too many wrong tokens; try again in {seconds} seconds")]
    Blocked {
        /// When the next one is looked at.
        seconds: u64,
    },
    /// The account is locked or expired, or has no login shell.
    #[error(
        "the account of {user} is locked or expired, or may not log in (its shell is nologin or false); ask this \
         device's administrator to unlock it"
    )]
    Disabled {
        /// The account.
        user: String,
    },
    /// /etc/nologin is there.
    #[error("the administrator lets no users log in at the moment (/etc/nologin is there); try again later")]
    LoginsDisabled,
    /// The root side is not root.
    #[error("the server was not started as root, so it runs programs as its own user only")]
    NotRoot,
    /// The two daemons are of different versions.
    #[error("the two parts of further-link are of different versions; restart the service")]
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each start failure.
    fn failures() -> Vec<StartFailure> {
        let (user, setting, reason) = (|| "USER".to_owned(), "SETTING", || "REASON".to_owned());
        let mut failures: Vec<StartFailure> = [
            UserFailure::Name(user()),
            UserFailure::TokenText,
            UserFailure::Unknown(user()),
            UserFailure::NoDefault { setting },
            UserFailure::NotAllowed { user: user(), setting },
            UserFailure::TokenMissing { user: user() },
            UserFailure::TokenWrong { user: user() },
            UserFailure::Blocked { seconds: 60 },
            UserFailure::Disabled { user: user() },
            UserFailure::LoginsDisabled,
            UserFailure::NotRoot,
            UserFailure::Version,
        ]
        .into_iter()
        .map(StartFailure::from)
        .collect();
        failures.extend([
            StartFailure::Path,
            StartFailure::Nothing,
            StartFailure::OutsideWorkDir,
            StartFailure::Code { most: 4_194_304 },
            StartFailure::ConnectionFull { most: 256 },
            StartFailure::DeviceFull { most: 512 },
            StartFailure::ClientKeepsTooMany { most: 16 },
            StartFailure::DeviceKeepsTooMany { most: 64 },
            StartFailure::KeptTooLong { most: 86_400 },
            StartFailure::Stopped,
            StartFailure::TimedOut,
            StartFailure::UnknownRunner { id: "ID".to_owned() },
            StartFailure::NoRunner,
            StartFailure::BrokenRunner { id: "ID".to_owned(), reason: reason() },
            StartFailure::NotInstalled { title: "TITLE".to_owned(), hint: "HINT".to_owned() },
            StartFailure::NoVenvs { title: "TITLE".to_owned() },
            StartFailure::VenvMissing,
            StartFailure::InstallWhere,
            StartFailure::PackageName { name: "NAME".to_owned() },
            StartFailure::ArgsTooMany { most: 256 },
            StartFailure::ArgsTooLong { most: 65_536 },
            StartFailure::Nul,
            StartFailure::EnvTooLong { most: 65_536 },
            StartFailure::EnvName { name: "NAME".to_owned() },
            StartFailure::EnvRefused { name: "NAME".to_owned() },
            StartFailure::NoFile,
            StartFailure::NotAProgram,
            StartFailure::NotExecutable,
            StartFailure::Execute(reason()),
            StartFailure::NoDirectory,
            StartFailure::ChangeDirectory(reason()),
            StartFailure::MakeDirectory(reason()),
            StartFailure::WriteCode(reason()),
            StartFailure::Device(FailedStep { step: "STEP", reason: reason() }),
            StartFailure::NoHelper,
        ]);
        failures
    }

    #[test]
    fn the_texts_of_the_original_are_exact_and_on_the_page() {
        let page = include_str!("../API.md");
        for (error, text) in [
            (ClientError::BadMessage(BadMessage::NotJson), "Bad message"),
            (ClientError::MessageException, "Message Exception"),
            (ClientError::BadUpload, "Bad upload"),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(page.contains(&format!("| `{text}` |")), "API.md does not have {text:?}");
        }
        for failure in failures() {
            let text = ClientError::from(failure).to_string();
            assert!(text.starts_with("Message Exception: cannot start the program: "), "{text}");
        }
    }

    #[test]
    fn the_page_lists_every_reason_why_nothing_is_done_with_files() {
        let page = include_str!("../API.md");
        for failure in [
            FilesFailure::Path,
            FilesFailure::OwnName,
            FilesFailure::NotFound,
            FilesFailure::NotAllowed("REASON".to_owned()),
            FilesFailure::LeadsOut,
            FilesFailure::LinkOnTheWay,
            FilesFailure::NoFile,
            FilesFailure::Exists,
            FilesFailure::WrongKind,
            FilesFailure::IntoItself,
            FilesFailure::OtherDisk,
            FilesFailure::Changed,
            FilesFailure::TooLarge { most: 67_108_864, setting: "SETTING" },
            FilesFailure::Range { size: 300 },
            FilesFailure::DiskFull,
            FilesFailure::Busy,
            FilesFailure::Offset { bytes: 300 },
            FilesFailure::Parameter("If-Match"),
            FilesFailure::Action,
            FilesFailure::BodyEnded,
            FilesFailure::BodyTooLong,
            FilesFailure::Slow,
            FilesFailure::Device("REASON".to_owned()),
            FilesFailure::NoHelper,
        ] {
            assert!(page.contains(&format!("`{failure}`")), "API.md does not have {failure}");
        }
    }

    #[test]
    fn the_page_lists_every_reason_why_a_program_does_not_start() {
        let page = include_str!("../API.md");
        let listed: Vec<String> = failures().iter().map(|failure| format!("- `{failure}`\n")).collect();
        let listed = listed.concat();
        assert!(page.contains(&listed), "API.md must have this list:\n{listed}");
    }
}
