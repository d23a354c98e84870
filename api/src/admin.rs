//! What an administrator may ask for on the local socket: one request a connection, as one line of JSON. The
//! answers are messages of the daemon, a line each, in the dialect of clients that have said `hello`.

use serde::{Deserialize, Serialize};

/// Longest line of a request: far more than the longest one there is.
pub const MAX_ADMIN_REQUEST: usize = 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum AdminRequest {
    /// `sessions`: the kept programs of all clients.
    List,
    /// What a client gets that attaches with the view key.
    Watch {
        /// The id of a kept program.
        session: String,
    },
    /// `stopped`, when the program has ended.
    End {
        /// The id of a kept program.
        session: String,
    },
    /// The tests in the runner files, a [`TestAnswer`] each.
    Test {
        /// Ids of runners. None: all.
        runners: Vec<String>,
    },
}

/// What is said of a self-test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum TestAnswer {
    /// A test was run.
    Test {
        /// The id of the runner.
        runner: String,
        /// The name of the language.
        title: String,
        /// The name of the test.
        name: String,
        /// What was wrong. None: nothing.
        wrong: Option<String>,
        /// How long it took, in milliseconds.
        ms: u64,
    },
    /// The language is not installed, and nothing of it was tried.
    Missing {
        /// The id of the runner.
        runner: String,
        /// The name of the language.
        title: String,
        /// What to do.
        hint: Option<String>,
    },
    /// That is all.
    Done,
    /// Nothing was tried.
    Error {
        /// What to do.
        message: String,
    },
}

impl AdminRequest {
    /// Writes the request, without the end of the line.
    pub fn to_json(&self) -> String {
        // Strings into a string: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for request in [
            AdminRequest::List,
            AdminRequest::Watch { session: "a\n\"".to_owned() },
            AdminRequest::End { session: String::new() },
            AdminRequest::Test { runners: vec!["c".to_owned()] },
        ] {
            let line = request.to_json();
            assert!(!line.contains('\n') && line.len() < MAX_ADMIN_REQUEST, "{line}");
            assert_eq!(AdminRequest::parse(line.as_bytes()).unwrap(), request);
        }
        for wrong in ["", "{}", r#"{"type":"start"}"#, r#"{"type":"end"}"#] {
            assert!(AdminRequest::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
