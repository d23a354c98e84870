//! The way to the root side: connections to the helper, one spare kept waiting, and the conversation of one run.
//!
//! A helper instance is a process of its own, so connecting makes one. The spare is connected and ready before anybody
//! asks, so that a start costs no more than the helper's exec.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use further_link_proto::{Connection, Event, Request, SocketError};
use rustix::net::SocketAddrUnix;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::helper::async_fd::watch;

/// How long to try while the helper's queue of connections is full.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

/// Between the last start, of which this is the beginning, and the making of the next spare, which needs the processor as
/// much as the new program does.
const SPARE_PAUSE: Duration = Duration::from_millis(3);

/// Most programs at once, over all connections: a hall full of browsers on one device. Below what the helper's socket
/// accepts (`MaxConnections=`), so that this refusal, which says why, comes first.
pub(crate) const MAX_RUNS: usize = 512;

/// Why the helper could not be talked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("{MAX_RUNS} programs run already")]
    Busy,
    #[error("cannot connect to the helper: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl HelperError {
    /// The helper closed with a request of ours unread. What it said before, if anything, comes with the next read.
    pub(crate) fn is_unread(&self) -> bool {
        let Self::Socket(SocketError::Io(error)) = self else { return false };
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    }
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
    /// Told when one is taken.
    taken: Notify,
    places: Arc<Semaphore>,
}

impl Helpers {
    pub(crate) fn new(address: SocketAddrUnix) -> Self {
        Self {
            address,
            spare: Mutex::new(None),
            taken: Notify::new(),
            places: Arc::new(Semaphore::new(MAX_RUNS)),
        }
    }

    /// A helper that waits for its request, and a place among all runs for as long as the conversation lasts.
    pub(crate) async fn take(&self) -> Result<Conversation, HelperError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| HelperError::Busy)?;
        let spare = self.spare().take();
        self.taken.notify_one();
        let mut conversation = match spare.filter(Conversation::is_waiting) {
            Some(conversation) => conversation,
            None => self.connect().await?,
        };
        conversation.place = Some(place);
        Ok(conversation)
    }

    /// Sees to it that there is a spare, for as long as this is polled. Not in the middle of many starts, where it would only
    /// cost more than a helper that is asked at once.
    pub(crate) async fn keep_spares(&self) -> Infallible {
        loop {
            self.keep_spare().await;
            self.taken.notified().await;
            while timeout(SPARE_PAUSE, self.taken.notified()).await.is_ok() {}
        }
    }

    async fn keep_spare(&self) {
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

    /// A helper of its own for one request.
    pub(crate) async fn connect(&self) -> Result<Conversation, HelperError> {
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
pub(crate) struct Conversation {
    connection: AsyncFd<Connection>,
    /// None in a spare.
    place: Option<OwnedSemaphorePermit>,
}

impl Conversation {
    fn new(connection: Connection) -> io::Result<Self> {
        // Not for writing: each request that the helper reads would wake this process.
        let connection = watch(connection, Interest::READABLE)?;
        Ok(Self { connection, place: None })
    }

    /// False once the helper has gone: a waiting one has nothing to say.
    fn is_waiting(&self) -> bool {
        matches!(self.connection.get_ref().recv::<Event>(), Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn send(&self, request: &Request) -> Result<(), HelperError> {
        loop {
            match self.connection.get_ref().send(request) {
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable().await?;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Waits until the helper has read something. Rare: only the pieces of large uploads fill the socket.
    async fn writable(&self) -> io::Result<()> {
        let copy = self.connection.get_ref().as_fd().try_clone_to_owned()?;
        watch(copy, Interest::WRITABLE)?.writable().await?.retain_ready();
        Ok(())
    }

    pub(crate) async fn recv(&self) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        loop {
            let mut ready = self.connection.readable().await?;
            match self.connection.get_ref().recv_with() {
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                result => return Ok(result?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_spare_is_made_when_nothing_was_started_for_a_while() {
        let (listener, address) = further_link_proto::bind_listener(None).unwrap();
        rustix::io::ioctl_fionbio(&listener, true).unwrap();
        // Kept, or the spare would seem to have gone.
        let mut ends = Vec::new();
        let mut connected = || {
            let before = ends.len();
            while let Ok(end) = rustix::net::accept(&listener) {
                ends.push(end);
            }
            ends.len() - before
        };
        let helpers = Helpers::new(address);
        let starts = async {
            sleep(SPARE_PAUSE).await;
            assert_eq!(connected(), 1);
            let mut taken = Vec::new();
            for _ in 0..5 {
                taken.push(helpers.take().await.unwrap());
                sleep(SPARE_PAUSE / 2).await;
            }
            // The first was the spare.
            assert_eq!(connected(), 4);
            sleep(SPARE_PAUSE).await;
            assert_eq!(connected(), 1);
        };
        tokio::select! {
            never = helpers.keep_spares() => match never {},
            () = starts => {}
        }
    }
}
