//! One conversation, from the peer's credentials to the last event. Each phase allows certain messages;
//! anything else ends the conversation and the run.
//!
//! | phase | in the | allowed | leads to |
//! | --- | --- | --- | --- |
//! | waiting | launcher | `Run` | refused, failed, or watched |
//! | watched (`watcher`) | watcher | `Stop`, `Signal`, close | ended |
//! | waiting | launcher | `Upload` | refused, failed, or storing |
//! | storing (`upload`) | upload | `File`, `Link`, `Piece`, `Downloaded`, `Commit`, close | ended |
//! | waiting | launcher | `Files` | refused, failed, ended, or writing |
//! | writing (`files`) | files | `Commit`, close | ended |
//!
//! Launcher and watcher are two processes (`fork`). Where only uploads are served there is no watcher.

use std::{io, os::fd::AsFd, time::Duration};

use further_link_proto::{
    CodecError, Connection, Event, Identity, Refusal, Request, Run, RunnerId, SocketError,
};
use nix::{sys::prctl, unistd::Uid};
use tracing::{info, warn};

use crate::{
    check::{CheckError, HasIdentity, Permitted, Policy},
    files,
    handoff::of_connection,
    inputs::EventSource,
    known::Known,
    launcher::{self, Launcher, Opened, Programs},
    plan::{self, Directories},
    sys, upload,
    watcher::{self, ServiceAccount, Watcher},
};

/// Time that a helper waits for its request: it waits as root, and with the policy of when it began. The
/// frontend replaces its spare before that.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);

/// What this helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    RunsAndUploads,
    /// In a sandbox that no program should inherit (`further-link-files@.service`).
    Uploads,
}

/// What the command line settled, for every conversation alike.
pub(crate) struct Settings {
    pub(crate) serves: Serves,
    pub(crate) frontend_uid: Uid,
    pub(crate) policy: Policy,
    /// The default user, as it was at the start of a listening helper.
    pub(crate) known: Option<Known>,
    pub(crate) directories: Directories,
    pub(crate) grace: Duration,
    pub(crate) service: Option<ServiceAccount>,
    pub(crate) programs: Programs,
}

/// Why a conversation ended otherwise than by its rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the peer has uid {0}, not the frontend's; the helper serves the account of --frontend-user")]
    Stranger(u32),
    #[error("a message out of place; are --helper-socket and --files-socket exchanged?")]
    OutOfPlace,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Watcher(#[from] watcher::WatcherError),
    #[error(transparent)]
    Upload(#[from] upload::UploadError),
    #[error("{0}")]
    Files(#[from] files::FilesError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Holds the conversation and logs how it went.
pub(crate) fn run(connection: &Connection, settings: &Settings) {
    log_failure(converse(connection, settings));
}

fn log_failure(outcome: Result<(), ServeError>) {
    match outcome {
        // A spare that was never used.
        Ok(()) | Err(ServeError::Socket(SocketError::Closed)) => {}
        Err(error) => warn!("a conversation with the frontend ended: {error}"),
    }
}

fn converse(connection: &Connection, settings: &Settings) -> Result<(), ServeError> {
    let peer = connection.peer_uid()?;
    if peer != settings.frontend_uid.as_raw() {
        return Err(ServeError::Stranger(peer));
    }
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    let inputs = EventSource::new(connection)?;
    if settings.serves == Serves::Uploads {
        return answer(connection, &inputs, settings, None);
    }
    let watcher = fork(|launcher| {
        let prepared = launcher::prepare().map_err(ServeError::from);
        let outcome = prepared.and_then(|()| answer(connection, &inputs, settings, Some(launcher)));
        let code = u8::from(outcome.is_err());
        log_failure(outcome);
        code
    })?;
    Ok(watcher::attend(inputs, settings.service, settings.grace, watcher)?)
}

/// Waits for the request and does what it asks for.
fn answer(
    connection: &Connection,
    inputs: &EventSource<'_>,
    settings: &Settings,
    launcher: Option<Launcher>,
) -> Result<(), ServeError> {
    let opened = if launcher.is_some() { settings.programs.open() } else { Opened::default() };
    let asked = if inputs.is_request_there()? { None } else { warm_up(settings) };
    let known = asked.as_ref().or(settings.known.as_ref());
    if !inputs.wait_for_request(REQUEST_TIMEOUT)? {
        return Ok(());
    }
    match (first_request(connection)?, launcher) {
        (Some(Request::Run(run)), Some(launcher)) => {
            let runner = run.runner.as_str().to_owned();
            let Some(permitted) = permitted(connection, settings, known, run, &runner)? else {
                return Ok(());
            };
            let numbers = [random_number()?, random_number()?];
            let layout = plan::layout(&permitted, &settings.directories, numbers);
            Ok(launcher.launch(connection, &permitted, &layout, &settings.programs, &opened)?)
        }
        (Some(Request::Upload(upload)), launcher) => {
            // Processes of the user shall have nothing that the watcher believes.
            drop(launcher);
            let Some(permitted) = permitted(connection, settings, known, upload, "upload")? else {
                return Ok(());
            };
            let numbers = [random_number()?, random_number()?];
            Ok(upload::store(connection, inputs, &settings.directories, &permitted, numbers)?)
        }
        (Some(Request::Files(files)), launcher) => {
            drop(launcher);
            let Some(permitted) = permitted(connection, settings, known, files, "files")? else {
                return Ok(());
            };
            Ok(files::serve(connection, &settings.directories, &permitted, random_number()?)?)
        }
        (Some(_), _) => Err(ServeError::OutOfPlace),
        (None, _) => Ok(()),
    }
}

/// What was asked for, if it may be done; else the refusal has been sent.
fn permitted<Request: HasIdentity>(
    connection: &Connection,
    settings: &Settings,
    known: Option<&Known>,
    request: Request,
    what: &str,
) -> Result<Option<Permitted<Request>>, ServeError> {
    let (user, origin) = (request.identity().user.clone(), request.identity().origin);
    match settings.policy.check(request, known) {
        Ok(permitted) => Ok(Some(permitted)),
        Err(CheckError::Refused(refusal)) => {
            let user = user.as_ref().unwrap_or(settings.policy.default_user());
            let (user, outcome) = (user.as_str(), refusal.in_words());
            info!(
                user,
                what,
                connection = origin,
                outcome,
                "{}refused {what} as {user}: {outcome}",
                of_connection(origin)
            );
            connection.send(&Event::Refused(refusal))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn first_request(connection: &Connection) -> Result<Option<Request>, ServeError> {
    match connection.recv() {
        Ok(request) => Ok(Some(request)),
        Err(SocketError::Codec(error @ CodecError::Version { .. })) => {
            warn!("{error}");
            connection.send(&Event::Refused(Refusal::Version))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Warm-up: does once, while idle, what every start does, so that NSS modules are loaded and pages are
/// resident. What it makes is discarded. What it has learned of the default user is returned, if that is more
/// than what the listening helper knew.
fn warm_up(settings: &Settings) -> Option<Known> {
    let is_known = settings.known.as_ref().is_some_and(Known::holds);
    let asked = if is_known { None } else { Known::ask(settings.policy.default_user()) };
    let runner = RunnerId::new("exec").ok()?;
    let identity = Identity::default();
    let run = Run { identity, runner, path: None, details: None, code: None, terminal: None };
    if let Ok(permitted) = settings.policy.check(run, asked.as_ref().or(settings.known.as_ref())) {
        launcher::warm_up(&permitted);
    }
    asked
}

/// Forks the launcher, which runs `launcher` and exits with its code, unless it becomes a program.
fn fork(launcher: impl FnOnce(Launcher) -> u8) -> io::Result<Watcher> {
    let (of_watcher, of_launcher) = further_link_proto::pair()?;
    let watched = of_watcher.as_fd();
    let pid = sys::fork(|| {
        sys::close_in_child(watched);
        launcher(Launcher::new(of_launcher))
    })?;
    Ok(Watcher::new(of_watcher, pid))
}

/// A random number, for names that no other user can guess and lay something in the way of.
fn random_number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
