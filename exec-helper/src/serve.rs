//! One conversation, from the peer's credentials to the last event. Each phase allows certain messages; anything else
//! ends the conversation and the run.
//!
//! | phase | allowed | leads to |
//! | --- | --- | --- |
//! | waiting | `Run` | refused, failed, or watched |
//! | watched (`watch`) | `Stop`, close | ended |
//! | waiting | `Upload` | refused, failed, or storing |
//! | storing (`files`) | `File`, `Link`, `Piece`, `Downloaded`, `Commit`, close | ended |

use std::{io, time::Duration};

use further_link_proto::{CodecError, Connection, Event, ExitStatus, Refusal, Request, Run, SocketError};
use nix::{sys::prctl, unistd::Uid};
use tracing::{info, warn};

use crate::{
    check::{Ask, CheckError, Permitted, Policy},
    demote::{self, ServiceAccount},
    files,
    launch::Variable,
    plan,
    plan::Places,
    spawn,
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
    pub(crate) service: ServiceAccount,
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
    match converse(connection, settings) {
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
    // Loads the modules of the name service now, while nobody waits; the answer may be old by the time it is needed.
    let (Ok(_) | Err(_)) = crate::account::by_name(settings.policy.default_user());
    if !inputs.wait_for_request()? {
        return Ok(());
    }
    match first_request(connection)? {
        Some(Request::Run(run)) if settings.serves == Serves::RunsAndUploads => {
            let runner = run.runner.name();
            let Some(permitted) = permitted(connection, settings, run, runner)? else { return Ok(()) };
            start(connection, inputs, settings, &permitted)
        }
        Some(Request::Upload(upload)) => {
            let Some(permitted) = permitted(connection, settings, upload, "upload")? else { return Ok(()) };
            let numbers = [random_number()?, random_number()?];
            Ok(files::store(connection, &inputs, &settings.places, &permitted, numbers)?)
        }
        Some(_) => Err(ServeError::OutOfPlace),
        None => Ok(()),
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

fn start<'a>(
    connection: &Connection,
    inputs: Inputs<'a>,
    settings: &Settings,
    permitted: &'a Permitted<Run>,
) -> Result<(), ServeError> {
    let (account, run) = (permitted.account(), permitted.request());
    let plan = plan::plan(permitted, &settings.places, random_number()?);
    let text_length =
        run.code.filter(|_| plan.temporary.entrypoint.is_some()).map(further_link_proto::CodeLength::bytes);
    let spawned = match spawn::spawn(account, &plan, run.terminal, text_length, &settings.passed) {
        Ok(spawned) => spawned,
        Err(failure) => {
            warn!(
                user = account.name,
                runner = run.runner.name(),
                outcome = in_words(&failure.event()),
                "not started"
            );
            return Ok(connection.send(&failure.event())?);
        }
    };
    let demoted = demote::demote(settings.service, account);
    let names = (account.name.as_str(), run.runner.name());
    let mut watch = Watch::new(inputs, spawned, settings.grace, plan.temporary, names);
    if let Err(error) = demoted {
        watch.abandon_as_root();
        return Err(error.into());
    }
    let outcome = watch.run();
    let pid = watch.pid();
    match outcome {
        Ok(event) => {
            info!(user = account.name, runner = run.runner.name(), pid, outcome = in_words(&event), "ended");
        }
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
