//! What the id of a process stands for on one connection: a program that ends with the connection, or a
//! kept program to which the client is attached.

use further_link_api::ClientError;
use further_link_proto::{Signal, WindowSize};

use crate::{access::run_as::RunOptions, kept::Attachment, process::Process};

/// One of them.
pub(super) enum Entry {
    Own(Process),
    Kept(Attachment),
}

impl Entry {
    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::Own(process) => process.is_live(),
            Self::Kept(attachment) => attachment.is_live(),
        }
    }

    /// Whether another one may have its id.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Own(process) => !process.is_live(),
            Self::Kept(attachment) => !attachment.is_known(),
        }
    }

    pub(super) fn is_starting(&self) -> bool {
        match self {
            Self::Own(process) => process.is_starting(),
            Self::Kept(attachment) => attachment.is_starting(),
        }
    }

    /// Whether it has a terminal: all programs of a connection have one, or none has.
    pub(super) fn has_terminal(&self, options: &RunOptions) -> bool {
        match self {
            Self::Own(_) => options.terminal.is_some(),
            Self::Kept(attachment) => attachment.has_terminal(),
        }
    }

    /// Whether its client may do more than watch.
    pub(super) fn may_use(&self) -> Result<(), ClientError> {
        match self {
            Self::Own(_) => Ok(()),
            Self::Kept(attachment) => attachment.may_use(),
        }
    }

    pub(super) async fn write(
        &self,
        input: String,
        end: bool,
        number: Option<u64>,
    ) -> Result<(), ClientError> {
        match self {
            Self::Own(process) => Ok(process.write(input, end, None).await?),
            Self::Kept(attachment) => attachment.write(input, end, number).await,
        }
    }

    pub(super) async fn resize(&self, size: WindowSize) -> Result<(), ClientError> {
        match self {
            Self::Own(process) => {
                process.resize(size);
                Ok(())
            }
            Self::Kept(attachment) => attachment.resize(size).await,
        }
    }

    pub(super) async fn stop(&self, first: Option<Signal>) -> Result<(), ClientError> {
        match self {
            Self::Own(process) => {
                process.stop(first).await;
                Ok(())
            }
            Self::Kept(attachment) => attachment.stop(first).await,
        }
    }

    /// The process itself, if this client may use it.
    pub(super) fn process(&self) -> Result<&Process, ClientError> {
        match self {
            Self::Own(process) => Ok(process),
            Self::Kept(attachment) => attachment.process(),
        }
    }

    /// The connection has closed.
    pub(super) async fn close(&self) {
        match self {
            Self::Own(process) => process.stop(None).await,
            Self::Kept(attachment) => attachment.close().await,
        }
    }
}
