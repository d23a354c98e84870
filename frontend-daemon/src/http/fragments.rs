//! Sits between the socket and the WebSocket library, and bounds the memory that an unfinished message can
//! hold: frames go through one after the other, long ones cut into fragments (RFC 6455, 5.4), which mean the
//! same.
//!
//! The library keeps room for the longest frame that a connection has ever seen. Of fragments it keeps the
//! bytes that have come, until their message is complete. Those bytes are counted here (`limits`), and must
//! come in time.

use std::{
    io::{self, Cursor},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::{access::limits::ConnectionPermit, http::pings::Pulse};

/// Longest fragment that the library sees. A connection may keep as much without being counted, so that
/// whatever others do keystrokes and short programs get through. A multiple of the mask's 4 bytes.
const FRAGMENT: u64 = 16 * 1024;
/// Bytes of one read. Messages from clients are mostly keystrokes; larger ones are read in several steps.
const READ_BUFFER: usize = 4 * 1024;
/// A message that was begun has to be complete after this: 4 MiB need 70 kB/s, less than the worst Wi-Fi has.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// The stream of one WebSocket, as its library sees it.
pub(crate) struct Fragments<S> {
    stream: S,
    permit: Arc<ConnectionPermit>,
    pulse: Arc<Pulse>,
    /// Read, and not looked at yet.
    input: BytesMut,
    /// Header of a fragment, made here and not passed on yet.
    header: BytesMut,
    frame: Option<Frame>,
    /// A message of several frames has begun.
    in_message: bool,
    /// Bytes of the message that is being read; its share of them is with the place.
    unfinished: usize,
    counted: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client does not read what is written.
    write_blocked: bool,
}

/// What is still to come of a frame.
struct Frame {
    header: FrameHeader,
    /// Bytes of the whole frame that are still to come.
    left: u64,
    /// Bytes of this fragment that are still to come.
    fragment_left: u64,
    /// It is not passed on.
    skipped: bool,
}

impl Frame {
    fn ends_a_message(&self) -> bool {
        matches!(self.header.opcode, OpCode::Data(_)) && self.header.is_final
    }
}

impl<S> Fragments<S> {
    pub(crate) fn new(stream: S, permit: Arc<ConnectionPermit>, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            permit,
            pulse,
            input: BytesMut::new(),
            header: BytesMut::new(),
            frame: None,
            in_message: false,
            unfinished: 0,
            counted: 0,
            deadline: None,
            write_blocked: false,
        }
    }

    /// Passes on what is there; false if more has to be read first.
    fn pass(&mut self, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        let before = out.remaining();
        while out.remaining() > 0 {
            if self.header.has_remaining() {
                let length = self.header.len().min(out.remaining());
                out.put_slice(&self.header.split_to(length));
            } else if self.frame.as_ref().is_some_and(|frame| frame.fragment_left > 0) {
                if self.input.is_empty() {
                    break;
                }
                self.pass_payload(out)?;
            } else if self.frame.as_ref().is_some_and(|frame| frame.left > 0) {
                self.next_fragment()?;
            } else if out.remaining() < before && self.frame.as_ref().is_some_and(Frame::ends_a_message) {
                // What the library does with the message comes first: until it asks for more, its bytes
                // count.
                break;
            } else if !self.next_frame()? {
                break;
            }
        }
        Ok(out.remaining() < before)
    }

    fn pass_payload(&mut self, out: &mut ReadBuf<'_>) -> io::Result<()> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        let room = if frame.skipped { usize::MAX } else { out.remaining() };
        let most = usize::try_from(frame.fragment_left).unwrap_or(usize::MAX);
        let length = self.input.len().min(room).min(most);
        let passed = self.input.split_to(length);
        frame.fragment_left = frame.fragment_left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        if frame.skipped {
            return Ok(());
        }
        out.put_slice(&passed);
        if !matches!(frame.header.opcode, OpCode::Data(_)) {
            return Ok(());
        }
        self.unfinished = self.unfinished.saturating_add(length);
        let free = usize::try_from(FRAGMENT).unwrap_or(usize::MAX);
        let uncounted = self.unfinished.saturating_sub(free).saturating_sub(self.counted);
        if uncounted > 0 {
            if !self.permit.hold(uncounted) {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many unfinished messages"));
            }
            self.counted += uncounted;
        }
        Ok(())
    }

    /// Begins with the next fragment of a long frame.
    fn next_fragment(&mut self) -> io::Result<()> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        frame.fragment_left = frame.left.min(FRAGMENT);
        frame.left -= frame.fragment_left;
        let mut header = frame.header.clone();
        header.is_final &= frame.left == 0;
        // The rest of the frame continues what this begins.
        frame.header.opcode = match header.opcode {
            OpCode::Data(_) => OpCode::Data(Data::Continue),
            control @ OpCode::Control(_) => control,
        };
        if !frame.skipped {
            let mut bytes = Vec::new();
            header.format(frame.fragment_left, &mut bytes).map_err(io::Error::other)?;
            self.header.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// Reads the header of the next frame; false if it is not complete.
    fn next_frame(&mut self) -> io::Result<bool> {
        self.finish_frame();
        let mut cursor = Cursor::new(&self.input[..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(io::Error::other)? else {
            return Ok(false);
        };
        let parsed = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        self.input.advance(parsed);
        if matches!(header.opcode, OpCode::Data(_)) {
            self.in_message = true;
        }
        // Only the last ping needs an answer (RFC 6455, 5.5.3), and a client that hears none does not miss
        // it.
        let skipped = self.write_blocked && header.opcode == OpCode::Control(Control::Ping);
        self.frame = Some(Frame { header, left: length, fragment_left: 0, skipped });
        // At least one, also for a frame without payload.
        self.next_fragment()?;
        Ok(true)
    }

    fn finish_frame(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        if frame.ends_a_message() {
            self.in_message = false;
            self.release();
        }
        if !self.in_message {
            self.deadline = None;
        }
    }

    fn release(&mut self) {
        if self.counted > 0 {
            self.permit.release(self.counted);
        }
        self.counted = 0;
        self.unfinished = 0;
    }

    /// Whether the client has begun something that it has to complete.
    fn is_owed(&self) -> bool {
        let in_frame = self.frame.as_ref().is_some_and(|frame| frame.left > 0 || frame.fragment_left > 0);
        in_frame || self.in_message || self.input.has_remaining()
    }
}

impl<S: AsyncRead + Unpin> Fragments<S> {
    /// Reads from the network.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let length = self.input.len();
        self.input.resize(length.saturating_add(READ_BUFFER), 0);
        let (_, room) = self.input.split_at_mut(length);
        let mut room = ReadBuf::new(room);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut room);
        let read = room.filled().len();
        self.input.truncate(length.saturating_add(read));
        if polled.is_pending() && self.input.is_empty() {
            // Idle connections keep nothing.
            self.input = BytesMut::new();
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
                Poll::Pending if this.is_owed() => {
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

impl<S> Drop for Fragments<S> {
    fn drop(&mut self) {
        self.release();
    }
}
