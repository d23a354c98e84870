//! The client of an accepted connection: where it is, and its permit.

use std::{net::SocketAddr, sync::Arc};

use crate::access::{caller::Caller, limits::ConnectionPermit};

/// The accepted connection that a request came by, as an extension of the request. A WebSocket keeps it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) permit: Arc<ConnectionPermit>,
    /// What the decision on this request has answered.
    pub(crate) caller: Caller,
}
