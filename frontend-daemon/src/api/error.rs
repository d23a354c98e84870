//! The one table of what a client is told when something is wrong. The log has the whole story.
//!
//! The first words are the original's, exactly: clients compare them (B4.6). Only a failed start says more, so that the
//! person in front of the browser knows what to do next.

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Not JSON, unknown type, missing or wrong field, wrong state.
    BadMessage,
    /// JSON, but not an object; or a number that no terminal can have.
    MessageException,
    /// An upload that did not work (`/run-py`).
    BadUpload,
    /// A start that did not work, and why.
    NotStarted(String),
    /// The same, because the token for the user was wrong.
    WrongToken(String),
}

impl Complaint {
    /// The text of the `error` message.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::BadMessage => "Bad message".to_owned(),
            Self::MessageException => "Message Exception".to_owned(),
            Self::BadUpload => "Bad upload".to_owned(),
            Self::NotStarted(why) | Self::WrongToken(why) => {
                format!("Message Exception: cannot start the program: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_original_are_exact() {
        assert_eq!(Complaint::BadMessage.text(), "Bad message");
        assert_eq!(Complaint::MessageException.text(), "Message Exception");
        assert_eq!(Complaint::BadUpload.text(), "Bad upload");
    }
}
