//! `further-link`: the program. It runs as the helper, a subcommand, or the daemon; the library has all of
//! them.

use std::process::ExitCode;

use further_link_frontend::{Cli, run, run_if_asked};

fn main() -> ExitCode {
    if let Some(code) = run_if_asked() {
        return code;
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match &cli.command {
        Some(command) => command.run(&cli.config),
        None => run(&cli),
    }
}
