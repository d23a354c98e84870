//! What programs say on the user channel: lines of JSON, taken out of bytes that come in any pieces, and what
//! they mean.
//!
//! Total: any bytes give lines, and any line gives a message or "not understood". It never waits, and knows
//! no socket. A frame's text is borrowed from the line, since frames are large and many.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest line without its end: as long as the longest message on the WebSocket (B3.2).
pub(crate) const MAX_LINE: usize = 4 * 1024 * 1024;
/// Most bytes taken at once, and what a connection keeps without asking for room: enough for all lines but
/// frames.
pub(crate) const MAX_PIECE: usize = 64 * 1024;
/// First size of the buffer: enough for a program that only listens for keys.
const FIRST_BUFFER: usize = 4 * 1024;

/// What a program can say. Further types get a row here, one in [`parse`], and one where it is acted upon
/// (`connection`).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProgramMessage<'a> {
    /// A picture as text: the base64 of a JPEG, which is passed on as it is.
    Video(Cow<'a, str>),
    /// It wants to hear of this key.
    KeyListen(String),
}

/// The line is no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The line is longer than [`MAX_LINE`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Any message: the same shape as on the WebSocket. Other keys are ignored.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Video<'a> {
    #[serde(borrow)]
    output: Cow<'a, str>,
}

#[derive(Deserialize)]
struct KeyListen {
    key: Option<String>,
    /// The original's name for it on the WebSocket (B12.4).
    output: Option<String>,
}

/// Reads one line.
pub(crate) fn parse(line: &[u8]) -> Result<ProgramMessage<'_>, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let envelope: Envelope<'_> = serde_json::from_str(line).map_err(|_| Malformed)?;
    match &*envelope.r#type {
        "video" => data(envelope.data).map(|Video { output }| ProgramMessage::Video(output)),
        "keylisten" => {
            let KeyListen { key, output } = data(envelope.data)?;
            key.or(output).map(ProgramMessage::KeyListen).ok_or(Malformed)
        }
        _ => Err(Malformed),
    }
}

fn data<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, Malformed> {
    serde_json::from_str(data.get()).map_err(|_| Malformed)
}

/// Bytes as they came, and the lines in them.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the first line begins that was not taken yet.
    start: usize,
    /// No line ends between `start` and here.
    searched: usize,
}

impl Lines {
    /// With these bytes before all others.
    pub(crate) fn beginning_with(bytes: Vec<u8>) -> Self {
        Self { buffer: bytes, start: 0, searched: 0 }
    }

    /// What is there of the next line.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let found = memchr::memchr(b'\n', self.buffer.get(self.searched..).unwrap_or_default());
        let end = found.map_or(self.buffer.len(), |offset| self.searched + offset);
        self.searched = end;
        if end - self.start > MAX_LINE {
            return Err(TooLong);
        }
        if found.is_none() {
            return Ok(None);
        }
        let line = Range { start: self.start, end };
        self.start = end + 1;
        self.searched = self.start;
        Ok(self.buffer.get(line))
    }

    /// Whether reading on needs more memory than is free. The next piece always fits into what is, once a
    /// line is complete.
    pub(crate) fn is_large(&self) -> bool {
        self.buffer.len() - self.start >= MAX_PIECE
    }

    /// Gives memory back that only a large line needed.
    pub(crate) fn tidy(&mut self) {
        if self.buffer.capacity() > MAX_PIECE {
            self.compact();
            self.buffer.shrink_to(MAX_PIECE);
        }
    }

    /// The buffer with free room behind its bytes, at most [`MAX_PIECE`], for one read. Call it when no line
    /// is left.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        self.compact();
        let buffer = &mut self.buffer;
        if buffer.len() == buffer.capacity() {
            buffer.reserve_exact(buffer.capacity().clamp(FIRST_BUFFER, MAX_PIECE));
        }
        buffer
    }

    /// Moves the bytes that are left to the beginning.
    fn compact(&mut self) {
        drop(self.buffer.drain(..self.start));
        self.searched -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `bytes` when they come in pieces of `piece`.
    fn lines(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            lines.space().extend_from_slice(piece);
            while let Some(line) = lines.next().unwrap() {
                found.push(line.to_vec());
            }
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let long = "x".repeat(1000);
        let text = format!("a\n\n{long}\nä€😀\nrest without an end");
        for piece in 1..text.len() {
            let found = lines(text.as_bytes(), piece);
            assert_eq!(found, [b"a", &b""[..], long.as_bytes(), "ä€😀".as_bytes()], "pieces of {piece}");
        }
    }

    #[test]
    fn the_longest_line_fits_and_one_byte_more_does_not() {
        let mut lines = Lines::default();
        let mut left = MAX_LINE;
        while left > 0 {
            let space = lines.space();
            let count = (space.capacity() - space.len()).min(left);
            assert!(count <= MAX_PIECE);
            space.extend(std::iter::repeat_n(b'x', count));
            left -= count;
            assert_eq!(lines.next(), Ok(None));
        }
        assert!(lines.is_large());
        lines.space().push(b'\n');
        assert_eq!(lines.next().unwrap().map(<[u8]>::len), Some(MAX_LINE));
        lines.tidy();
        assert!(!lines.is_large());
        assert!(lines.space().capacity() <= MAX_PIECE);
        lines.space().extend(std::iter::repeat_n(b'x', MAX_LINE + 1));
        assert_eq!(lines.next(), Err(TooLong));
        lines.space().push(b'\n');
        assert_eq!(lines.next(), Err(TooLong));
    }

    #[test]
    fn a_frame_is_borrowed_and_a_key_may_have_either_name() {
        let frame = parse(br#"{"type":"video","data":{"output":"/9j/4A=="},"process":"x"}"#);
        assert!(matches!(frame, Ok(ProgramMessage::Video(Cow::Borrowed("/9j/4A==")))), "{frame:?}");
        for text in [
            r#"{"type":"keylisten","data":{"key":"ArrowUp"}}"#,
            r#" { "data" : { "output" : "Arrow\u0055p", "more": [1] } , "type" : "keylisten" } "#,
            r#"{"type":"keylisten","data":{"output":"x","key":"ArrowUp"}}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(ProgramMessage::KeyListen("ArrowUp".into())), "{text}");
        }
        for key in [" ", "", "é", "€", "\n", "\"", "a endkeylisten "] {
            let text = serde_json::json!({"type": "keylisten", "data": {"key": key}}).to_string();
            assert_eq!(parse(text.as_bytes()), Ok(ProgramMessage::KeyListen(key.into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_not_understood() {
        let deep = format!("{{\"type\":\"video\",\"data\":{}", "[".repeat(100_000));
        for text in [
            "",
            "\r",
            "nonsense",
            "[]",
            "{}",
            r#"{"type":"video"}"#,
            r#"{"type":"video","data":null}"#,
            r#"{"type":"video","data":{"output":5}}"#,
            r#"{"type":"video","data":{"output":["x"]}}"#,
            r#"{"type":"keylisten","data":{}}"#,
            r#"{"type":"keylisten","data":"ArrowUp"}"#,
            r#"{"type":"keyevent","data":{"key":"a","event":"keydown"}}"#,
            r#"{"type":5,"data":{"output":"x"}}"#,
            r#"{"type":"video","data":{"output":"x"}} x"#,
            &deep,
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{}", text.get(..80).unwrap_or(text));
        }
        assert_eq!(parse(b"{\"type\":\"video\",\"data\":{\"output\":\"\xff\"}}"), Err(Malformed));
    }
}
