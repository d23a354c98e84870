//! Facts about the device that this daemon runs on, read from the system's files. Each file only reads.

pub(crate) mod addresses;
pub(crate) mod cgroups;
pub(crate) mod names;
pub(crate) mod packages;

/// Names of devices in pi-top's domain: `A-B-C-D.further-link.pi-top.com` has the address `A.B.C.D`.
pub(crate) const DEVICE_DOMAIN: &str = ".further-link.pi-top.com";
