//! Messages from the daemon. Output is not copied: its pieces between two escapes are looked at where they
//! lie, so that the client costs little of the two processors that it shares with what it measures.

use std::borrow::Cow;

use further_link_api::{Received, ServerMessage};

use crate::Result;

/// What was said, and about which process.
pub(crate) struct Message<'a> {
    pub(crate) process: Cow<'a, str>,
    pub(crate) body: Body<'a>,
}

/// What was said.
pub(crate) enum Body<'a> {
    Started,
    Stopped(i64),
    /// The text between the quotation marks, still with JSON's escapes.
    Output(&'a [u8]),
    Error(String),
}

const OUTPUT_HEADS: [&[u8]; 2] =
    [br#"{"type":"stdout","data":{"output":""#, br#"{"type":"stderr","data":{"output":""#];
const OUTPUT_TAIL: &[u8] = br#""},"process":""#;
/// Process ids of this client are short.
const LONGEST_TAIL: usize = 64;

impl<'a> Message<'a> {
    /// Reads one. Whether it is UTF-8 is seen where the bytes are compared.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self> {
        if let Some(output) = output(payload) {
            return Ok(output);
        }
        let Received { message, process } = Received::parse(payload)?;
        let body = match message {
            ServerMessage::Started => Body::Started,
            ServerMessage::Stopped { exit_code } => Body::Stopped(exit_code.into()),
            ServerMessage::Error(text) => Body::Error(text.into_owned()),
            other => return Err(format!("an unexpected message: {other:?}").into()),
        };
        let process = process.map(|id| Cow::Owned(id.as_str().to_owned())).unwrap_or_default();
        Ok(Self { process, body })
    }
}

/// The way of nearly all bytes: the shape of API.md, in its order.
fn output(payload: &[u8]) -> Option<Message<'_>> {
    let rest = OUTPUT_HEADS.into_iter().find_map(|head| payload.strip_prefix(head))?;
    let tail_from = rest.len().saturating_sub(LONGEST_TAIL);
    let tail = rest.get(tail_from..)?;
    let at = tail_from + memchr::memmem::rfind(tail, OUTPUT_TAIL)?;
    let process = rest.get(at + OUTPUT_TAIL.len()..)?.strip_suffix(br#""}"#)?;
    let text = rest.get(..at)?;
    Some(Message { process: std::str::from_utf8(process).ok()?.into(), body: Body::Output(text) })
}

/// Hands out the text of an output, piece by piece.
pub(crate) fn unescape(text: &[u8], mut piece: impl FnMut(&[u8])) -> Result<()> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        piece(plain);
        let (&character, behind) =
            escape.get(1..).and_then(<[u8]>::split_first).ok_or("an escape is cut off")?;
        rest = behind;
        match character {
            b'n' => piece(b"\n"),
            b'r' => piece(b"\r"),
            b't' => piece(b"\t"),
            b'b' => piece(b"\x08"),
            b'f' => piece(b"\x0c"),
            b'"' | b'\\' | b'/' => piece(&[character]),
            b'u' => {
                let digits = rest.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
                let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                // Surrogate pairs are for characters that serde_json writes as they are.
                let character =
                    number.and_then(char::from_u32).ok_or("an escape that this client does not read")?;
                piece(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = rest.get(4..).unwrap_or_default();
            }
            other => return Err(format!("an unknown escape {other}").into()),
        }
    }
    piece(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_with_all_its_escapes() {
        let payload = "{\"type\":\"stdout\",\"data\":{\"output\":\"a\\r\\n\\\"\\\\\\t\\u001bß€\\\"},\\\"process\\\":\\\"x\\\"}\"},\"process\":\"p1\"}";
        let message = Message::parse(payload.as_bytes()).unwrap();
        assert_eq!(message.process, "p1");
        let Body::Output(text) = message.body else { panic!("no output") };
        let mut all = Vec::new();
        unescape(text, |piece| all.extend_from_slice(piece)).unwrap();
        assert_eq!(String::from_utf8(all).unwrap(), "a\r\n\"\\\t\u{1b}ß€\"},\"process\":\"x\"}");
    }

    #[test]
    fn the_other_messages_are_told_apart() {
        let parse = |text: &'static str| Message::parse(text.as_bytes()).map(|message| message.body);
        assert!(matches!(parse(r#"{"type":"started","data":null,"process":"1"}"#), Ok(Body::Started)));
        let stopped = parse(r#"{"type":"stopped","data":{"exitCode":-15},"process":"1"}"#);
        assert!(matches!(stopped, Ok(Body::Stopped(-15))));
        let error = parse(r#"{"type":"error","data":{"message":"Bad message"},"process":null}"#);
        assert!(matches!(error, Ok(Body::Error(text)) if text == "Bad message"));
        assert!(parse(r#"{"type":"pong","data":null,"process":null}"#).is_err());
    }
}
