//! The step of a start or an upload that failed, with the kernel's reason: what the frontend is told of it.

use std::io;

use further_link_proto::{Event, Step};

/// The step that failed, and the kernel's reason.
#[derive(Debug)]
pub(crate) struct StepError {
    step: Step,
    errno: i32,
}

impl StepError {
    pub(crate) fn new(step: Step, error: &io::Error) -> Self {
        // Errors that do not come from the kernel are NUL bytes in names; the kernel would call them invalid,
        // too.
        Self { step, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
    }

    pub(crate) fn step(&self) -> Step {
        self.step
    }

    pub(crate) fn reason(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }

    pub(crate) fn event(&self) -> Event {
        Event::Failed { step: self.step, errno: self.errno }
    }
}
