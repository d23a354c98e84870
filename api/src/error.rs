//! Errors that a client is told, each with one text. The log of the daemon has the whole story.
//!
//! The first words are the original's, exactly: clients compare them (B4.6). Only a failed start says more, so that the
//! user in front of the browser knows what to do next.

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not JSON, unknown type, missing or wrong field, wrong state.
    #[error("Bad message")]
    BadMessage,
    /// JSON, but not an object; or a number that no terminal can have.
    #[error("Message Exception")]
    MessageException,
    /// The end of input for a program on a terminal.
    #[error("Bad message: a terminal has no end of input; send Ctrl-D (\"\\u0004\") instead")]
    NoEndOnTerminal,
    /// An upload that did not work (`/run-py`).
    #[error("Bad upload")]
    BadUpload,
    /// A start that did not work, and why.
    #[error("Message Exception: cannot start the program: {0}")]
    NotStarted(String),
    /// A start that did not work because the token for the user was wrong.
    #[error("Message Exception: cannot start the program: {0}")]
    WrongToken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_original_are_exact_and_on_the_page() {
        let page = include_str!("../API.md");
        for (error, text) in [
            (ClientError::BadMessage, "Bad message"),
            (ClientError::MessageException, "Message Exception"),
            (ClientError::BadUpload, "Bad upload"),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(page.contains(text), "API.md does not have {text:?}");
        }
        for error in [ClientError::NotStarted("why".into()), ClientError::WrongToken("why".into())] {
            assert_eq!(error.to_string(), "Message Exception: cannot start the program: why");
        }
    }
}
