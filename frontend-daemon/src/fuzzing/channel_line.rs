//! Lines of the user channel: bytes in any pieces give the same lines, and any line gives a message or none.

use crate::process::channel::line::{Lines, ProgramMessage, parse};

/// The first byte says how long the pieces are.
pub fn channel_line(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(usize::from(*piece) + 1) {
        lines.space().extend_from_slice(piece);
        while let Some(line) = lines.next().expect("far below the limit") {
            found.push(line.to_vec());
        }
    }
    let mut expected: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What is behind the last end is no line.
    expected.pop();
    assert_eq!(found, expected);
    for line in found {
        if let Ok(said) = parse(&line) {
            let (kind, key, text) = match &said {
                ProgramMessage::Video(frame) => ("video", "output", &**frame),
                ProgramMessage::KeyListen(key) => ("keylisten", "key", key.as_str()),
            };
            let again = serde_json::json!({"type": kind, "data": {key: text}}).to_string();
            assert_eq!(parse(again.as_bytes()), Ok(said));
        }
    }
}
