//! A TCP stream that signals do not interrupt.
//!
//! The WebSocket library takes an interrupted call for the end of the connection. `client` puts this below
//! it; it adds no timeouts of its own and hides none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// A stream whose calls go on after a signal. Those of a socket with a timeout do not by themselves
/// (signal(7)), and a test process gets SIGCHLD whenever a supervisor ends.
#[derive(Debug)]
pub struct Patient(pub TcpStream);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| self.0.read(buffer))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        again(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
