//! Start of the process: reads the options, finds its socket, and lets `serve` or `listen` do the rest.
//!
//! Also makes true what the other files rely on: one thread, signals blocked and read as data, no descriptor that a
//! program could inherit, and no core dump or tracer that could see what root sees.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use further_link_proto::{Connection, UserName};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::Uid,
};
use rustix::net::{SocketType, sockopt};
use tracing::error;

use crate::{
    account,
    check::Policy,
    listen, log,
    options::{self, Command, Options, USAGE},
    plan::Places,
    serve::{self, Settings},
    signals::Signals,
    sys,
};

/// The first descriptor that a service manager passes (`sd_listen_fds(3)`).
const FIRST_PASSED: i32 = 3;

/// Runs the helper under this name with these arguments.
pub fn main(name: &str, args: impl Iterator<Item = String>) -> ExitCode {
    let options = match options::parse(args) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("{name} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{name}: {error} (try --help)");
            return ExitCode::from(2);
        }
    };
    log::start("further-link-exec-helper");
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the socket that this process was given is.
enum Socket {
    Listener(OwnedFd),
    Connection(Connection),
}

fn start(options: Options) -> io::Result<()> {
    if let Some(parent) = options.parent {
        follow_parent(parent)?;
    }
    let passed = passed_socket()?;
    prctl::set_dumpable(false)?;
    sys::close_others_on_exec()?;
    Signals::block()?;

    let settings = Settings {
        frontend_uid: frontend_uid(options.frontend_user.as_ref())?,
        policy: Policy::new(&options.allowed)?,
        places: Places { work_dir: options.work_dir, temp_dir: options.temp_dir },
        grace: options.grace,
        pass_env: options.pass_env,
    };
    let socket = match (options.listen, passed) {
        (Some(path), _) => Socket::Listener(further_link_proto::bind_listener(Some(&path))?.0),
        (None, Some(socket)) => socket,
        (None, None) => {
            return Err(io::Error::other(
                "standard input is not a socket, and --listen is not given (try --help)",
            ));
        }
    };
    match socket {
        Socket::Listener(listener) => listen::run(&listener, &settings),
        Socket::Connection(connection) => {
            serve::run(&connection, &settings);
            Ok(())
        }
    }
}

/// A development helper ends with the frontend that started it.
fn follow_parent(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the parent has ended already"))
    }
}

/// The uid that only the frontend may have: its account's, or this process's own in development.
fn frontend_uid(name: Option<&UserName>) -> io::Result<Uid> {
    let Some(name) = name else { return Ok(Uid::effective()) };
    account::uid_of(name)?
        .ok_or_else(|| io::Error::other(format!("--frontend-user: there is no account {name}")))
}

/// The socket on standard input (`StandardInput=socket`, inetd), or passed as the first descriptor.
fn passed_socket() -> io::Result<Option<Socket>> {
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own) {
        return classify(sys::inherited(FIRST_PASSED)?).map(Some);
    }
    let stdin = rustix::stdio::stdin();
    if sockopt::socket_type(stdin).is_err() {
        return Ok(None);
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, FIRST_PASSED)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?.as_fd())?;
    classify(socket).map(Some)
}

fn classify(socket: OwnedFd) -> io::Result<Socket> {
    if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
        return Err(io::Error::other("the socket passed is not of type SOCK_SEQPACKET"));
    }
    Ok(if sockopt::socket_acceptconn(&socket)? {
        Socket::Listener(socket)
    } else {
        Socket::Connection(Connection::new(socket))
    })
}
