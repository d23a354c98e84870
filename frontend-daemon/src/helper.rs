//! The way to the root side: connections to the helper, one spare kept waiting, and the conversation of one run.
//!
//! A helper instance is a process of its own, so connecting makes one. The spare is connected and ready before anybody
//! asks, so that a start costs no more than the helper's fork and exec.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use further_link_proto::{Connection, Event, Request, SocketError};
use rustix::net::SocketAddrUnix;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep},
};
use tracing::warn;

use crate::watched::watch;

/// How long to try while the helper's queue of connections is full.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

/// Why the helper could not be talked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("cannot connect to the helper: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl From<io::Error> for HelperError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.into())
    }
}

/// Where helpers come from.
pub(crate) struct Helpers {
    address: SocketAddrUnix,
    spare: Mutex<Option<Conversation>>,
}

impl Helpers {
    pub(crate) fn new(address: SocketAddrUnix) -> Self {
        Self { address, spare: Mutex::new(None) }
    }

    /// A helper that waits for its request.
    pub(crate) async fn take(&self) -> Result<Conversation, HelperError> {
        let spare = self.spare().take();
        match spare.filter(Conversation::is_waiting) {
            Some(conversation) => Ok(conversation),
            None => self.connect().await,
        }
    }

    /// Connects a spare if there is none. Call it when nobody waits for a start.
    pub(crate) async fn keep_spare(&self) {
        if self.spare().is_some() {
            return;
        }
        match self.connect().await {
            Ok(conversation) => *self.spare() = Some(conversation),
            // The next start will try by itself, and tell its client.
            Err(error) => warn!("no spare helper: {error}"),
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<Conversation>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Conversation, HelperError> {
        let give_up = Instant::now() + CONNECT_LIMIT;
        loop {
            match further_link_proto::connect(&self.address).and_then(Conversation::new) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < give_up => {
                    sleep(CONNECT_PAUSE).await;
                }
                other => return other.map_err(HelperError::Connect),
            }
        }
    }
}

/// One connection to one helper: one run. Dropping it stops the run.
pub(crate) struct Conversation(AsyncFd<Connection>);

impl Conversation {
    fn new(connection: Connection) -> io::Result<Self> {
        Ok(Self(watch(connection, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// False once the helper has gone: a waiting one has nothing to say.
    fn is_waiting(&self) -> bool {
        matches!(self.0.get_ref().recv::<Event>(), Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn send(&self, request: &Request) -> Result<(), HelperError> {
        loop {
            let mut ready = self.0.writable().await?;
            match self.0.get_ref().send(request) {
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                result => return Ok(result?),
            }
        }
    }

    pub(crate) async fn recv(&self) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().recv_with() {
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                result => return Ok(result?),
            }
        }
    }
}
