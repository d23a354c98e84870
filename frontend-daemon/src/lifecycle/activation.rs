//! The sockets that the service manager passes at the start (`sd_listen_fds(3)`), told apart by their names.

use std::{env, io, net::TcpListener, os::unix::net::UnixListener};

use listenfd::ListenFd;

/// The name of the administrators' socket (`FileDescriptorName=`).
const ADMIN: &str = "admin";

/// What was passed.
#[derive(Default)]
pub(crate) struct Passed {
    /// The port for browsers: the first socket with another name, or without one.
    pub(crate) port: Option<TcpListener>,
    /// The administrators' socket.
    pub(crate) admin: Option<UnixListener>,
}

impl Passed {
    /// Takes them. Once, and before there are threads: it changes the environment.
    pub(crate) fn take() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut all = ListenFd::from_env();
        let mut passed = Self::default();
        for index in 0..all.len() {
            if names.split(':').nth(index) == Some(ADMIN) {
                passed.admin = all.take_unix_listener(index)?;
            } else if passed.port.is_none() {
                passed.port = all.take_tcp_listener(index)?;
            }
        }
        Ok(passed)
    }
}
