//! A descriptor from the helper, made non-blocking and watched: the leader of a terminal, or one end of a pipe.
//!
//! The non-blocking flag belongs to this end's open file; the program's end is another one and does not change.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use further_link_proto::WindowSize;
use tokio::io::{Interest, unix::AsyncFd};

use crate::watched::watch;

/// One such descriptor.
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(watch(descriptor, interest)?))
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

    /// Reads without waiting; "would block" also makes [`Self::readable`] wait for something new.
    pub(crate) fn try_read<T>(&self, read: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        self.0.try_io(Interest::READABLE, |_| read(self))
    }

    /// Writes all of it, waiting for the reader as long as it takes.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes some of it.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match rustix::io::write(&self.0, bytes) {
                // A terminal whose programs are all gone: never ready again, and never anything but "again".
                Err(rustix::io::Errno::AGAIN) if ready.ready().is_write_closed() => {
                    return Err(rustix::io::Errno::IO.into());
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
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
