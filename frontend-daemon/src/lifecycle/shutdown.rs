//! The daemon's end: every connection is told, and the owner waits until the last has ended its programs.

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};

/// Tells every connection when to end, and lets the owner wait until they have. Each connection holds a
/// clone.
#[derive(Clone)]
pub(crate) struct Shutdown {
    begun: watch::Receiver<bool>,
    /// Closed when the last clone is gone.
    _alive: mpsc::Sender<Infallible>,
}

/// The owner's side of [`Shutdown`].
pub(crate) struct ShutdownOwner {
    begin: watch::Sender<bool>,
    all_gone: mpsc::Receiver<Infallible>,
}

impl Shutdown {
    pub(crate) fn new() -> (ShutdownOwner, Self) {
        let (begin, receiver) = watch::channel(false);
        let (alive, all_gone) = mpsc::channel(1);
        (ShutdownOwner { begin, all_gone }, Self { begun: receiver, _alive: alive })
    }

    /// Waits for the begin of the shutdown.
    pub(crate) async fn begun(&self) {
        // An owner that is gone has shut everything down already.
        let (Ok(_) | Err(_)) = self.begun.clone().wait_for(|begun| *begun).await;
    }
}

impl ShutdownOwner {
    /// Tells all, and waits for all.
    pub(crate) async fn shut_down(mut self) {
        self.begin.send_replace(true);
        while self.all_gone.recv().await.is_some() {}
    }
}
