//! What the frontend writes into the pipe of a start: the client's choices, then the program text. Read as
//! the user.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
};

use further_link_proto::{CodeLength, Details, DetailsLength, Run};
use nix::errno::Errno;

use crate::{identity::IsUser, plan::Entrypoint};

/// What comes.
pub(crate) struct FromClient {
    pipe: File,
    details: Option<DetailsLength>,
    text: Option<CodeLength>,
}

impl FromClient {
    pub(crate) fn new(pipe: OwnedFd, run: &Run) -> Self {
        Self { pipe: pipe.into(), details: run.details, text: run.code }
    }

    /// Reads the client's choices, which come first.
    pub(crate) fn details(&mut self, _: IsUser) -> io::Result<Details> {
        let Some(length) = self.details.take().map(DetailsLength::bytes) else {
            return Ok(Details::default());
        };
        let mut bytes = Vec::new();
        if (&self.pipe).take(length.into()).read_to_end(&mut bytes)? != usize::try_from(length).unwrap_or(0) {
            return Err(Errno::EPIPE.into());
        }
        Details::from_bytes(&bytes).map_err(io::Error::other)
    }

    /// Writes exactly the announced text, however long it takes to come: half a text is never run.
    pub(crate) fn write_text(self, _: IsUser, entrypoint: &Entrypoint) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(entrypoint.mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&entrypoint.file)?;
        let length = self.text.map(CodeLength::bytes).unwrap_or_default().into();
        let copied = io::copy(&mut self.pipe.take(length), &mut file)?;
        if copied == length { Ok(()) } else { Err(Errno::EPIPE.into()) }
    }
}
