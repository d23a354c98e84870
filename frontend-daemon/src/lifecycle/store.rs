//! The service manager's store of descriptors (`FDSTORE=1` of `sd_notify(3)`): what is in it outlives this
//! process, and is passed to the next one of this service. When the service is stopped, the manager closes
//! all of it.

use std::{
    env,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::sync::watch;
use tracing::warn;

/// How many descriptors the store takes (`FileDescriptorStoreMax=`). systemd sets it from version 254 on; the
/// unit does for older ones.
const MOST: &str = "FDSTORE";

/// The store.
pub(crate) struct Store {
    /// The manager's socket.
    socket: PathBuf,
    most: usize,
    held: AtomicUsize,
    /// This process ends, and another one may take up what is in the store.
    leaving: watch::Sender<bool>,
}

/// Why a descriptor is not in the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the store has room for {0} descriptors only (FileDescriptorStoreMax= and FDSTORE= of the unit)")]
    Full(usize),
    #[error("the service manager does not take it: {0}")]
    Io(#[from] io::Error),
}

/// A descriptor that is in the store until this is dropped, or for longer, if the process is leaving.
pub(crate) struct Stored {
    store: Arc<Store>,
    name: String,
}

impl Store {
    /// The store of the manager that has started this process, if it has one.
    pub(crate) fn of_service_manager() -> Option<Arc<Self>> {
        let socket = PathBuf::from(env::var_os("NOTIFY_SOCKET")?);
        let most = env::var(MOST).ok()?.parse().ok().filter(|most| *most > 0)?;
        Some(Arc::new(Self { socket, most, held: AtomicUsize::new(0), leaving: watch::Sender::new(false) }))
    }

    /// One without a manager.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Arc<Self> {
        let leaving = watch::Sender::new(true);
        Arc::new(Self { socket: PathBuf::new(), most: 1, held: AtomicUsize::new(0), leaving })
    }

    /// Puts a copy of a descriptor into the store under this name.
    pub(crate) fn put(
        self: &Arc<Self>,
        name: String,
        descriptor: BorrowedFd<'_>,
    ) -> Result<Stored, StoreError> {
        let stored = self.holds(name);
        if self.held.load(Ordering::Relaxed) > self.most {
            return Err(StoreError::Full(self.most));
        }
        // Without FDPOLL=0 the manager lets go of a stream whose program has ended, with all that is in it.
        self.tell(&format!("FDSTORE=1\nFDNAME={}\nFDPOLL=0\n", stored.name), &[descriptor])?;
        Ok(stored)
    }

    /// Whether half of it is free: what is of less use may go in.
    pub(crate) fn has_much_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.most / 2
    }

    /// What is in the store under this name from the time before this process.
    pub(crate) fn holds(self: &Arc<Self>, name: String) -> Stored {
        self.held.fetch_add(1, Ordering::Relaxed);
        Stored { store: Arc::clone(self), name }
    }

    /// From now on nothing is taken out of the store.
    pub(crate) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Waits until this process leaves.
    pub(crate) async fn left(&self) {
        let (Ok(_) | Err(_)) = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    fn tell(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.socket)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("more than one descriptor"));
        }
        let message = [IoSlice::new(message.as_bytes())];
        rustix::net::sendmsg(socket.as_fd(), &message, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if *self.store.leaving.borrow() {
            return;
        }
        self.store.held.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = self.store.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}\n", self.name), &[]) {
            warn!("cannot take {} out of the service manager's store: {error}", self.name);
        }
    }
}
