//! A descriptor from the helper, made non-blocking and watched: the leader of a terminal, or one end of a
//! pipe.
//!
//! The non-blocking flag belongs to this end's open file; the program's end is another one and does not
//! change.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use further_link_proto::WindowSize;
use rustix::io::Errno;
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

use crate::helper::async_fd::register;

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes, and there may be more.
    More,
    /// All there was, perhaps nothing. The next byte makes the stream readable.
    Drained,
    /// Nothing will come any more.
    Eof,
}

fn is_nothing_more(found: &io::Result<Read>) -> bool {
    match found {
        Ok(found) => *found == Read::Drained,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Reads what a stream has into the free room of the buffer.
pub(crate) fn take(stream: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    rustix::io::read(stream, rustix::buffer::spare_capacity(buffer))
}

/// One such descriptor.
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(register(descriptor, interest)?))
    }

    /// Waits until `read` does not answer "would block".
    pub(crate) async fn readable<T>(&self, mut read: impl FnMut(&Self) -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut ready = self.0.readable().await?;
            match read(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                result => return result,
            }
        }
    }

    /// Reads into the free room of the buffer, of which there must be some, and waits for the first byte.
    /// `take` does it; `drained` tells of a read's length, and the room that it had, whether it has emptied
    /// the stream.
    pub(crate) async fn read(
        &self,
        buffer: &mut Vec<u8>,
        take: impl Fn(BorrowedFd<'_>, &mut Vec<u8>) -> rustix::io::Result<usize>,
        drained: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Read> {
        loop {
            let mut ready = self.0.readable().await?;
            let found = self.read_now(buffer, &take, &drained);
            if is_nothing_more(&found) {
                ready.clear_ready();
            }
            match found {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                found => return found,
            }
        }
    }

    /// The same without waiting: perhaps nothing is all there is.
    pub(crate) fn try_read(
        &self,
        buffer: &mut Vec<u8>,
        take: impl Fn(BorrowedFd<'_>, &mut Vec<u8>) -> rustix::io::Result<usize>,
        drained: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Read> {
        let mut found = Ok(Read::Drained);
        let tried = self.0.try_io(Interest::READABLE, |_| {
            found = self.read_now(buffer, &take, &drained);
            // This answer, and in here only, makes `read` wait for what comes after this read.
            if is_nothing_more(&found) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (found, tried) {
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Drained),
            (found, _) => found,
        }
    }

    /// The same, and asks the kernel whatever this process knows: nothing is all there is.
    pub(crate) fn read_rest(
        &self,
        buffer: &mut Vec<u8>,
        take: impl Fn(BorrowedFd<'_>, &mut Vec<u8>) -> rustix::io::Result<usize>,
        drained: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Read> {
        match self.read_now(buffer, take, drained) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Drained),
            found => found,
        }
    }

    /// A terminal whose programs have all closed it answers EIO (pty(7)).
    fn read_now(
        &self,
        buffer: &mut Vec<u8>,
        take: impl Fn(BorrowedFd<'_>, &mut Vec<u8>) -> rustix::io::Result<usize>,
        drained: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Read> {
        let room = buffer.capacity() - buffer.len();
        match take(self.as_fd(), buffer) {
            Ok(0) | Err(Errno::IO) => Ok(Read::Eof),
            Ok(length) if drained(length, room) => Ok(Read::Drained),
            Ok(_) => Ok(Read::More),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it, waiting for the reader as long as it takes.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes these parts. A reader that has no use for them closes its end, and says why by other means.
    pub(crate) async fn write_parts(&self, parts: &[&[u8]]) {
        for part in parts {
            if let Err(error) = self.write_all(part).await {
                debug!("not all was written: {error}");
                return;
            }
        }
    }

    /// Writes some of it.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match rustix::io::write(&self.0, bytes) {
                // A terminal whose programs are all gone: never ready again, and never anything but "again".
                Err(Errno::AGAIN) if ready.ready().is_write_closed() => {
                    return Err(Errno::IO.into());
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                result => return Ok(result?),
            }
        }
    }

    /// Sets the size of a terminal; its programs get SIGWINCH. The sizes in pixels stay 0 (B9.3).
    pub(crate) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size =
            rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&self.0, size)?)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn what_comes_behind_a_read_that_emptied_the_stream_is_waited_for() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stream = Stream::new(reader, Interest::READABLE).unwrap();
        let mut buffer = Vec::with_capacity(64);
        let short = |length, room| length < room;
        for byte in [b"a", b"b", b"c"] {
            rustix::io::write(&writer, byte).unwrap();
            assert_eq!(stream.read(&mut buffer, take, short).await.unwrap(), Read::Drained);
            assert_eq!(stream.try_read(&mut buffer, take, short).unwrap(), Read::Drained);
        }
        drop(writer);
        assert_eq!(stream.read(&mut buffer, take, short).await.unwrap(), Read::Eof);
        assert_eq!(buffer, b"abc");
    }
}
