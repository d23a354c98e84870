//! The way to the root side: connections to the helper, one spare kept waiting, and the conversation of one
//! run.
//!
//! A helper instance is a process of its own, so connecting makes one. The spare is connected and ready
//! before a client asks, so that a start costs no more than the helper's exec.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use further_link_proto::{Connection, Event, Request, SocketError};
use rustix::net::SocketAddrUnix;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::helper::async_fd::register;

/// How long to try while the helper's queue of connections is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

/// Between the last start, of which this is the beginning, and the making of the next spare, which needs the
/// processor as much as the new program does.
const SPARE_PAUSE: Duration = Duration::from_millis(3);

/// A spare is replaced after this: before the helper's own limit of five minutes.
const SPARE_LIFETIME: Duration = Duration::from_mins(4);

/// Why the helper could not be talked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("as many programs run as may")]
    Busy,
    #[error("cannot connect to the helper: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl HelperError {
    /// The helper closed with a request of ours unread. What it said before, if anything, comes with the next
    /// read.
    fn is_unread(&self) -> bool {
        let Self::Socket(SocketError::Io(error)) = self else { return false };
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    }
}

impl From<io::Error> for HelperError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.into())
    }
}

/// Where the helper listens.
pub(crate) struct HelperAddress(SocketAddrUnix);

impl HelperAddress {
    pub(crate) fn new(address: SocketAddrUnix) -> Self {
        Self(address)
    }

    /// Connects to a new helper, for one request.
    pub(crate) async fn connect(&self) -> Result<Conversation, HelperError> {
        let give_up = Instant::now() + CONNECT_TIMEOUT;
        loop {
            match further_link_proto::connect(&self.0).and_then(Conversation::new) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < give_up => {
                    sleep(CONNECT_PAUSE).await;
                }
                other => return other.map_err(HelperError::Connect),
            }
        }
    }
}

/// The helpers for programs: a slot for each that runs, and one spare.
pub(crate) struct HelperPool {
    address: HelperAddress,
    spare: Mutex<Option<Conversation>>,
    /// Notified at each checkout.
    taken: Notify,
    slots: Arc<Semaphore>,
}

impl HelperPool {
    /// For this many programs at once.
    pub(crate) fn new(address: SocketAddrUnix, slots: usize) -> Self {
        Self {
            address: HelperAddress::new(address),
            spare: Mutex::new(None),
            taken: Notify::new(),
            slots: Arc::new(Semaphore::new(slots)),
        }
    }

    /// A helper that has read the request, and its answer. A spare may have died while it waited (an update,
    /// a kill): when the request was not read nothing was started, and another helper is asked.
    pub(crate) async fn ask(
        &self,
        request: &Request,
    ) -> Result<(Conversation, Event, Vec<OwnedFd>), HelperError> {
        let mut conversation = self.checkout().await?;
        let mut answer = conversation.ask(request).await;
        if answer.as_ref().is_err_and(HelperError::is_unread) {
            conversation.free_slot();
            conversation = self.checkout().await?;
            answer = conversation.ask(request).await;
        }
        let (event, descriptors) = answer?;
        Ok((conversation, event, descriptors))
    }

    /// A helper that waits for its request. It has its slot for as long as the conversation lasts.
    async fn checkout(&self) -> Result<Conversation, HelperError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| HelperError::Busy)?;
        let spare = self.spare().take();
        self.taken.notify_one();
        let conversation = match spare.filter(Conversation::is_waiting) {
            Some(conversation) => conversation,
            None => self.address.connect().await?,
        };
        *conversation.slot() = Some(slot);
        Ok(conversation)
    }

    /// The conversation of a program that runs already, with a slot if one is left: more may run than were
    /// allowed since.
    pub(crate) fn adopt(&self, connection: OwnedFd) -> io::Result<Conversation> {
        let conversation = Conversation::new(Connection::new(connection))?;
        conversation.is_answered.store(true, Ordering::Relaxed);
        *conversation.slot() = Arc::clone(&self.slots).try_acquire_owned().ok();
        Ok(conversation)
    }

    /// Sees to it that there is a spare, for as long as this is polled. Not in the middle of many starts,
    /// where it would only cost more than a helper that is asked at once.
    pub(crate) async fn keep_spares(&self) -> Infallible {
        loop {
            self.keep_spare().await;
            if timeout(SPARE_LIFETIME, self.taken.notified()).await.is_err() {
                // The next one knows the policy as it is now.
                drop(self.spare().take());
                continue;
            }
            while timeout(SPARE_PAUSE, self.taken.notified()).await.is_ok() {}
        }
    }

    async fn keep_spare(&self) {
        if self.spare().is_some() {
            return;
        }
        match self.address.connect().await {
            Ok(conversation) => *self.spare() = Some(conversation),
            // The next start will try by itself, and tell its client.
            Err(error) => warn!("no spare helper: {error}"),
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<Conversation>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to one helper: one run. Dropping it stops the run.
pub(crate) struct Conversation {
    connection: Arc<AsyncFd<Connection>>,
    /// None in a spare, and once the program has ended.
    slot: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether the helper has said what became of the start.
    is_answered: AtomicBool,
}

impl Drop for Conversation {
    /// A start that is given up keeps its slot while its helper hangs, or clients could make any number of
    /// helpers hang.
    fn drop(&mut self) {
        let slot = self.slot().take();
        if let Some(slot) = slot
            && !self.is_answered.load(Ordering::Relaxed)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(hold(Arc::clone(&self.connection), slot));
        }
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.get_ref().as_fd()
    }
}

/// Tells the helper that the start is given up, and holds the slot until the helper has noticed.
async fn hold(connection: Arc<AsyncFd<Connection>>, slot: OwnedSemaphorePermit) {
    if connection.get_ref().end_sending().is_ok() {
        while !is_answer(&recv(&connection).await) {}
    }
    drop(slot);
}

/// Whether this says what became of a start, or that nothing more will come.
fn is_answer(heard: &Result<(Event, Vec<OwnedFd>), HelperError>) -> bool {
    !matches!(heard, Ok((Event::Data, _)))
}

async fn recv(connection: &AsyncFd<Connection>) -> Result<(Event, Vec<OwnedFd>), HelperError> {
    loop {
        let mut ready = connection.readable().await?;
        match connection.get_ref().recv_with() {
            Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
            }
            result => return Ok(result?),
        }
    }
}

impl Conversation {
    fn new(connection: Connection) -> io::Result<Self> {
        // Not for writing: each request that the helper reads would wake this process.
        let connection = Arc::new(register(connection, Interest::READABLE)?);
        Ok(Self { connection, slot: Mutex::new(None), is_answered: AtomicBool::new(false) })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program has ended: another one may take its slot, before the client hears of the end.
    pub(crate) fn free_slot(&self) {
        self.slot().take();
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

    /// Sends a request, and waits for the answer.
    async fn ask(&self, request: &Request) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        self.send(request).await?;
        self.recv().await
    }

    /// Sends the first request of a helper without a spare, and waits for the answer. A helper that has
    /// refused already may hang up with the request unread.
    pub(crate) async fn begin(&self, request: &Request) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        match self.send(request).await {
            Err(error) if !error.is_unread() => Err(error),
            _ => self.recv_last().await,
        }
    }

    /// The next event of a helper that may end with requests of ours unread: the kernel says "reset" first
    /// then, and gives what was said before with the next read.
    pub(crate) async fn recv_last(&self) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        match self.recv().await {
            Err(error) if error.is_unread() => self.recv().await,
            other => other,
        }
    }

    /// Waits until the helper has read something. Rare: only the pieces of large uploads fill the socket.
    async fn writable(&self) -> io::Result<()> {
        let copy = self.connection.get_ref().as_fd().try_clone_to_owned()?;
        register(copy, Interest::WRITABLE)?.writable().await?.retain_ready();
        Ok(())
    }

    pub(crate) async fn recv(&self) -> Result<(Event, Vec<OwnedFd>), HelperError> {
        let heard = recv(&self.connection).await;
        if is_answer(&heard) {
            self.is_answered.store(true, Ordering::Relaxed);
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use further_link_proto::{Identity, Run, RunnerId, Step};

    use super::*;

    #[tokio::test]
    async fn a_start_that_is_given_up_keeps_its_slot_until_its_helper_answers_or_goes() {
        let (listener, address) = further_link_proto::bind_listener(None).unwrap();
        let helpers = HelperPool::new(address, 1);
        let identity = Identity::default();
        let runner = RunnerId::new("exec").unwrap();
        let run = Run { identity, runner, path: None, details: None, code: None, terminal: None };
        let request = Request::Run(run);
        for answers in [true, false] {
            // Its helper does not answer in this time, nor in any other.
            assert!(timeout(Duration::from_millis(1), helpers.ask(&request)).await.is_err());
            let socket = rustix::net::accept(&listener).unwrap();
            rustix::io::ioctl_fionbio(&socket, true).unwrap();
            let helper = Connection::new(socket);
            helper.recv::<Request>().unwrap();
            assert!(matches!(helpers.checkout().await, Err(HelperError::Busy)));
            tokio::task::yield_now().await;
            assert!(matches!(helper.recv::<Request>(), Err(SocketError::Closed)), "it is told");
            if answers {
                helper.send(&Event::Data).unwrap();
                helper.send(&Event::Failed { step: Step::Execute, errno: 32 }).unwrap();
            } else {
                drop(helper);
            }
            let freed = timeout(Duration::from_secs(5), Arc::clone(&helpers.slots).acquire_owned()).await;
            drop(freed.unwrap().unwrap());
        }
    }

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
        let helpers = HelperPool::new(address, 8);
        let starts = async {
            sleep(SPARE_PAUSE).await;
            assert_eq!(connected(), 1);
            let mut taken = Vec::new();
            for _ in 0..5 {
                taken.push(helpers.checkout().await.unwrap());
                sleep(SPARE_PAUSE / 2).await;
            }
            // The first was the spare.
            assert_eq!(connected(), 4);
            sleep(SPARE_PAUSE).await;
            assert_eq!(connected(), 1);
            // An old one is replaced.
            sleep(SPARE_LIFETIME).await;
            assert_eq!(connected(), 1);
        };
        tokio::select! {
            never = helpers.keep_spares() => match never {},
            () = starts => {}
        }
    }
}
