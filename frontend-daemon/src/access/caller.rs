//! The caller of a request that was let in: what the access decision answers, for the log and the limits.

use std::fmt;

/// Why a request is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anything from anywhere: what was asked for is harmless. Its connection counts as not let in.
    Public,
    /// A program on this machine.
    Local,
    /// A page of this server, or a listed one.
    Page(String),
    /// Whatever shows the token.
    Token,
    /// A program that names no page, where all of them are allowed.
    NoOrigin,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("anybody"),
            Self::Local => f.write_str("a program on this device"),
            Self::Page(origin) => write!(f, "the page {origin}"),
            Self::Token => f.write_str("a client with the token"),
            Self::NoOrigin => f.write_str("a program on the network"),
        }
    }
}
