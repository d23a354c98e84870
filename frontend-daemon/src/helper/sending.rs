//! Content of files on its way to a helper: requests, bytes through the pipe that the helper has handed over,
//! and why it does not go on. Uploads and files that are put go this way.
//!
//! It knows neither names nor users: callers put into words what is wrong.

use std::{io, os::fd::OwnedFd, time::Duration};

use further_link_proto::{Event, Request};
use tokio::{io::Interest, time::timeout};

use crate::helper::{
    pool::{Conversation, HelperError},
    stream::Stream,
};

/// Longest time in which a helper takes or says nothing: a card that is busy, a directory with much to
/// remove.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);

/// Why it does not go on.
pub(crate) enum Broken {
    /// The helper has said so, before it hung up.
    Said(Event),
    /// The helper has said nothing.
    Silent(HelperError),
    Slow,
}

/// Waits for a step of a helper. A file system that hangs must not keep a place for ever.
pub(crate) async fn within<T>(step: impl Future<Output = Result<T, HelperError>>) -> Result<T, Broken> {
    timeout(HELPER_TIMEOUT, step).await.map_err(|_elapsed| Broken::Slow)?.map_err(Broken::Silent)
}

/// A conversation with a helper that takes content.
pub(crate) struct Sending {
    conversation: Conversation,
    pipe: Stream,
}

impl Sending {
    pub(crate) fn new(conversation: Conversation, pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { conversation, pipe: Stream::new(pipe, Interest::WRITABLE)? })
    }

    /// Nothing is waited for but room: what goes wrong is heard of later.
    pub(crate) async fn send(&self, request: &Request) -> Result<(), Broken> {
        heard_out(&self.conversation, self.conversation.send(request)).await
    }

    /// The same, for bytes.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), Broken> {
        heard_out(&self.conversation, async { Ok(self.pipe.write_all(bytes).await?) }).await
    }

    pub(crate) async fn recv(&self) -> Result<Event, Broken> {
        Ok(heard_out(&self.conversation, self.conversation.recv()).await?.0)
    }

    /// All of it has come: the helper reads to the end of the pipe, and puts it into its place. Dropped
    /// without this it never was, but for parts of files that are put.
    pub(crate) async fn commit(self) -> Result<Event, Broken> {
        let Self { conversation, pipe } = self;
        drop(pipe);
        heard_out(&conversation, conversation.send(&Request::Commit)).await?;
        Ok(heard_out(&conversation, conversation.recv()).await?.0)
    }
}

/// Waits for a step. If the helper has hung up, what it said before is the reason.
async fn heard_out<T>(
    conversation: &Conversation,
    step: impl Future<Output = Result<T, HelperError>>,
) -> Result<T, Broken> {
    match within(step).await {
        Err(Broken::Silent(error)) => match within(conversation.recv_last()).await {
            Ok((event, _)) => Err(Broken::Said(event)),
            Err(_) => Err(Broken::Silent(error)),
        },
        other => other,
    }
}
