//! Passes on what a compiler says, and keeps a copy: it is said again when what the compiler made is used
//! again.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
};

use super::compiled::MAX_WORDS;

/// What a pipe takes without making the writer wait, if it takes anything (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;
/// What the pipe of a compiler that has ended may still have in it. A process that it has left may write on.
const MAX_REST: usize = 64 * 1024;

/// Between the compiler and the client.
pub(crate) struct Relay {
    from: File,
    to: File,
    /// What was read and not passed on yet.
    piece: Vec<u8>,
    has_ended: bool,
    /// None if it is too much.
    copy: Option<Vec<u8>>,
}

impl Relay {
    /// With the compiler's end.
    pub(crate) fn new(to: &File) -> io::Result<(Self, OwnedFd)> {
        let (from, compilers) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&from, OFlags::NONBLOCK)?;
        let (from, to) = (from.into(), to.try_clone()?);
        Ok((Self { from, to, piece: Vec::new(), has_ended: false, copy: Some(Vec::new()) }, compilers))
    }

    /// What it waits for.
    pub(crate) fn awaited(&self) -> Option<PollFd<'_>> {
        match (self.piece.is_empty(), self.has_ended) {
            (true, true) => None,
            (true, false) => Some(PollFd::new(self.from.as_fd(), PollFlags::POLLIN)),
            (false, _) => Some(PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)),
        }
    }

    /// Reads a piece, or passes it on. How many bytes that were.
    pub(crate) fn step(&mut self) -> io::Result<usize> {
        if !self.piece.is_empty() {
            self.to.write_all(&self.piece)?;
            return Ok(std::mem::take(&mut self.piece).len());
        }
        let mut piece = [0; PIECE];
        match self.from.read(&mut piece) {
            Ok(read) => {
                let piece = piece.get(..read).unwrap_or_default();
                self.has_ended = piece.is_empty();
                self.piece.extend(piece);
                self.copy = self.copy.take().filter(|copy| copy.len() + read <= MAX_WORDS);
                self.copy.iter_mut().for_each(|copy| copy.extend(piece));
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Passes on the rest when the compiler has ended: the copy, unless it is too much.
    pub(crate) fn finish(mut self) -> io::Result<Option<Vec<u8>>> {
        let mut passed = 0;
        loop {
            passed += match self.step()? {
                0 => return Ok(self.copy),
                bytes => bytes,
            };
            // Each byte is counted when it is read, and when it is passed on.
            if passed > 2 * MAX_REST && self.piece.is_empty() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_said_is_passed_on_and_kept_unless_it_is_too_much() {
        for (length, is_kept) in [(0, true), (MAX_WORDS, true), (MAX_WORDS + 1, false)] {
            let (end, to) = io::pipe().unwrap();
            let (relay, compilers) = Relay::new(&File::from(OwnedFd::from(to))).unwrap();
            let words = vec![b'x'; length];
            File::from(compilers).write_all(&words).unwrap();
            let copy = relay.finish().unwrap();
            assert_eq!(copy, is_kept.then(|| words.clone()));
            let mut passed = Vec::new();
            File::from(OwnedFd::from(end)).read_to_end(&mut passed).unwrap();
            assert_eq!(passed, words);
        }
    }

    #[test]
    fn who_writes_on_after_the_compiler_is_not_waited_for() {
        let (end, to) = io::pipe().unwrap();
        let (relay, compilers) = Relay::new(&File::from(OwnedFd::from(to))).unwrap();
        let writer = std::thread::spawn(move || {
            let mut compilers = File::from(compilers);
            while compilers.write_all(&[b'x'; PIECE]).is_ok() {}
        });
        let there = || rustix::io::ioctl_fionread(&relay.from).unwrap();
        while there() < 64 * 1024 {
            std::thread::yield_now();
        }
        let reader =
            std::thread::spawn(move || io::copy(&mut File::from(OwnedFd::from(end)), &mut io::sink()));
        assert_eq!(relay.finish().unwrap(), None);
        writer.join().unwrap();
        assert!(reader.join().unwrap().unwrap() > 0);
    }
}
