//! The older dialect of `/run-py`: one python program at a time, no process ids (B10). It is translated here, at the
//! edge, into the messages of `/run`; nothing deeper knows it.

use crate::message::{ClientMessage, ProcessId, Raw, Runner, Start, addressed};

/// The one process of such a connection. `/run` refuses the empty id, so it stands for nothing else.
fn only_process() -> ProcessId {
    ProcessId::new("")
}

/// Reads a message of the dialect.
pub(crate) fn parse(mut raw: Raw) -> Option<ClientMessage> {
    match raw.kind.as_str() {
        "ping" => Some(ClientMessage::Ping),
        "start" => start(&mut raw).map(|start| ClientMessage::Start { process: only_process(), start }),
        // Read by the same rules as a body of `POST /upload` (B10.3).
        "upload" => {
            raw.data.get("directory").map(|value| ClientMessage::Upload { directory: value.to_string() })
        }
        _ => addressed(only_process(), raw),
    }
}

/// `sourceScript` wins over `sourcePath`; `directoryName` says where the script goes (B10.2).
fn start(raw: &mut Raw) -> Option<Start> {
    let code = raw.text("sourceScript");
    let path = if code.is_some() { raw.filled("directoryName") } else { Some(raw.filled("sourcePath")?) };
    Some(Start { runner: Runner::Python3, path, code, size: raw.size() })
}

#[cfg(test)]
mod tests {
    use crate::{
        error::ClientError,
        message::{ClientMessage, Dialect, Runner, Start},
        parse::parse,
    };

    fn start(text: &str) -> Result<Start, ClientError> {
        match parse(text.as_bytes(), Dialect::RunPy)? {
            ClientMessage::Start { start, .. } => Ok(start),
            other => panic!("{other:?}"),
        }
    }

    fn python(path: Option<&str>, code: Option<&str>) -> Start {
        Start {
            runner: Runner::Python3,
            path: path.map(str::to_owned),
            code: code.map(str::to_owned),
            size: None,
        }
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
    fn neither_script_nor_path_is_a_bad_message_and_so_is_resize() {
        for text in [
            r#"{"type":"start"}"#,
            r#"{"type":"start","data":{"sourcePath":""}}"#,
            r#"{"type":"start","data":{"sourceScript":1}}"#,
            r#"{"type":"resize","data":{"rows":1,"cols":1}}"#,
            r#"{"type":"upload","data":{}}"#,
        ] {
            assert_eq!(parse(text.as_bytes(), Dialect::RunPy), Err(ClientError::BadMessage), "{text}");
        }
    }
}
