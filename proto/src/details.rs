//! What a client chose for its program, and the helper has no use for: arguments and variables. It travels
//! by the pipe of [`crate::Event::Data`], before the program text, and is read by the launcher when that is
//! the user.

use bincode::{Decode, Encode, config, error::DecodeError};

use crate::{codec::CodecError, value::MAX_DETAILS};

/// The choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Details {
    /// Arguments, in the place of `{args}` in the runner's command line.
    pub args: Vec<String>,
    /// Variables, by name and value, that win over those of the account.
    pub env: Vec<(String, String)>,
    /// The folder of an environment of packages, as the client wrote it.
    pub venv: Option<String>,
    /// What the run is for.
    pub purpose: Purpose,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Purpose {
    /// The program.
    #[default]
    Program,
    /// To install the packages that the arguments name into the project's environment.
    Install,
    /// To hear which version of the language there is.
    Version,
}

/// Longest name of a variable.
const MAX_VARIABLE: usize = 128;
/// Variables of the account, and those by which a compiler, a loader or an interpreter would be another one
/// than the runner's file says.
const REFUSED: [&str; 31] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONBREAKPOINT",
    "PYTHONPLATLIBDIR",
    "PYTHONEXECUTABLE",
    "PYTHONUSERBASE",
    "PYTHONPYCACHEPREFIX",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "LUA_INIT",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "VIRTUAL_ENV",
    "PHPRC",
];
/// The same by their beginnings: of the loader, and of this service.
const REFUSED_BEGINNINGS: [&str; 2] = ["LD_", "FURTHER_LINK_"];

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MAX_DETAILS>> =
    config::standard().with_limit::<MAX_DETAILS>();

impl Details {
    /// Whether the client chose nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a variable can have this name, as POSIX has it for environments.
    pub fn is_variable(name: &str) -> bool {
        let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        name.len() <= MAX_VARIABLE
            && name.bytes().next().is_some_and(first)
            && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
    }

    /// Whether the variable is not a client's to choose.
    pub fn is_refused(name: &str) -> bool {
        REFUSED.contains(&name) || REFUSED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    }

    /// The bytes for the pipe.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(bincode::encode_to_vec(self, CONFIG)?)
    }

    /// The choices in these bytes, with variables that may be chosen.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let (details, read): (Self, usize) = bincode::decode_from_slice(bytes, CONFIG)?;
        let wrong = |(name, _): &&(String, String)| !Self::is_variable(name) || Self::is_refused(name);
        if let Some((name, _)) = details.env.iter().find(wrong) {
            return Err(DecodeError::OtherString(format!("the variable {name:?}")).into());
        }
        match bytes.len() - read {
            0 => Ok(details),
            left => Err(CodecError::Trailing(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_what_was_chosen() {
        let args = ["", "a b", "'\"\n", "ü☃", "{file}"].map(str::to_owned).into();
        let details = Details {
            args,
            env: vec![("NAME".to_owned(), "a=b".to_owned())],
            venv: Some("v".to_owned()),
            purpose: Purpose::Install,
        };
        assert_eq!(Details::from_bytes(&details.to_bytes().unwrap()).unwrap(), details);
        assert!(Details::default().is_empty() && !details.is_empty());
    }

    #[test]
    fn variables_that_are_no_clients_to_choose_are_an_error_here_as_well() {
        for name in ["PATH", "LD_PRELOAD", "BASH_ENV", "FURTHER_LINK_CHANNEL", "", "A=B", "1"] {
            let env = vec![(name.to_owned(), "x".to_owned())];
            let bytes = Details { env, ..Details::default() }.to_bytes().unwrap();
            assert!(Details::from_bytes(&bytes).is_err(), "{name:?}");
        }
    }

    #[test]
    fn broken_bytes_are_an_error() {
        let bytes = Details { args: vec!["x".to_owned()], ..Details::default() }.to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Details::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(matches!(Details::from_bytes(&[bytes, vec![0]].concat()), Err(CodecError::Trailing(1))));
        assert!(Details::from_bytes(&[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
