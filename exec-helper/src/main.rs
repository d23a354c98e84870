//! The binary `further-link-exec-helper`: what systemd starts for each run. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    further_link_exec_helper::main("further-link-exec-helper", std::env::args().skip(1))
}
