//! Signals as data: blocked by `start`, read from a descriptor as the socket is. The helper has no
//! handler of its own, so none can run at the wrong moment (the class of CVE-2024-6387). The standard
//! library has one for stack overflows.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use crate::sys;

/// SIGCHLD and SIGTERM. SIGINT and SIGHUP stay blocked: a terminal's Ctrl-C is for the frontend, whose end is
/// noticed.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals; the mask is inherited by forked helpers and reset in programs.
    pub(crate) fn block() -> io::Result<()> {
        sys::reap_children_ourselves();
        let all = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        Ok(all.thread_block()?)
    }

    pub(crate) fn new() -> io::Result<Self> {
        let read = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
        Ok(Self(SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Empties the queue. True if SIGTERM was in it.
    pub(crate) fn terminate_requested(&self) -> io::Result<bool> {
        let mut told = false;
        while let Some(signal) = self.0.read_signal()? {
            told |= signal.ssi_signo == libc::SIGTERM.unsigned_abs();
        }
        Ok(told)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
