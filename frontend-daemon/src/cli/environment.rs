//! Settings from the environment: what is empty, wrong, unknown, or has no effect.
//!
//! An administrator writes them into a file, where a mistake has no prompt to come back to. So each is named.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, ArgMatches, Command,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

/// All settings begin with this.
const PREFIX: &str = "FURTHER_LINK_";
/// What programs are told (API.md): this may be one, started by another further-link.
const OF_PROGRAMS: [&str; 2] = ["FURTHER_LINK_CHANNEL", "FURTHER_LINK_TEMP_DIR"];
/// What tests and benchmarks are told.
const OF_TESTS: [&str; 2] = ["FURTHER_LINK_TESTS_", "FURTHER_LINK_FUZZ_"];
/// Settings that the package's units give, and its file does not.
#[cfg(test)]
pub(crate) const OF_THE_UNITS: [&str; 7] = [
    "FURTHER_LINK_PORT",
    "FURTHER_LINK_HELPER_SOCKET",
    "FURTHER_LINK_FILES_SOCKET",
    "FURTHER_LINK_STATE_DIR",
    "FURTHER_LINK_ADMIN_SOCKET",
    "FURTHER_LINK_ADDRESS",
    "FURTHER_LINK_USER_TOKEN_FILE",
];

/// The argument, without a variable that is empty.
pub(crate) fn without_empty_variable(argument: Arg) -> Arg {
    let is_empty = argument.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { argument.env(Resettable::<clap::builder::OsStr>::Reset) } else { argument }
}

/// What is wrong with a variable, if that is what the error is about.
pub(crate) fn bad_variable(command: &Command, error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else { return None };
    let argument = command.get_arguments().find(|argument| argument.to_string() == *name)?;
    let option = format!("--{}", argument.get_long()?);
    if env::args().any(|given| given == option || given.starts_with(&format!("{option}="))) {
        return None;
    }
    let variable = argument.get_env()?.to_string_lossy();
    let value = env::var_os(argument.get_env()?)?;
    let reason = std::error::Error::source(error).map_or_else(
        || first_line(error).split_once(": ").map_or_else(String::new, |(_, reason)| reason.to_owned()),
        ToString::to_string,
    );
    Some(format!("{variable}={} cannot be used: {reason}", value.to_string_lossy()))
}

fn first_line(error: &clap::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Variables that do nothing, each with what to do instead.
pub(crate) fn warnings(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let variables: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .chain(OF_PROGRAMS.into_iter().map(str::to_owned))
        .collect();
    let mut warnings: Vec<String> = variables.iter().filter_map(|name| unknown(name, &known)).collect();
    let is_activated = env::var_os("LISTEN_FDS").is_some();
    for (id, variable) in [("port", "FURTHER_LINK_PORT"), ("address", "FURTHER_LINK_ADDRESS")] {
        let name = match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => variable.to_owned(),
            Some(ValueSource::CommandLine) => format!("--{id}"),
            _ => continue,
        };
        if is_activated {
            warnings.push(format!(
                "{name} has no effect: systemd passes the listening socket. Change it with: systemctl edit \
                 further-link.socket"
            ));
        }
    }
    warnings
}

/// What to say of a variable that no setting has, and which one may be meant: the one that begins most like
/// it.
fn unknown(name: &OsStr, known: &[String]) -> Option<String> {
    let name = name.to_str()?;
    let is_other = OF_TESTS.iter().any(|prefix| name.starts_with(prefix));
    if !name.starts_with(PREFIX) || is_other || known.iter().any(|known| known == name) {
        return None;
    }
    let common =
        |known: &String| known.bytes().zip(name.bytes()).take_while(|(one, other)| one == other).count();
    let closest =
        known.iter().max_by_key(|known| common(known)).filter(|known| common(known) > PREFIX.len() + 3);
    let hint = closest.map(|closest| format!("; did you mean {closest}?")).unwrap_or_default();
    Some(format!("{name} is no setting, and has no effect{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_named_with_the_one_that_may_be_meant() {
        let known = ["FURTHER_LINK_ALLOW_ORIGINS", "FURTHER_LINK_PORT"].map(str::to_owned);
        let said = |name: &str| unknown(OsStr::new(name), &known);
        assert_eq!(
            said("FURTHER_LINK_ALLOW_ORIGIN").as_deref(),
            Some(
                "FURTHER_LINK_ALLOW_ORIGIN is no setting, and has no effect; did you mean FURTHER_LINK_ALLOW_ORIGINS?"
            )
        );
        assert_eq!(
            said("FURTHER_LINK_X").as_deref(),
            Some("FURTHER_LINK_X is no setting, and has no effect")
        );
        for quiet in ["FURTHER_LINK_PORT", "FURTHER_LINK_TESTS_SEED", "PATH"] {
            assert_eq!(said(quiet), None, "{quiet}");
        }
    }
}
