//! The life of the daemon's process: giving up root, what the service manager is told, the orderly end.

pub(crate) mod activation;
pub(crate) mod notify;
pub(crate) mod panics;
pub(crate) mod privilege;
pub(crate) mod shutdown;
