//! The daemon as a service: certificates, settings, its log and its memory.

mod certificate_files;
mod logging;
mod memory;
mod own_certificate;
mod restarts;
mod self_test;
mod sessions;
mod settings;
mod tls;
