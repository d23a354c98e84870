//! The user channel of one run: programs of the run connect to its socket, and each connection gets a task
//! (`connection`). Without a connection it is a descriptor that is waited for, and nothing else.
//!
//! Made and owned by `process`, whose task runs it until the run has ended and everything that was said is
//! read. It knows nothing of what is said.

pub(crate) mod connection;
pub(crate) mod keys;
pub(crate) mod line;

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::{io::Errno, net::SocketFlags};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tracing::{debug, warn};

use crate::{
    helper::stream::Stream,
    process::channel::connection::{Connection, Inherited, PREFIX, Run},
    process::channel::keys::{ChannelError, Keyboard},
    process::phase::ended,
};

/// Most connections of a run at once: a program has one, a shell full of programs has a handful.
const MAX_CONNECTIONS: usize = 32;
/// Most connections that are accepted when the run has ended: what the helper's listen(2) lets wait (64), and
/// some.
const MAX_LATE: usize = 100;
/// After an accept that failed for lack of descriptors or memory: some will be free by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening side.
pub(crate) struct UserChannel {
    pub(crate) listener: Stream,
    pub(crate) keyboard: Arc<Keyboard>,
    /// Slots for connections of all runs.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) run: Run,
    /// The number of the next connection.
    pub(crate) next: u64,
}

impl UserChannel {
    /// Serves all connections, and those that an earlier process had, until the run has ended, and what was
    /// said until then is heard; or until this process leaves the program to the next one.
    pub(crate) async fn serve(mut self, inherited: Vec<Inherited>) {
        let mut connections = JoinSet::new();
        for connection in inherited {
            self.next = self.next.max(connection.number + 1);
            self.admit(connection, &mut connections);
        }
        let mut phase = self.run.phase.clone();
        let audience = self.run.audience.clone();
        let has_left = tokio::select! {
            () = self.accept_until(ended(&mut phase), &mut connections) => false,
            () = audience.left() => true,
        };
        if has_left {
            while connections.join_next().await.is_some() {}
            return;
        }
        // All programs that could have connected are gone, but their lines may wait in connections that were
        // not accepted.
        for _ in 0..MAX_LATE {
            while connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            let Ok(stream) = accept(&self.listener) else { break };
            self.welcome(stream, &mut connections);
        }
        while connections.join_next().await.is_some() {}
    }

    async fn accept_until(&mut self, end: impl Future<Output = ()>, connections: &mut JoinSet<()>) {
        tokio::pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.readable(accept) => accepted,
                Some(_) = connections.join_next() => continue,
                () = &mut end => return,
            };
            match accepted {
                Ok(stream) => self.welcome(stream, connections),
                // The user's disk was full, and the socket has no name: no program can connect.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    debug!("a run has no user channel");
                    return end.await;
                }
                Err(error) => {
                    warn!("user channel: cannot accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(&mut self, stream: Stream, connections: &mut JoinSet<()>) {
        let number = self.next;
        self.next += 1;
        let saved = self.run.audience.saved();
        let stored = saved.and_then(|saved| saved.put_if_easy(&format!("{PREFIX}{number}"), stream.as_fd()));
        let left = Some((Vec::new(), Vec::new()));
        self.admit(Inherited { number, stream, keys: Vec::new(), left, stored }, connections);
    }

    fn admit(&self, accepted: Inherited, connections: &mut JoinSet<()>) {
        let place = Arc::clone(&self.slots).try_acquire_owned();
        match place {
            Ok(place) if connections.len() < MAX_CONNECTIONS => {
                let listener = self.keyboard.listener();
                for key in &accepted.keys {
                    // It was listened for before.
                    let (Ok(()) | Err(_)) = listener.listen(key);
                }
                let connection = Connection { run: self.run.clone(), accepted, listener, place };
                connections.spawn(connection.serve());
            }
            _ => {
                let line = ChannelError::TooManyConnections.line();
                if let Err(error) = rustix::io::write(&accepted.stream, line.as_bytes()) {
                    debug!("user channel: {error}");
                }
            }
        }
    }
}

/// Accepts a connection that waits, or says "would block".
fn accept(listener: &Stream) -> io::Result<Stream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connection = rustix::net::accept_with(listener, flags)?;
    Stream::new(connection, tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE)
}
