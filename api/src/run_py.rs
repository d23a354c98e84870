//! The older dialect of `/run-py`: one python program at a time, no process ids (B10). It is translated here,
//! at the edge, into the messages of `/run`; nothing deeper knows it.

use crate::{
    error::{BadMessage, ClientError, StartFailure},
    message::{ClientMessage, Dialect, PYTHON3, ProcessId, Raw, Start, addressed},
};

/// The one process of such a connection. `/run` refuses the empty id, so it stands for nothing else.
fn only_process() -> ProcessId {
    ProcessId::new("")
}

/// Reads a message of the dialect.
pub(crate) fn parse(mut raw: Raw) -> Result<ClientMessage, ClientError> {
    match raw.kind.as_str() {
        "ping" => Ok(ClientMessage::Ping),
        "start" => start(&mut raw).map(|start| ClientMessage::Start { process: only_process(), start }),
        // Read by the same rules as a body of `POST /upload` (B10.3).
        "upload" => raw
            .data
            .get("directory")
            .map(|value| ClientMessage::Upload { directory: value.to_string() })
            .ok_or(BadMessage::Field("data.directory").into()),
        _ => Ok(addressed(only_process(), raw, Dialect::RunPy)?),
    }
}

/// `sourceScript` wins over `sourcePath`; `directoryName` says where the script goes (B10.2).
fn start(raw: &mut Raw) -> Result<Start, ClientError> {
    let code = raw.text("sourceScript");
    let path = if code.is_some() {
        raw.filled("directoryName")
    } else {
        Some(raw.filled("sourcePath").ok_or(BadMessage::Field("data.sourcePath"))?)
    };
    if code.is_some() && path.as_deref().is_some_and(leaves) {
        return Err(StartFailure::OutsideWorkDir.into());
    }
    Ok(Start { path, code, size: raw.size(), ..Start::new(PYTHON3) })
}

/// Whether a relative path leads out of the directory that it starts from. An absolute one says where it
/// leads to.
fn leaves(path: &str) -> bool {
    let mut depth = 0_usize;
    !path.starts_with('/')
        && path.split('/').any(|name| match name {
            "" | "." => false,
            ".." => match depth.checked_sub(1) {
                Some(less) => {
                    depth = less;
                    false
                }
                None => true,
            },
            _ => {
                depth += 1;
                false
            }
        })
}

#[cfg(test)]
mod tests {
    use crate::{
        error::{ClientError, StartFailure},
        message::{ClientMessage, Dialect, PYTHON3, Start},
        parse::parse,
    };

    fn start(text: &str) -> Result<Start, ClientError> {
        match parse(text.as_bytes(), Dialect::RunPy)? {
            ClientMessage::Start { start, .. } => Ok(start),
            other => panic!("{other:?}"),
        }
    }

    fn python(path: Option<&str>, code: Option<&str>) -> Start {
        Start { path: path.map(str::to_owned), code: code.map(str::to_owned), ..Start::new(PYTHON3) }
    }

    #[test]
    fn a_script_wins_over_a_path_and_goes_into_the_directory() {
        assert_eq!(start(r#"{"type":"start","data":{"sourceScript":"x"}}"#), Ok(python(None, Some("x"))));
        assert_eq!(
            start(r#"{"type":"start","data":{"sourceScript":"","sourcePath":"p","directoryName":"d"}}"#),
            Ok(python(Some("d"), Some("")))
        );
        assert_eq!(
            start(r#"{"type":"start","data":{"sourcePath":"p/r.py","directoryName":"d"},"process":"9"}"#),
            Ok(python(Some("p/r.py"), None))
        );
    }

    #[test]
    fn a_relative_directory_stays_in_the_work_dir() {
        let refused = Err(ClientError::NotStarted(StartFailure::OutsideWorkDir));
        for (name, stays) in [
            ("d/../e", true),
            ("/opt/x/..", true),
            ("..", false),
            ("../x", false),
            ("d/../../e", false),
            ("./..", false),
        ] {
            let text = format!(r#"{{"type":"start","data":{{"sourceScript":"","directoryName":"{name}"}}}}"#);
            assert_eq!(
                start(&text),
                if stays { Ok(python(Some(name), Some(""))) } else { refused.clone() },
                "{name}"
            );
        }
    }

    #[test]
    fn neither_script_nor_path_is_a_bad_message_and_so_is_resize() {
        for text in [
            r#"{"type":"start"}"#,
            r#"{"type":"start","data":{"sourcePath":""}}"#,
            r#"{"type":"start","data":{"sourceScript":1}}"#,
            r#"{"type":"resize","data":{"rows":1,"cols":1}}"#,
            r#"{"type":"upload","data":{}}"#,
        ] {
            let parsed = parse(text.as_bytes(), Dialect::RunPy);
            assert!(matches!(parsed, Err(ClientError::BadMessage(_))), "{text}: {parsed:?}");
        }
    }
}
