//! Why a run had to be given up.

use std::io;

use further_link_proto::SocketError;

/// Why a run had to be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("a message out of place")]
    OutOfPlace,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("{0}")]
    Io(#[from] io::Error),
}
