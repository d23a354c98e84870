//! From the client's `start` to the helper's `Run`: what to run and as whom, as far as the frontend has a
//! say.
//!
//! Which file is executed, where it lies and whether the user may run at all is the helper's business.

use std::net::IpAddr;

use further_link_api::{Start, StartFailure, UserFailure};
use further_link_proto::{
    CodeLength, Identity, MAX_CODE, PathText, Run, Runner, Token, UserName, WindowSize,
};

use crate::access::{caller::Caller, who::Who};

/// What the query of the connection settled for all its programs (B3.5).
#[derive(Clone)]
pub(crate) struct RunOptions {
    /// As the client wrote it; none means the default user.
    pub(crate) user: Option<String>,
    /// The proof that some users need, as the client wrote it. Not empty.
    pub(crate) user_token: Option<String>,
    /// A terminal of this size at first; none means pipes.
    pub(crate) terminal: Option<WindowSize>,
    /// The number of the connection, for the log.
    pub(crate) connection: u64,
    /// Where the client is.
    pub(crate) address: IpAddr,
    /// Why the client was let in.
    pub(crate) caller: Caller,
}

impl RunOptions {
    /// Whose programs they are, for the log.
    pub(crate) fn who(&self) -> Who {
        Who::Client { connection: self.connection, address: self.address }
    }
}

/// Most characters of a name that is none in the error about it.
const MAX_QUOTED: usize = 80;

/// The identity that the helper is asked for.
pub(crate) fn identity(options: &RunOptions) -> Result<Identity, UserFailure> {
    // An empty name is not the default user (B3.6).
    let user = options.user.as_ref().map(|name| {
        UserName::new(name.as_str()).map_err(|_| UserFailure::Name(name.chars().take(MAX_QUOTED).collect()))
    });
    let token = options
        .user_token
        .as_ref()
        .map(|token| Token::new(token.as_str()).map_err(|_| UserFailure::TokenText));
    Ok(Identity { user: user.transpose()?, token: token.transpose()?, origin: Some(options.connection) })
}

/// Checks the texts of a start against what the helper accepts at all.
pub(crate) fn request(options: &RunOptions, start: &Start) -> Result<Run, StartFailure> {
    let identity = identity(options)?;
    // python3 says by itself that there is nothing (B8), and a shell needs neither.
    let has_file = start.path.as_ref().is_some_and(|path| !path.is_empty());
    if start.runner == further_link_api::Runner::Exec && start.code.is_none() && !has_file {
        return Err(StartFailure::Nothing);
    }
    let path = start.path.as_ref().map(|path| PathText::new(path.as_str()).map_err(|_| StartFailure::Path));
    let most = usize::try_from(MAX_CODE).unwrap_or(usize::MAX);
    let code =
        start.code.as_ref().map(|code| CodeLength::new(code.len()).map_err(|_| StartFailure::Code { most }));
    let size = start.size.map(|(rows, cols)| WindowSize { rows, cols });
    let terminal = options.terminal.map(|default| size.unwrap_or(default));
    let runner = runner(start.runner);
    Ok(Run { identity, runner, path: path.transpose()?, code: code.transpose()?, terminal })
}

/// The helper's name for a kind of program.
fn runner(runner: further_link_api::Runner) -> Runner {
    match runner {
        further_link_api::Runner::Python3 => Runner::Python3,
        further_link_api::Runner::Exec => Runner::Exec,
        further_link_api::Runner::Shell => Runner::Shell,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn requested(user: Option<&str>, path: &str) -> Result<Run, StartFailure> {
        let options = RunOptions {
            user: user.map(str::to_owned),
            user_token: None,
            terminal: None,
            connection: 7,
            address: Ipv4Addr::LOCALHOST.into(),
            caller: Caller::Local,
        };
        request(
            &options,
            &Start {
                runner: further_link_api::Runner::Exec,
                path: Some(path.to_owned()),
                code: None,
                size: None,
                keep: None,
            },
        )
    }

    #[test]
    fn an_absent_user_is_the_default_and_an_empty_or_impossible_one_is_refused() {
        assert_eq!(requested(None, "p").unwrap().identity.user, None);
        assert_eq!(requested(Some("pi"), "p").unwrap().identity.user, Some(UserName::new("pi").unwrap()));
        for name in ["", "0", "../etc", "a\nb"] {
            assert!(matches!(requested(Some(name), "p"), Err(StartFailure::User(_))), "{name:?}");
        }
    }

    #[test]
    fn a_path_that_no_kernel_takes_is_refused_here() {
        assert_eq!(requested(None, "a\0b"), Err(StartFailure::Path));
        assert_eq!(requested(None, &"p".repeat(5000)), Err(StartFailure::Path));
    }

    #[test]
    fn a_program_has_to_be_named() {
        assert_eq!(requested(None, ""), Err(StartFailure::Nothing));
    }
}
