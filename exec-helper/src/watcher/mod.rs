//! The watcher: the launcher's parent, which sees to the program's life. Its code runs as the service account with the
//! capability to signal, and touches files with the rights of the run's user (`demote`); it is never root while a program runs.

mod demote;
mod error;
mod oom;
mod pending;
mod state;
mod watch;

use std::{io, time::Duration};

use further_link_proto::{Event, ExitStatus};
use tracing::info;

use self::{demote::DemoteError, error::WatchError, pending::Spawned, state::Rules, watch::Watch};
pub(crate) use self::{demote::ServiceAccount, pending::Watcher};
use crate::{
    handoff::{Handoff, Owner},
    inputs::EventSource,
};

/// Why a run was not watched to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatcherError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Demote(#[from] DemoteError),
}

/// Watches what the launcher becomes, if it becomes a program.
pub(crate) fn attend(
    inputs: EventSource<'_>,
    service: Option<ServiceAccount>,
    grace: Duration,
    watcher: Watcher,
) -> Result<(), WatcherError> {
    let waited = demote::for_waiting(service)
        .map_err(WatcherError::from)
        .and_then(|()| Ok(watcher.wait(&inputs)?))
        .inspect_err(|_| pending::abandon());
    let Some(Spawned { handoff, streams, terminate_requested }) = waited? else {
        demote::for_upload(service).inspect_err(|_| pending::abandon())?;
        return Ok(watcher.wait_for_end(&inputs)?);
    };
    let demoted = demote::for_run(service, &handoff.owner);
    let Handoff { owner: Owner { name: user, .. }, runner, terminal, origin, temporary } = handoff;
    let rules = Rules { grace, terminal };
    let mut watch = Watch::new(inputs, watcher.into_progress(), streams, temporary, rules);
    if terminate_requested {
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
