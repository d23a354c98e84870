//! How a subcommand asks the running service: one request on its local socket, and a line for each answer.
//! See `admin`.

use std::{
    io,
    path::{Path, PathBuf},
};

use further_link_api::AdminRequest;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Why it did not work, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(
        "no further-link answers at {path}: start the service (sudo systemctl restart further-link.service), or name the \
         socket of a server that you have started with --admin-socket",
        path = .0.display()
    )]
    NotRunning(PathBuf),
    #[error(
        "only root and the group further-link may use {path}: try again with sudo",
        path = .0.display()
    )]
    NotAllowed(PathBuf),
    #[error("cannot use {path}: {error}", path = .path.display())]
    Socket { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("the service has closed the connection; its log says why (journalctl -u further-link)")]
    Closed,
    #[error(
        "the service answers in a way that this program does not know; if it is of an older version, restart it: sudo \
         systemctl restart further-link.service"
    )]
    Answer,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The answers to one request.
pub(crate) struct Lines {
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Lines {
    /// Asks.
    pub(crate) async fn of(path: &Path, request: &AdminRequest) -> Result<Self, AdminError> {
        let of_socket = |error: io::Error| {
            let path = path.to_owned();
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(path),
                io::ErrorKind::PermissionDenied => AdminError::NotAllowed(path),
                _ => AdminError::Socket { path, error },
            }
        };
        let mut stream = UnixStream::connect(path).await.map_err(of_socket)?;
        let line = format!("{}\n", request.to_json());
        match stream.write_all(line.as_bytes()).await {
            Ok(()) => Ok(Self { lines: BufReader::new(stream).lines() }),
            Err(error) if is_end(&error) => Err(AdminError::Closed),
            Err(error) => Err(of_socket(error)),
        }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Result<String, AdminError> {
        match self.lines.next_line().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(AdminError::Closed),
            Err(error) if is_end(&error) => Err(AdminError::Closed),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
