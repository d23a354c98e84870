//! Subcommands: what `further-link` does for an administrator at a terminal, instead of serving. One variant each; what
//! needs more than some lines lives in a file of its own.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{config::Config, new_token};

/// Something else than to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token that lets clients in, or show how to use the one there is.
    Token(new_token::Options),
}

impl Command {
    pub(crate) fn run(&self, config: &Config) -> ExitCode {
        let outcome = match self {
            Self::Token(options) => new_token::run(options, config),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("further-link: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
