//! From the client's `start` to the helper's `Run`: what to run and as whom, as far as the frontend has a say.
//!
//! Which file is executed, where it lies and whether the user may run at all is the helper's business.

use further_link_api::{ClientError, Start};
use further_link_proto::{CodeLength, Identity, PathText, Run, Runner, Token, UserName, WindowSize};

/// What the query of the connection settled for all its processes (B3.5).
#[derive(Clone)]
pub(crate) struct Choices {
    /// As the client wrote it; none means the default user.
    pub(crate) user: Option<String>,
    /// The proof that some users need, as the client wrote it. Not empty.
    pub(crate) user_token: Option<String>,
    /// A terminal of this size at first; none means pipes.
    pub(crate) terminal: Option<WindowSize>,
}

/// As whom, or why that cannot be.
pub(crate) fn identity(choices: &Choices) -> Result<Identity, String> {
    let user = choices.user.as_ref().map(|name| {
        // An empty name is not the default user (B3.6).
        UserName::new(name.as_str()).map_err(|_| {
            let beginning: String = name.chars().take(80).collect();
            format!("{beginning:?} is not a user name")
        })
    });
    let token = choices
        .user_token
        .as_ref()
        .map(|token| Token::new(token.as_str()).map_err(|_| "the user_token is not a token".to_owned()));
    Ok(Identity { user: user.transpose()?, token: token.transpose()?, origin: None })
}

/// Checks the texts of a start against what the helper accepts at all.
pub(crate) fn request(choices: &Choices, start: &Start) -> Result<Run, ClientError> {
    let refuse = |why: &str| ClientError::NotStarted(why.to_owned());
    let identity = identity(choices).map_err(ClientError::NotStarted)?;
    let path = start
        .path
        .as_ref()
        .map(|path| {
            PathText::new(path.as_str()).map_err(|_| refuse("the path is too long or has a NUL in it"))
        })
        .transpose()?;
    let code = start
        .code
        .as_ref()
        .map(|code| CodeLength::new(code.len()).map_err(|error| refuse(&error.to_string())))
        .transpose()?;
    let size = start.size.map(|(rows, cols)| WindowSize { rows, cols });
    let terminal = choices.terminal.map(|usual| size.unwrap_or(usual));
    Ok(Run { identity, runner: runner(start.runner), path, code, terminal })
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
    use super::*;

    fn requested(user: Option<&str>, path: &str) -> Result<Run, ClientError> {
        let choices = Choices { user: user.map(str::to_owned), user_token: None, terminal: None };
        request(
            &choices,
            &Start {
                runner: further_link_api::Runner::Exec,
                path: Some(path.to_owned()),
                code: None,
                size: None,
            },
        )
    }

    #[test]
    fn an_absent_user_is_the_default_and_an_empty_or_impossible_one_is_refused() {
        assert_eq!(requested(None, "p").unwrap().identity.user, None);
        assert_eq!(requested(Some("pi"), "p").unwrap().identity.user, Some(UserName::new("pi").unwrap()));
        for name in ["", "0", "../etc", "a\nb"] {
            assert!(matches!(requested(Some(name), "p"), Err(ClientError::NotStarted(_))), "{name:?}");
        }
    }

    #[test]
    fn a_path_that_no_kernel_takes_is_refused_here() {
        assert!(matches!(requested(None, "a\0b"), Err(ClientError::NotStarted(_))));
        assert!(matches!(requested(None, &"p".repeat(5000)), Err(ClientError::NotStarted(_))));
    }
}
