//! The watcher: the launcher's parent, which sees to the program's life. Its code runs as the service
//! account with the capability to signal, and touches files with the rights of the run's user (`demote`).
//! While a program runs it is never root.

mod counters;
mod demote;
mod error;
mod pending;
mod record;
mod state;
mod watch;

use std::{io, time::Duration};

use self::{
    demote::DemoteError, error::WatchError, pending::Spawned, record::Record, state::Rules, watch::Watch,
};
pub(crate) use self::{demote::ServiceAccount, pending::Watcher};
use crate::{
    confine,
    handoff::{Handoff, Owner},
    inputs::EventSource,
    plan::Temporary,
};

/// Why a run was not watched to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatcherError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Demote(#[from] DemoteError),
    #[error("cannot deny itself what it does not need: {0}")]
    Confine(io::Error),
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
        let demoted = demote::for_upload(service).map_err(WatcherError::from);
        demoted.and_then(|()| confine()).inspect_err(|_| pending::abandon())?;
        return Ok(watcher.wait_for_end(&inputs)?);
    };
    let demoted = demote::for_run(service, &handoff.owner);
    let Handoff { owner: Owner { name: user, .. }, runner, terminal, origin, channel } = handoff;
    let record = Record { user, runner, pid: watcher.pid(), origin };
    let rules = Rules { grace, terminal };
    let confined = demoted.is_ok().then(confine);
    let mut watch = Watch::new(inputs, watcher.into_progress(), streams, Temporary::channel(channel), rules);
    if terminate_requested {
        watch.end();
    }
    if let Err(error) = demoted {
        watch.abandon_as_root();
        return Err(error.into());
    }
    if let Some(Err(error)) = confined {
        watch.abandon();
        return Err(error);
    }
    let last = watch.run(&record).inspect_err(|_| watch.abandon())?;
    record.ended(&last);
    Ok(())
}

/// What is left to this process from here on: to see to processes, to read /proc, and to remove files.
fn confine() -> Result<(), WatcherError> {
    confine::to_calls_of_the_watcher().map_err(WatcherError::Confine)
}
