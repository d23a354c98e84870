//! The life of the daemon's process: giving up root, what the service manager is told, passes and
//! keeps, the orderly end.

pub(crate) mod notify;
pub(crate) mod panics;
pub(crate) mod passed;
pub(crate) mod privilege;
pub(crate) mod shutdown;
pub(crate) mod store;
