//! Sits between the socket and the WebSocket library, and bounds the memory that an unfinished message can
//! hold: `refragment` cuts long frames into fragments.
//!
//! The library keeps room for the longest frame that a connection has ever seen. Of fragments it keeps the
//! bytes that have come, until their message is complete. Those bytes need room here (`budget`), and must
//! come in time.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    access::limits::ConnectionPermit,
    http::pings::Pulse,
    http::refragment::{FRAGMENT, Refragmenter},
    memory::budget::Reservation,
};

/// Bytes of one read. Messages from clients are mostly keystrokes; larger ones are read in several steps.
const READ_BUFFER: usize = 4 * 1024;
/// A message that was begun has to be complete after this: 4 MiB need 70 kB/s, less than the worst Wi-Fi has.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// The stream of one WebSocket, as its library sees it.
pub(crate) struct Fragments<S> {
    stream: S,
    permit: Arc<ConnectionPermit>,
    pulse: Arc<Pulse>,
    frames: Refragmenter,
    /// Room for the unfinished message, and its bytes.
    room: Option<Reservation>,
    counted: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client does not read what is written.
    write_blocked: bool,
}

impl<S> Fragments<S> {
    pub(crate) fn new(stream: S, permit: Arc<ConnectionPermit>, pulse: Arc<Pulse>) -> Self {
        let frames = Refragmenter::default();
        Self { stream, permit, pulse, frames, room: None, counted: 0, deadline: None, write_blocked: false }
    }

    /// Passes on what is there; false if more has to be read first.
    fn pass(&mut self, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        // Only the last ping needs an answer (RFC 6455, 5.5.3), and a client that hears none does not miss
        // it.
        let passed = self.frames.pass(out, self.write_blocked)?;
        if self.frames.take_completed() {
            self.deadline = None;
        }
        self.count()?;
        Ok(passed)
    }

    /// Counts what the library keeps. The first fragment of a connection is free, so that keystrokes and
    /// short programs get through whatever others do.
    fn count(&mut self) -> io::Result<()> {
        let free = usize::try_from(FRAGMENT).unwrap_or(usize::MAX);
        let kept = self.frames.unfinished().saturating_sub(free);
        if kept > self.counted {
            let more = self.permit.messages().try_take(kept - self.counted);
            let more = more.ok_or_else(|| {
                io::Error::new(io::ErrorKind::QuotaExceeded, "too many unfinished messages")
            })?;
            self.room = Some(match self.room.take() {
                Some(room) => room.merge(more),
                None => more,
            });
        } else if kept < self.counted {
            self.room = self.room.take().filter(|_| kept > 0).map(|room| room.shrink_to(kept));
        }
        self.counted = kept;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Fragments<S> {
    /// Reads from the network.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let input = &mut self.frames.input;
        let length = input.len();
        input.resize(length.saturating_add(READ_BUFFER), 0);
        let (_, room) = input.split_at_mut(length);
        let mut room = ReadBuf::new(room);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut room);
        let read = room.filled().len();
        input.truncate(length.saturating_add(read));
        if polled.is_pending() && input.is_empty() {
            // Idle connections keep nothing.
            *input = BytesMut::new();
        }
        polled.map_ok(|()| read)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fragments<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.pass(out)? {
                return Poll::Ready(Ok(()));
            }
            match this.fill(context) {
                // The end.
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.frames.is_owed() => {
                    let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(MESSAGE_TIMEOUT)));
                    return deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fragments<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.write_blocked = polled.is_pending();
        if polled.is_ready() {
            self.pulse.note_write();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
