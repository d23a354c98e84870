//! The descriptors that the service manager passes at the start (`sd_listen_fds(3)`): the socket that
//! listens, and what an earlier process of this service has left in its store. With the reactor's, the only
//! unsafe code of the frontend.

#![expect(unsafe_code, reason = "a descriptor that was inherited comes as a number; see the note")]

use std::{
    env, io,
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

static WERE_TAKEN: AtomicBool = AtomicBool::new(false);

/// What was passed and was not taken yet, with its names.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<(String, OwnedFd)>);

impl Passed {
    /// Takes all that was passed. A second time there is nothing.
    pub(crate) fn take_all() -> io::Result<Self> {
        if WERE_TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let descriptors = sd_notify::listen_fds()?.map(|number| {
            // SAFETY: the service manager has opened it for this process, whose id it has named. This is the
            // only place that takes such a number, and it does so once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            (names.next().unwrap_or_default(), descriptor)
        });
        Ok(Self(descriptors.collect()))
    }

    /// Takes those whose names begin so.
    pub(crate) fn take_named(&mut self, prefix: &str) -> Vec<(String, OwnedFd)> {
        self.0.extract_if(.., |(name, _)| name.starts_with(prefix)).collect()
    }

    /// Takes the first that is left.
    pub(crate) fn take_first(&mut self) -> Option<OwnedFd> {
        (!self.0.is_empty()).then(|| self.0.remove(0).1)
    }
}
