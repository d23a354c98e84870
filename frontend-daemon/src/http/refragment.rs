//! WebSocket frames in, the same frames out, long ones cut into fragments (RFC 6455, 5.4), which mean the
//! same. No I/O and no clock: `fragments` gives it what the network has, and passes on what it makes.

use std::io::{self, Cursor};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Longest fragment that the library sees. A multiple of the mask's 4 bytes.
pub(crate) const FRAGMENT: u64 = 16 * 1024;

/// The frames on their way.
#[derive(Default)]
pub(crate) struct Refragmenter {
    /// Bytes from the network that were not looked at yet.
    pub(crate) input: BytesMut,
    /// Header of a fragment, made here and not passed on yet.
    header: BytesMut,
    frame: Option<Frame>,
    /// A message of several frames has begun.
    in_message: bool,
    /// Bytes of the message that is being read.
    unfinished: usize,
    /// Something was completed since the last look.
    completed: bool,
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

impl Refragmenter {
    /// Passes on what is there; false if more has to be read first. Pings may be left out.
    pub(crate) fn pass(&mut self, out: &mut ReadBuf<'_>, skip_pings: bool) -> io::Result<bool> {
        let before = out.remaining();
        while out.remaining() > 0 {
            if self.header.has_remaining() {
                let length = self.header.len().min(out.remaining());
                out.put_slice(&self.header.split_to(length));
            } else if self.frame.as_ref().is_some_and(|frame| frame.fragment_left > 0) {
                if self.input.is_empty() {
                    break;
                }
                self.pass_payload(out);
            } else if self.frame.as_ref().is_some_and(|frame| frame.left > 0) {
                self.next_fragment()?;
            } else if out.remaining() < before && self.frame.as_ref().is_some_and(Frame::ends_a_message) {
                // What the library does with the message comes first: until it asks for more, its bytes
                // count.
                break;
            } else if !self.next_frame(skip_pings)? {
                break;
            }
        }
        Ok(out.remaining() < before)
    }

    /// Bytes of the message that is being read, so far.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether a message, or a frame between messages, was completed since the last call.
    pub(crate) fn take_completed(&mut self) -> bool {
        std::mem::take(&mut self.completed)
    }

    /// Whether the client has begun something that it has to complete.
    pub(crate) fn is_owed(&self) -> bool {
        let in_frame = self.frame.as_ref().is_some_and(|frame| frame.left > 0 || frame.fragment_left > 0);
        in_frame || self.in_message || self.input.has_remaining()
    }

    fn pass_payload(&mut self, out: &mut ReadBuf<'_>) {
        let Some(frame) = &mut self.frame else { return };
        let room = if frame.skipped { usize::MAX } else { out.remaining() };
        let most = usize::try_from(frame.fragment_left).unwrap_or(usize::MAX);
        let length = self.input.len().min(room).min(most);
        let passed = self.input.split_to(length);
        frame.fragment_left = frame.fragment_left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        if frame.skipped {
            return;
        }
        out.put_slice(&passed);
        if matches!(frame.header.opcode, OpCode::Data(_)) {
            self.unfinished = self.unfinished.saturating_add(length);
        }
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
    fn next_frame(&mut self, skip_pings: bool) -> io::Result<bool> {
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
        let skipped = skip_pings && header.opcode == OpCode::Control(Control::Ping);
        self.frame = Some(Frame { header, left: length, fragment_left: 0, skipped });
        // At least one, also for a frame without payload.
        self.next_fragment()?;
        Ok(true)
    }

    fn finish_frame(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        if frame.ends_a_message() {
            self.in_message = false;
            self.unfinished = 0;
        }
        self.completed |= !self.in_message;
    }
}
