//! The lines of one run in the log: one when its program runs, and one of how it ended. A start that failed
//! has the second one only. Called by the watcher; it decides nothing.

use std::io;

use further_link_proto::{Ended, Event, ExitStatus, Limit};
use tracing::info;

use crate::handoff::of_connection;

/// Which run the lines are about.
pub(crate) struct Record {
    pub(crate) user: String,
    pub(crate) runner: String,
    pub(crate) pid: i32,
    /// The number of the client's connection in the frontend's log.
    pub(crate) origin: Option<u64>,
}

impl Record {
    pub(crate) fn started(&self) {
        let Self { user, runner, pid, origin } = self;
        let of = of_connection(*origin);
        info!(user, runner, pid, connection = origin, "{of}started {runner} as {user}, pid {pid}");
    }

    pub(crate) fn ended(&self, last: &Event) {
        let Self { user, runner, pid, origin } = self;
        let (of, outcome) = (of_connection(*origin), in_words(last));
        info!(
            user,
            runner,
            pid,
            connection = origin,
            outcome,
            "{of}{runner} as {user}, pid {pid}: {outcome}"
        );
    }
}

/// The outcome as the log has it.
fn in_words(event: &Event) -> String {
    match event {
        Event::Exited(Ended { status, limit, .. }) => {
            let status = match status {
                ExitStatus::Exited(code) => format!("exit code {code}"),
                ExitStatus::Signaled(signal) => format!("signal {signal}"),
            };
            match limit {
                None => status,
                Some(Limit::Memory) => status + ", out of memory",
                Some(Limit::Time) => status + ", out of time",
                Some(Limit::Processes) => status + ", out of processes",
            }
        }
        Event::Failed { step, errno } => {
            format!("failed at {}: {}", step.in_words(), io::Error::from_raw_os_error(*errno))
        }
        _ => "ended out of order".to_owned(),
    }
}
