//! The command line: the settings, and the subcommands that `further-link` runs for an administrator at a terminal instead
//! of serving. One variant each; what needs more than some lines lives in a file of its own.

mod fingerprint;
mod token;

use std::{fmt::Display, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Runs a person's programs on this device for a browser.
#[derive(Debug, Parser)]
#[command(name = "further-link", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub config: Config,
}

/// Something else than to serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token that lets clients in, or show how to use the one there is.
    Token(token::Options),
    /// Print what to compare with what a browser shows of the certificate.
    Fingerprint,
}

impl Command {
    /// Runs it.
    pub fn run(&self, config: &Config) -> ExitCode {
        match self {
            Self::Token(options) => told(token::run(options, config)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_readme_lists_every_option_and_variable() {
        let readme = include_str!("../../../README.md");
        for argument in Cli::command().get_arguments() {
            let option = format!("`--{}", argument.get_long().expect("every argument has a long form"));
            assert!(readme.contains(&option), "{option} is missing");
            let variable = argument.get_env().expect("every argument has a variable").to_str().unwrap();
            assert!(readme.contains(&format!("`{variable}`")), "{variable} is missing");
        }
    }

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }
}
