//! One conversation, from the peer's credentials to the last event. Each phase allows certain messages; anything else
//! ends the conversation and the run.
//!
//! | phase | in the | allowed | leads to |
//! | --- | --- | --- | --- |
//! | waiting | launcher | `Run` | refused, failed, or watched |
//! | watched (`watch`) | watcher | `Stop`, close | ended |
//! | waiting | launcher | `Upload` | refused, failed, or storing |
//! | storing (`files`) | launcher | `File`, `Link`, `Piece`, `Downloaded`, `Commit`, close | ended |
//!
//! Launcher and watcher are two processes (`spawn`). Where only uploads are served there is no watcher.

use std::{io, time::Duration};

use further_link_proto::{
    CodecError, Connection, Event, ExitStatus, Identity, Refusal, Request, Run, Runner, SocketError,
};
use nix::{sys::prctl, unistd::Uid};
use tracing::{info, warn};

use crate::{
    check::{Ask, CheckError, Permitted, Policy},
    demote::{self, Owner, ServiceAccount},
    environment::Variable,
    files,
    handoff::Handoff,
    launch, plan,
    plan::Places,
    spawn::{self, Launcher, Spawned, Watcher},
    state::Rules,
    watch::{Inputs, Watch, WatchError},
};

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
    pub(crate) places: Places,
    pub(crate) grace: Duration,
    pub(crate) service: Option<ServiceAccount>,
    /// Variables that programs get from the helper. The rest of its environment is none of their business (D15).
    pub(crate) passed: Vec<Variable>,
}

/// Why a conversation ended otherwise than by its rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the peer has uid {0}, not the frontend's")]
    Stranger(u32),
    #[error("a message out of place, or of the other service")]
    OutOfPlace,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Files(#[from] files::FilesError),
    #[error(transparent)]
    Demote(#[from] demote::DemoteError),
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
        Err(error) => warn!("conversation ended: {error}"),
    }
}

fn converse(connection: &Connection, settings: &Settings) -> Result<(), ServeError> {
    let peer = connection.peer_uid()?;
    if peer != settings.frontend_uid.as_raw() {
        return Err(ServeError::Stranger(peer));
    }
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    let inputs = Inputs::new(connection)?;
    if settings.serves == Serves::Uploads {
        return answer(connection, &inputs, settings, None);
    }
    let watcher = spawn::fork(|launcher| {
        let prepared = launch::prepare().map_err(ServeError::from);
        let outcome = prepared.and_then(|()| answer(connection, &inputs, settings, Some(launcher)));
        let code = u8::from(outcome.is_err());
        log_failure(outcome);
        code
    })?;
    attend(inputs, settings, watcher)
}

/// Waits for the request and does what it asks for.
fn answer(
    connection: &Connection,
    inputs: &Inputs<'_>,
    settings: &Settings,
    launcher: Option<Launcher>,
) -> Result<(), ServeError> {
    if !inputs.is_request_there()? {
        rehearse(settings);
    }
    if !inputs.wait_for_request()? {
        return Ok(());
    }
    match (first_request(connection)?, launcher) {
        (Some(Request::Run(run)), Some(launcher)) => {
            let runner = run.runner.name();
            let Some(permitted) = permitted(connection, settings, run, runner)? else { return Ok(()) };
            let numbers = [random_number()?, random_number()?];
            let plan = plan::plan(&permitted, &settings.places, numbers);
            Ok(launcher.launch(connection, &permitted, &plan, &settings.passed)?)
        }
        (Some(Request::Upload(upload)), launcher) => {
            // Processes of the user shall have nothing that the watcher believes.
            drop(launcher);
            let Some(permitted) = permitted(connection, settings, upload, "upload")? else { return Ok(()) };
            let numbers = [random_number()?, random_number()?];
            Ok(files::store(connection, inputs, &settings.places, &permitted, numbers)?)
        }
        (Some(_), _) => Err(ServeError::OutOfPlace),
        (None, _) => Ok(()),
    }
}

/// What was asked for, if it may be done; else the refusal has been sent.
fn permitted<Request: Ask>(
    connection: &Connection,
    settings: &Settings,
    request: Request,
    what: &str,
) -> Result<Option<Permitted<Request>>, ServeError> {
    let user = request.identity().user.clone();
    match settings.policy.check(request) {
        Ok(permitted) => Ok(Some(permitted)),
        Err(CheckError::Refused(refusal)) => {
            let user = user.as_ref().unwrap_or(settings.policy.default_user());
            info!(user = user.as_str(), what, outcome = ?refusal, "refused");
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

/// Does once, while nobody waits, what every start does: the modules of the name service are loaded then, and the memory
/// that the code needs is there. The answers are thrown away; they would be old when they are needed.
fn rehearse(settings: &Settings) {
    let identity = Identity::default();
    let run = Run { identity, runner: Runner::Exec, path: None, code: None, terminal: None };
    if let Ok(permitted) = settings.policy.check(run) {
        let plan = plan::plan(&permitted, &settings.places, [0, 0]);
        spawn::rehearse(&permitted, &plan);
    }
}

/// Sees to what the launcher becomes, if it becomes a program.
fn attend(inputs: Inputs<'_>, settings: &Settings, watcher: Watcher) -> Result<(), ServeError> {
    let waited = demote::for_waiting(settings.service)
        .map_err(ServeError::from)
        .and_then(|()| Ok(watcher.wait(&inputs)?))
        .inspect_err(|_| spawn::abandon());
    let Some(Spawned { handoff, streams, told_to_end }) = waited? else {
        demote::for_upload(settings.service).inspect_err(|_| spawn::abandon())?;
        return Ok(watcher.wait_for_end(&inputs)?);
    };
    let demoted = demote::for_run(settings.service, &handoff.owner);
    let Handoff { owner: Owner { name: user, .. }, runner, terminal, origin, temporary } = handoff;
    let rules = Rules { grace: settings.grace, terminal };
    let mut watch = Watch::new(inputs, watcher.into_progress(), streams, temporary, rules);
    if told_to_end {
        watch.end();
    }
    if let Err(error) = demoted {
        watch.abandon_as_root();
        return Err(error.into());
    }
    let pid = watch.pid();
    info!(user, runner, pid, origin, "starting");
    match watch.run() {
        Ok(event) => info!(user, runner, pid, outcome = in_words(&event), "ended"),
        Err(error) => {
            watch.abandon();
            return Err(error.into());
        }
    }
    Ok(())
}

/// The outcome as the log has it.
fn in_words(event: &Event) -> String {
    match event {
        Event::Exited(ExitStatus::Exited(code)) => format!("exit code {code}"),
        Event::Exited(ExitStatus::Signaled(signal)) => format!("signal {signal}"),
        Event::Exited(ExitStatus::OutOfMemory) => "signal 9, out of memory".to_owned(),
        Event::Failed { step, errno } => {
            format!("failed at {step:?}: {}", io::Error::from_raw_os_error(*errno))
        }
        other => format!("{other:?}"),
    }
}

/// For names that nobody can guess and lay something in the way of.
fn random_number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
