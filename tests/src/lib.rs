//! The harness of the end-to-end tests: it starts the two real binaries and talks to them over real sockets.
//!
//! `daemon` (and `standalone` a helper) starts one with folders of its own below a `supervised` process that
//! sees every descendant, `client` speaks WebSocket and remembers all it saw (`record`), `http` asks plain
//! questions, both through a `stream` with or without TLS (`test_ca` makes certificates), `file_server` is
//! what urls of uploads point to, `accounts` makes the users that programs run as, `processes` reads /proc.
//! Every test needs root, see [`require_root`]: switching users is half of what is tested. Nothing in here
//! may sleep in place of waiting for a condition (`wait`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test harness panics to fail the test"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the ban on Command and chown is for the production crates; tests start programs and make folders for others"
)]

pub mod accounts;
pub mod binaries;
pub mod client;
pub mod daemon;
pub mod file_server;
pub mod helper_only;
pub mod http;
pub mod log;
pub mod netns;
pub mod processes;
pub mod programs;
pub mod record;
pub mod retry_stream;
pub mod schema;
pub mod scratch;
pub mod service_manager;
pub mod session;
pub mod standalone;
pub mod stream;
pub mod supervised;
pub mod test_ca;
pub mod wait;

pub use client::Client;
pub use daemon::Daemon;
pub use processes::Watched;
pub use wait::{DEADLINE, wait_until};

use std::io::Write;

/// The variable that turns the failure without root into a loud skip.
pub const SKIP_VARIABLE: &str = "FURTHER_LINK_TESTS_SKIP_ROOT";

/// Fails the test when it does not run as root.
///
/// With [`SKIP_VARIABLE`] set to 1 the whole test process ends instead, successfully but loudly: no test of
/// this crate can show anything without root, and a test that returns early would look like one that passed.
pub fn require_root() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    if std::env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1") {
        // Not `eprintln!`, which the test runner would swallow.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "\nSKIPPED: {SKIP_VARIABLE}=1 and not root, so NO end-to-end test of this file ran\n"
        )
        .expect("stderr can be written");
        std::process::exit(0);
    }
    panic!("the end-to-end tests need root (they switch users); set {SKIP_VARIABLE}=1 to skip them");
}
