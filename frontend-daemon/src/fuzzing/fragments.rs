//! Frames of a WebSocket: in any pieces, what is passed on has the same messages as what came, or the same
//! end.

use std::io::Cursor;

use tokio::io::ReadBuf;
use tokio_tungstenite::tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use crate::http::refragment::{FRAGMENT, Refragmenter};

/// The first byte says how long the pieces are, and the second how much room there is for what comes out.
pub fn fragments(bytes: &[u8]) {
    let [piece, room, bytes @ ..] = bytes else { return };
    let mut frames = Refragmenter::default();
    let mut passed = Vec::new();
    let mut outcome = Ok(());
    'pieces: for piece in bytes.chunks(usize::from(*piece) + 1) {
        frames.input.extend_from_slice(piece);
        loop {
            let mut buffer = vec![0; usize::from(*room) + 1];
            let mut out = ReadBuf::new(&mut buffer);
            match frames.pass(&mut out, false) {
                Ok(true) => passed.extend_from_slice(out.filled()),
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break 'pieces;
                }
            }
        }
    }
    let (came, went) = (messages(bytes), messages(&passed));
    assert!(came.complete.starts_with(&went.complete), "a message that was not sent");
    if outcome.is_ok() {
        assert_eq!(came.complete, went.complete, "a message is missing");
    }
    assert!(went.longest <= FRAGMENT, "a fragment of {} bytes", went.longest);
}

#[derive(Default)]
struct Messages {
    /// Data of each message and each control frame, as they stand: masks are not taken off.
    complete: Vec<Vec<u8>>,
    /// Longest data frame.
    longest: u64,
}

fn messages(mut bytes: &[u8]) -> Messages {
    let (mut found, mut data, mut control) = (Messages::default(), Vec::new(), Vec::new());
    loop {
        let mut cursor = Cursor::new(bytes);
        let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) else { return found };
        let head = usize::try_from(cursor.position()).expect("a short head");
        let rest = bytes.get(head..).unwrap_or_default();
        let Some((payload, later)) =
            usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
        else {
            return found;
        };
        bytes = later;
        match header.opcode {
            OpCode::Control(_) => {
                control.extend_from_slice(payload);
                if header.is_final {
                    found.complete.push(std::mem::take(&mut control));
                }
            }
            OpCode::Data(_) => {
                found.longest = found.longest.max(length);
                data.extend_from_slice(payload);
                if header.is_final {
                    found.complete.push(std::mem::take(&mut data));
                }
            }
        }
    }
}
