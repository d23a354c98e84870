//! The command line: the settings, and the subcommands that `further-link` runs for an administrator at a
//! terminal instead of serving. One variant each; what needs more than some lines lives in a file of its own.

mod admin_socket;
mod environment;
mod fingerprint;
mod self_test;
mod sessions;
mod token;

use std::{fmt::Display, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Config;

/// The exit code for a setting that cannot be used (`EX_CONFIG` of sysexits.h). The unit does not start again
/// after it.
pub(crate) const BAD_SETTING: u8 = 78;

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
    /// What is to be said about the settings at the start.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

impl Cli {
    /// Reads the command line and the environment. An empty variable counts as not given. Prints what is
    /// wrong, or the help that was asked for.
    pub fn read() -> Result<Self, ExitCode> {
        let mut declared = Self::command();
        declared.build();
        let command = Self::command().mut_args(environment::without_empty_variable);
        let parsed = command.try_get_matches().and_then(|matches| {
            let cli = Self::from_arg_matches(&matches)?;
            Ok(Self { warnings: environment::warnings(&declared, &matches), ..cli })
        });
        parsed.map_err(|error| match environment::bad_variable(&declared, &error) {
            Some(text) => {
                eprintln!("further-link: {text}");
                ExitCode::from(BAD_SETTING)
            }
            // Prints help and version to standard output, and mistakes to standard error.
            None => error.exit(),
        })
    }
}

/// Something else than to serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token that lets clients in, or show how to use the one there is.
    Token(token::Options),
    /// Print what to compare with what a browser shows of the certificate.
    Fingerprint,
    /// List the programs that outlive their connection, watch one, end one.
    Sessions(sessions::Options),
    /// Run the tests of the languages of this device.
    SelfTest(self_test::Options),
}

impl Command {
    /// Runs it.
    pub fn run(&self, config: &Config) -> ExitCode {
        match self {
            Self::Token(options) => told(token::run(options, config)),
            Self::Fingerprint => told(fingerprint::print(&config.tls)),
            Self::Sessions(options) => told(sessions::run(options, config)),
            Self::SelfTest(options) => self_test::run(options, config),
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

    #[test]
    fn the_page_of_settings_the_man_page_and_the_packages_file_have_every_option() {
        let page = include_str!("../../../docs/settings.md");
        let man = include_str!("../../../man/further-link.1").replace('\\', "");
        let package = include_str!("../../../systemd/default/further-link");
        for argument in Cli::command().get_arguments() {
            let option = argument.get_long().expect("every argument has a long form");
            let variable = argument.get_env().expect("every argument has a variable").to_str().unwrap();
            let row = page.lines().find(|line| line.starts_with(&format!("| `--{option}")));
            let row = row.unwrap_or_else(|| panic!("docs/settings.md: --{option}"));
            assert!(row.contains(&format!("| `{variable}` |")), "docs/settings.md: {row}");
            if let Some(default) = argument.get_default_values().first().filter(|value| !value.is_empty()) {
                let default = format!("| {} |", default.to_str().unwrap());
                assert!(row.contains(&default), "docs/settings.md: {default} is the default: {row}");
            }
            assert!(
                man.contains(option) && man.contains(variable),
                "man/further-link.1: --{option}, {variable}"
            );
            let is_for_the_package = !environment::OF_THE_UNITS.contains(&variable);
            assert_eq!(package.contains(variable), is_for_the_package, "systemd/default: {variable}");
        }
    }

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }
}
