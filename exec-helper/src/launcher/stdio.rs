//! The program's standard input, output and error: a pty or three pipes, made here, handed over, then closed
//! here.
//!
//! Nothing is read or written in this process. `ours` goes to the frontend as descriptors, `theirs`
//! becomes 0, 1, 2 of the program. For a moment a descriptor of the `pty-process` crate is open without
//! close-on-exec. With one thread and one child no other program inherits it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use further_link_proto::WindowSize;
use nix::unistd::Uid;
use pty_process::blocking::Pts;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    pipe::{PipeFlags, pipe_with},
    termios::{InputModes, OptionalActions, tcgetattr, tcsetattr},
};

/// What the pipe of standard output holds: four reads of the frontend, so that program and frontend need not
/// take turns. The kernel's usual 64 KiB make them; memory is used only where there is output.
const STDOUT_PIPE: usize = 256 * 1024;

/// What the program gets.
pub(crate) enum Theirs {
    Terminal(Pts),
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
}

impl Theirs {
    /// In the order 0, 1, 2.
    pub(crate) fn standard(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Terminal(follower) => [follower.as_fd(); 3],
            Self::Pipes { stdin, stdout, stderr } => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        }
    }
}

/// The two ends of all streams.
pub(crate) struct Streams {
    /// For the frontend: the leader, or the other ends of stdin, stdout, stderr.
    pub(crate) ours: Vec<OwnedFd>,
    pub(crate) theirs: Theirs,
}

/// Makes them.
pub(crate) fn open(terminal: Option<WindowSize>, owner: Uid) -> io::Result<Streams> {
    let Some(size) = terminal else {
        let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        // Without it (a user's share of pipe memory is used up, pipe(7)) things are slower.
        let (Ok(_) | Err(_)) = rustix::pipe::fcntl_setpipe_size(&stdout, STDOUT_PIPE);
        let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let theirs = Theirs::Pipes { stdin, stdout, stderr };
        give(&theirs, owner)?;
        return Ok(Streams { ours: vec![to_stdin, from_stdout, from_stderr], theirs });
    };
    if terminals_are_scarce() {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    let (leader, follower) = pty_process::blocking::open().map_err(plain)?;
    leader.resize(pty_process::Size::new(size.rows, size.cols)).map_err(plain)?;
    rub_out_characters(follower.as_fd())?;
    let theirs = Theirs::Terminal(follower);
    give(&theirs, owner)?;
    Ok(Streams { ours: vec![leader.into()], theirs })
}

/// Makes the line discipline rub out whole characters of UTF-8 instead of bytes (`IUTF8`, termios(3)).
fn rub_out_characters(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = tcgetattr(terminal)?;
    attributes.input_modes.insert(InputModes::IUTF8);
    Ok(tcsetattr(terminal, OptionalActions::Now, &attributes)?)
}

/// Whether less than a quarter of the machine's terminals is left. These are for the console, ssh and other
/// services, also when a frontend that was taken over keeps the terminals of ended runs.
fn terminals_are_scarce() -> bool {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/kernel/pty/{name}")).ok()?.trim().parse().ok()
    };
    number("nr").zip(number("max")).is_some_and(|(used, most)| used >= most - most / 4)
}

/// The socket of the user channel, still without a name.
pub(crate) fn channel() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Makes them the user's, as after a login: programs open `/dev/stdout` or `/dev/tty` again by name. A
/// terminal keeps the group and mode of the devpts mount (tty and 0620 on Debian; never world-writable,
/// CVE-2015-6565).
fn give(theirs: &Theirs, owner: Uid) -> io::Result<()> {
    if Uid::effective().is_root() {
        for descriptor in theirs.standard() {
            nix::unistd::fchown(descriptor, Some(owner), None)?;
        }
    }
    Ok(())
}

/// The kernel's reason, which the client is told, without the crate's wrapping.
fn plain(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
    }
}
