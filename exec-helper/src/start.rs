//! Start of the process: reads the options, finds its socket, and lets `serve` or `listen` do the rest.
//!
//! Also makes true what the other files rely on: one thread, signals blocked and read as data, no
//! descriptor that a program could inherit. No core dump and no tracer sees what root sees.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use further_link_proto::{Connection, UserName};
use further_link_runners::Trust;
use nix::{
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::Uid,
};
use rustix::{
    io::Errno,
    net::{SocketAddrUnix, SocketType, sockopt},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tracing::{error, warn};

use crate::{
    account,
    check::{Policy, PolicyError},
    cli::{self, ALLOWED, Command, OptionError, Options, USAGE, as_given},
    known::Known,
    launcher::{Programs, Variable},
    listen,
    plan::Directories,
    serve::{self, Settings},
    signals::Signals,
    sys,
    watcher::ServiceAccount,
};

/// The first descriptor that a service manager passes (`sd_listen_fds(3)`).
const FIRST_PASSED: i32 = 3;
/// Variables that programs always get, if this process has them.
const PASSED: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];
/// The environment of packages for programs whose project has none, by the name that the original gave it.
const VENV: &str = "FURTHER_VENV";
/// B7.3
const DEFAULT_TEMP_DIR: &str = "/tmp";

/// Runs the helper under this name with these arguments.
pub fn main(name: &str, args: impl Iterator<Item = String>) -> ExitCode {
    let options = match cli::parse(args) {
        Ok(Command::Run(options)) => *options,
        Ok(Command::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("{name} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    further_link_proto::start_logging("further-link-exec-helper", debug_requested());
    abort_on_panic();
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            error.exit_code()
        }
    }
}

/// What is wrong with the settings in these arguments. It is for a frontend that is about to start a helper
/// with them, and still has a person at its terminal.
pub fn wrong_setting(args: impl Iterator<Item = String>) -> Option<String> {
    let decided = match cli::parse(args) {
        Ok(Command::Run(options)) => Decided::new(&options).map(drop),
        Ok(Command::Help | Command::Version) => Ok(()),
        Err(error) => Err(error.into()),
    };
    decided.err().map(|error| error.to_string())
}

/// Why the helper did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Setting(#[from] OptionError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StartError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting(error) => ExitCode::from(error.exit_code()),
            Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// Who may do what, decided from the options and the machine's accounts.
struct Decided {
    frontend_uid: Uid,
    service: Option<ServiceAccount>,
    policy: Policy,
}

impl Decided {
    fn new(options: &Options) -> Result<Self, StartError> {
        let frontend_uid = frontend_uid(options.frontend_user.as_ref())?;
        let service = ServiceAccount::new(frontend_uid)?;
        let bad = |error: PolicyError| OptionError::bad(ALLOWED, &options.allowed_as_given, &error);
        let policy = Policy::new(options.allowed.clone(), options.token_file.clone()).map_err(bad)?;
        if options.frontend_user.is_some() {
            policy.keep_apart_from(frontend_uid, service.map(ServiceAccount::uid)).map_err(bad)?;
        }
        Ok(Self { frontend_uid, service, policy })
    }
}

/// The frontend's setting, which the units of the helper read as well.
fn debug_requested() -> bool {
    let value = std::env::var("FURTHER_LINK_DEBUG").unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

/// A panic ends this process at once: no code of a process with privileges runs after a bug was seen.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        error!("a bug ended this helper: {info}");
        std::process::abort();
    }));
}

/// What the socket that this process was given is.
enum Socket {
    Listener(OwnedFd),
    Connection(Connection),
}

fn start(options: Options) -> Result<(), StartError> {
    let parent = match options.parent {
        None => None,
        Some(parent) => match parent_process(parent)? {
            // The parent did not start after all, and has said why.
            None => return Ok(()),
            found => found,
        },
    };
    let passed = if options.listen.is_none() { passed_socket()? } else { None };
    shut_off()?;
    let Decided { frontend_uid, service, policy } = Decided::new(&options)?;
    let programs = Programs {
        passed: passed_variables(&options),
        runners: options.runners_dirs,
        trust: Trust::also(own_file_owner()?),
        has_group: options.has_group,
        venv: std::env::var_os(VENV).filter(|venv| !venv.is_empty()).map(PathBuf::from),
    };
    let mut settings = Settings {
        serves: options.serves,
        frontend_uid,
        programs,
        policy,
        known: None,
        service,
        directories: Directories {
            work: options.work_dir,
            temp: options.temp_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_TEMP_DIR)),
            projects: options.projects_dir,
        },
        grace: options.grace,
    };
    let socket = match (options.listen, passed) {
        (Some(path), _) => Socket::Listener(bind(&path, frontend_uid)?),
        (None, Some(socket)) => socket,
        (None, None) => {
            let none = "standard input is not a socket, and --listen is not given (try --help)";
            return Err(io::Error::other(none).into());
        }
    };
    match socket {
        Socket::Listener(listener) => {
            for name in settings.policy.without_account() {
                let list = as_given(ALLOWED, &options.allowed_as_given);
                warn!("{list} names {name}, and this device has no such user: create it, or take it out");
            }
            // The helpers that it forks have it from there.
            settings.known = Known::ask(settings.policy.default_user());
            Ok(listen::run(&listener, parent.as_ref().zip(options.parent), &settings)?)
        }
        Socket::Connection(connection) => {
            serve::run(&connection, &settings);
            Ok(())
        }
    }
}

/// Who owns this program file, and so could change what it does: root, or in development who has built it.
fn own_file_owner() -> io::Result<u32> {
    Ok(std::fs::metadata("/proc/self/exe")?.uid())
}

/// What the other files rely on, but for the one thread.
fn shut_off() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    sys::close_others_on_exec()?;
    Signals::block()?;
    Ok(())
}

/// The frontend that started a development helper, which ends with it; none if it has ended. A descriptor
/// tells its end. The kernel would send a parent death signal with the rights of the dying parent, which
/// has none over root (`prctl(2)`).
fn parent_process(parent: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(parent).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        // The second where a process group still has the number, as on 6.12.
        Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
        opened => opened?,
    };
    // Still the parent after the descriptor was taken: so the descriptor is the parent's.
    Ok((std::os::unix::process::parent_id() == parent).then_some(process))
}

/// Listens on a path where only the frontend can connect. A socket without a listener gives way.
fn bind(path: &Path, frontend: Uid) -> io::Result<OwnedFd> {
    let abandoned = |error: &io::Error| {
        error.kind() == io::ErrorKind::AddrInUse
            && SocketAddrUnix::new(path).is_ok_and(|address| {
                further_link_proto::connect(&address)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            })
    };
    let open_to_nobody = umask(Mode::from_bits_truncate(0o177));
    let bound = further_link_proto::bind_listener(Some(path)).or_else(|error| {
        if !abandoned(&error) {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        further_link_proto::bind_listener(Some(path))
    });
    umask(open_to_nobody);
    let (listener, _) =
        bound.map_err(|error| io::Error::other(format!("cannot listen on {}: {error}", path.display())))?;
    if Uid::effective().is_root() {
        // Never what a link of this name leads to: the directory may be another user's.
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            path,
            Some(frontend),
            None,
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(listener)
}

/// The variables that programs get of this process's environment. The original's package for user
/// programs asks where the temp dir is, so a temp dir by option is among them (B7.5).
fn passed_variables(options: &Options) -> Vec<Variable> {
    let names = PASSED.into_iter().chain(options.pass_env.iter().map(String::as_str));
    let inherited = names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let directories = [("FURTHER_LINK_TEMP_DIR", &options.temp_dir), ("PYTHONPATH", &options.python_path)];
    let told = directories
        .into_iter()
        .filter_map(|(name, dir)| Some((name.to_owned(), dir.as_ref()?.to_string_lossy().into_owned())));
    inherited.chain(told).collect()
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
    let is = |name, value: &str| std::env::var(name).is_ok_and(|actual| actual == value);
    if is("LISTEN_PID", &own) && is("LISTEN_FDS", "1") {
        return classify(sys::inherited(FIRST_PASSED)?).map(Some);
    }
    let stdin = rustix::stdio::stdin();
    if sockopt::socket_type(stdin).is_err() {
        return Ok(None);
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, FIRST_PASSED)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    // inetd gives the connection as standard output and error, too: log lines would go into the protocol.
    if sockopt::socket_type(rustix::stdio::stdout()).is_ok() {
        rustix::stdio::dup2_stdout(&null)?;
    }
    if sockopt::socket_type(rustix::stdio::stderr()) == Ok(SocketType::SEQPACKET) {
        rustix::stdio::dup2_stderr(&null)?;
    }
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
