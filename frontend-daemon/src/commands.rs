//! Subcommands: what `further-link` does for an administrator at a terminal, instead of serving. One variant each; what
//! needs more than some lines lives in a file of its own.

pub(crate) mod fingerprint;
pub(crate) mod new_token;

use std::{fmt::Display, process::ExitCode};

use clap::Subcommand;

use crate::config::Config;

/// Something else than to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token that lets clients in, or show how to use the one there is.
    Token(new_token::Options),
    /// Print what to compare with what a browser shows of the certificate.
    Fingerprint,
}

impl Command {
    pub(crate) fn run(&self, config: &Config) -> ExitCode {
        match self {
            Self::Token(options) => told(new_token::run(options, config)),
            Self::Fingerprint => told(fingerprint::print(&config.tls)),
        }
    }
}

fn told(outcome: Result<(), impl Display>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("further-link: {error}");
            ExitCode::FAILURE
        }
    }
}
