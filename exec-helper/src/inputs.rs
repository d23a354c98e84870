//! What a process of the helper waits for: the frontend's messages, signals, the launcher's report, and a
//! deadline. Used by launcher, watcher and upload; it decides nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use further_link_proto::Connection;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::signals::Signals;

/// The frontend's messages and this process's signals.
pub(crate) struct EventSource<'a> {
    pub(crate) connection: &'a Connection,
    signals: Signals,
}

/// What has happened.
#[derive(Default)]
pub(crate) struct Ready {
    pub(crate) message: bool,
    pub(crate) signal: bool,
    pub(crate) report: bool,
}

impl<'a> EventSource<'a> {
    pub(crate) fn new(connection: &'a Connection) -> io::Result<Self> {
        Ok(Self { connection, signals: Signals::new()? })
    }

    /// Whether a request has come already.
    pub(crate) fn is_request_there(&self) -> io::Result<bool> {
        Ok(self.wait(true, None, Some(Instant::now()))?.message)
    }

    /// Waits for the request. False when told to end instead, or when none has come in time.
    pub(crate) fn wait_for_request(&self, timeout: Duration) -> io::Result<bool> {
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            let ready = self.wait(true, None, Some(end))?;
            if ready.signal && self.terminate_requested()? {
                return Ok(false);
            }
            if ready.message {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for a signal. True when told to end.
    pub(crate) fn wait_for_signal(&self) -> io::Result<bool> {
        Ok(self.wait_for(None)?.signal && self.terminate_requested()?)
    }

    /// Waits for a signal, or for the launcher's report.
    pub(crate) fn wait_for(&self, report: Option<BorrowedFd<'_>>) -> io::Result<Ready> {
        self.wait(false, report, None)
    }

    /// Call it when there was a signal.
    pub(crate) fn terminate_requested(&self) -> io::Result<bool> {
        self.signals.terminate_requested()
    }

    /// Waits for messages if asked, for signals, for the launcher's report if given, until the deadline.
    pub(crate) fn wait(
        &self,
        messages: bool,
        report: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Ready> {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if messages {
            polled.push(PollFd::new(self.connection.as_fd(), PollFlags::POLLIN));
        }
        if let Some(report) = report {
            polled.push(PollFd::new(report, PollFlags::POLLIN));
        }
        match poll(&mut polled, timeout(deadline)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno.into()),
        }
        let mut happened = polled.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = |asked: bool| asked && happened.next().unwrap_or(false);
        Ok(Ready { signal: next(true), message: next(messages), report: next(report.is_some()) })
    }
}

/// The deadline as poll(2) wants it, rounded up so that it is not woken too early.
pub(crate) fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use further_link_proto::{Request, pair};

    #[test]
    fn a_wait_for_a_request_ends_with_it_or_with_its_time() {
        let (helper, frontend) = pair().unwrap();
        let inputs = EventSource::new(&helper).unwrap();
        let (begun, limit) = (Instant::now(), Duration::from_millis(30));
        assert!(!inputs.wait_for_request(limit).unwrap(), "none came");
        assert!(begun.elapsed() >= limit);
        frontend.send(&Request::Commit).unwrap();
        assert!(inputs.wait_for_request(Duration::from_mins(1)).unwrap());
    }
}
