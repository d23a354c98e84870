//! JSON that is read as it comes: all of it is checked, and nothing is kept but what the caller asks for.
//!
//! `request` reads bodies with it, from pieces of any size. A string may have the size of the whole body: it
//! is gone through once, and decoded on the way. The fuzz target `upload_body` compares with `serde_json`.

use std::{convert::Infallible, mem, ops::Range};

use bytes::{Buf, Bytes};
use memchr::memchr2;

/// Deepest nesting: a file's text is at the fourth level. Without a limit the reader's memory has none.
pub(crate) const MAX_NESTING: usize = 64;
/// Most values, and ends of arrays and objects. The largest body of the original, 1 MiB, has no place for as
/// many, and an upload of 10,000 files has a tenth. Without a limit, small values in a body of 64 MiB would
/// keep a processor busy for seconds.
pub(crate) const MAX_VALUES: usize = 1_000_000;

/// Where pieces of JSON come from.
pub(crate) trait Source {
    type Error;

    /// The next piece. None at the end, however often it is asked for.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}

/// JSON that is there already.
pub(crate) struct Whole(Option<Bytes>);

impl Whole {
    pub(crate) fn new(json: impl Into<Bytes>) -> Self {
        Self(Some(json.into()))
    }
}

impl Source for Whole {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.take())
    }
}

/// Why there is no more to read.
#[derive(Debug)]
pub(crate) enum JsonError<E> {
    Source(E),
    NotUtf8,
    TooDeep,
    TooMany,
    /// What is wrong, and how many bytes are before it.
    Syntax(&'static str, usize),
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
}

/// A string that was read.
#[derive(Clone, Debug)]
pub(crate) struct JsonString {
    /// Where its bytes are now.
    pub(crate) at: Range<usize>,
    /// Its length in the JSON, escapes and quotes included.
    pub(crate) written: usize,
    /// False with an unpaired surrogate, which JSON can write and UTF-8 cannot: its bytes are none of a text.
    pub(crate) is_text: bool,
}

/// The reader of one JSON text.
pub(crate) struct JsonReader<S> {
    source: S,
    /// What is there and was not read: whole characters.
    piece: Bytes,
    /// The beginning of a character that the end of the last piece has cut.
    cut: Vec<u8>,
    /// How much has come.
    received: usize,
    depth: usize,
    /// Values, and ends of arrays and objects, that were read.
    values: usize,
    /// The last byte read has begun an array or object.
    is_first: bool,
}

type Read<T, S> = Result<T, JsonError<<S as Source>::Error>>;

impl<S: Source> JsonReader<S> {
    pub(crate) fn new(source: S) -> Self {
        let (piece, cut) = (Bytes::new(), Vec::new());
        Self { source, piece, cut, received: 0, depth: 0, values: 0, is_first: false }
    }

    /// What the next value is, of which nothing is read.
    pub(crate) async fn kind(&mut self) -> Read<Kind, S> {
        Ok(match self.significant().await? {
            Some(b'n') => Kind::Null,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b'"') => Kind::String,
            Some(b'[') => Kind::Array,
            Some(b'{') => Kind::Object,
            _ => return Err(self.wrong("expected a value")),
        })
    }

    /// Reads the next value, whatever it is, and keeps nothing of it.
    pub(crate) async fn skip(&mut self) -> Read<(), S> {
        // What ends the arrays and objects that have begun here.
        let mut ends = Vec::new();
        loop {
            match self.kind().await? {
                Kind::Null => self.word(b"null").await?,
                Kind::True => self.word(b"true").await?,
                Kind::False => self.word(b"false").await?,
                Kind::Number => self.number().await?,
                Kind::String => {
                    self.string(None).await?;
                }
                Kind::Array => {
                    self.begin()?;
                    ends.push(b']');
                }
                Kind::Object => {
                    self.begin()?;
                    ends.push(b'}');
                }
            }
            while let Some(end) = ends.last().copied() {
                if self.goes_on(end).await? {
                    if end == b'}' {
                        self.string(None).await?;
                        self.colon().await?;
                    }
                    break;
                }
                ends.pop();
            }
            if ends.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads the beginning of an array or object, which `kind` has seen.
    pub(crate) fn begin(&mut self) -> Read<(), S> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(JsonError::TooDeep);
        }
        self.piece.advance(1);
        self.is_first = true;
        Ok(())
    }

    /// Reads the next key of an object to the end of `into`, or the end of the object.
    pub(crate) async fn key(&mut self, into: &mut Vec<u8>) -> Read<Option<JsonString>, S> {
        if !self.goes_on(b'}').await? {
            return Ok(None);
        }
        let key = self.string(Some(into)).await?;
        self.colon().await?;
        Ok(Some(key))
    }

    /// Reads a string to the end of `into`, if it is to be kept.
    pub(crate) async fn string(&mut self, mut into: Option<&mut Vec<u8>>) -> Read<JsonString, S> {
        if self.significant().await? != Some(b'"') {
            return Err(self.wrong("expected a string"));
        }
        let (begin, start) = (self.position(), into.as_ref().map_or(0, |into| into.len()));
        self.piece.advance(1);
        let (mut is_text, mut high) = (true, None);
        let mut put = |bytes: &[u8]| {
            if let Some(into) = &mut into {
                into.extend_from_slice(bytes);
            }
        };
        loop {
            let unit = match self.peek().await? {
                Some(b'"') => break,
                Some(b'\\') => Some(self.escape().await?),
                Some(_) => None,
                None => return Err(self.wrong("a string without an end")),
            };
            if let Some(first) = high.take() {
                if let Some(char) = unit.and_then(|second| char::decode_utf16([first, second]).next()?.ok()) {
                    put(char.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                put(&surrogate(first));
                is_text = false;
            }
            match unit.map(|unit| (unit, char::from_u32(unit.into()))) {
                Some((_, Some(char))) => put(char.encode_utf8(&mut [0; 4]).as_bytes()),
                Some((first @ 0xd800..0xdc00, None)) => high = Some(first),
                Some((second, None)) => {
                    put(&surrogate(second));
                    is_text = false;
                }
                None => self.plain(&mut put)?,
            }
        }
        if let Some(first) = high {
            put(&surrogate(first));
            is_text = false;
        }
        self.piece.advance(1);
        let at = start..into.map_or(0, |into| into.len());
        Ok(JsonString { at, written: self.position() - begin, is_text })
    }

    /// Nothing may follow but white space.
    pub(crate) async fn finish(&mut self) -> Read<(), S> {
        match self.significant().await? {
            None => Ok(()),
            Some(_) => Err(self.wrong("more after the end")),
        }
    }

    /// Takes all that is still to come. False if some of it is not UTF-8.
    pub(crate) async fn drain(&mut self) -> Read<bool, S> {
        let mut is_utf8 = true;
        loop {
            self.piece.clear();
            match self.peek().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(is_utf8),
                Err(JsonError::NotUtf8) => is_utf8 = false,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what of a string is there and needs no second look: characters as they are, and short escapes.
    fn plain(&mut self, mut put: impl FnMut(&[u8])) -> Read<(), S> {
        let mut rest: &[u8] = &self.piece;
        loop {
            let (run, after) = rest.split_at(memchr2(b'"', b'\\', rest).unwrap_or(rest.len()));
            // All of them are looked at, or the compiler would take them one by one.
            if run.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ' {
                let before =
                    self.piece.len() - rest.len() + run.iter().take_while(|byte| **byte >= b' ').count();
                return Err(JsonError::Syntax("a control character in a string", self.position() + before));
            }
            put(run);
            rest = after;
            let [b'\\', letter, after @ ..] = rest else { break };
            let Some(byte) = short_escape(*letter) else { break };
            put(&[byte]);
            rest = after;
        }
        let left = rest.len();
        self.piece.advance(self.piece.len() - left);
        Ok(())
    }

    /// The UTF-16 unit of an escape.
    async fn escape(&mut self) -> Read<u16, S> {
        self.piece.advance(1);
        let letter = self.peek().await?;
        if let Some(byte) = letter.and_then(short_escape) {
            self.piece.advance(1);
            return Ok(byte.into());
        }
        if letter != Some(b'u') {
            return Err(self.wrong("an unknown escape"));
        }
        self.piece.advance(1);
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().await?.and_then(|digit| char::from(digit).to_digit(16));
            let Some(digit) = digit.and_then(|digit| u16::try_from(digit).ok()) else {
                return Err(self.wrong("expected four hexadecimal digits"));
            };
            self.piece.advance(1);
            unit = unit << 4 | digit;
        }
        Ok(unit)
    }

    /// Reads what is between two values of an array or object, or its end, which is this byte.
    async fn goes_on(&mut self, end: u8) -> Read<bool, S> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(JsonError::TooMany);
        }
        let is_first = mem::take(&mut self.is_first);
        match self.significant().await? {
            Some(byte) if byte == end => {
                self.piece.advance(1);
                self.depth -= 1;
                Ok(false)
            }
            Some(_) if is_first => Ok(true),
            Some(b',') => {
                self.piece.advance(1);
                Ok(true)
            }
            _ => Err(self.wrong("expected a comma, or the end of an array or object")),
        }
    }

    async fn colon(&mut self) -> Read<(), S> {
        self.significant().await?;
        self.word(b":").await
    }

    async fn word(&mut self, word: &[u8]) -> Read<(), S> {
        for byte in word {
            if self.peek().await? != Some(*byte) {
                return Err(self.wrong("expected a value, or the colon before it"));
            }
            self.piece.advance(1);
        }
        Ok(())
    }

    /// RFC 8259, section 6.
    async fn number(&mut self) -> Read<(), S> {
        self.take(|byte| byte == b'-').await?;
        if !self.take(|byte| byte == b'0').await? {
            self.digits().await?;
        }
        if self.take(|byte| byte == b'.').await? {
            self.digits().await?;
        }
        if self.take(|byte| matches!(byte, b'e' | b'E')).await? {
            self.take(|byte| matches!(byte, b'+' | b'-')).await?;
            self.digits().await?;
        }
        Ok(())
    }

    /// One digit or more.
    async fn digits(&mut self) -> Read<(), S> {
        if !self.take(|byte| byte.is_ascii_digit()).await? {
            return Err(self.wrong("expected a digit"));
        }
        self.take_all(|byte| byte.is_ascii_digit()).await?;
        Ok(())
    }

    /// Reads the next byte if it is one of these.
    async fn take(&mut self, is: impl Fn(u8) -> bool) -> Read<bool, S> {
        let taken = self.peek().await?.is_some_and(is);
        self.piece.advance(taken.into());
        Ok(taken)
    }

    /// Reads on as long as it is these. The byte behind them.
    async fn take_all(&mut self, is: impl Fn(u8) -> bool) -> Read<Option<u8>, S> {
        while self.peek().await?.is_some_and(&is) {
            let length = self.piece.iter().take_while(|byte| is(**byte)).count();
            self.piece.advance(length);
        }
        self.peek().await
    }

    /// The next byte that is not white space, which is not read.
    async fn significant(&mut self) -> Read<Option<u8>, S> {
        self.take_all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).await
    }

    /// The next byte, which is not read. None at the end.
    async fn peek(&mut self) -> Read<Option<u8>, S> {
        while self.piece.is_empty() {
            let Some(piece) = self.source.next().await.map_err(JsonError::Source)? else {
                let is_whole = mem::take(&mut self.cut).is_empty();
                return if is_whole { Ok(None) } else { Err(JsonError::NotUtf8) };
            };
            self.received += piece.len();
            self.piece = piece;
            if !self.cut.is_empty() {
                let mut joined = mem::take(&mut self.cut);
                joined.extend_from_slice(&self.piece);
                self.piece = joined.into();
            }
            if let Err(error) = simdutf8::compat::from_utf8(&self.piece) {
                if error.error_len().is_some() {
                    return Err(JsonError::NotUtf8);
                }
                self.cut = self.piece.split_off(error.valid_up_to()).into();
            }
        }
        Ok(self.piece.first().copied())
    }

    fn wrong(&self, what: &'static str) -> JsonError<S::Error> {
        JsonError::Syntax(what, self.position())
    }

    /// How many bytes were read.
    fn position(&self) -> usize {
        self.received - self.cut.len() - self.piece.len()
    }
}

/// What an escape of one letter stands for (RFC 8259, section 7).
fn short_escape(letter: u8) -> Option<u8> {
    match letter {
        b'b' => Some(0x8),
        b'f' => Some(0xc),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'"' | b'\\' | b'/' => Some(letter),
        _ => None,
    }
}

/// An unpaired surrogate as UTF-8 would write it, were it a character: other than any text.
fn surrogate(unit: u16) -> [u8; 3] {
    let [high, low] = unit.to_be_bytes();
    [0xed, 0x80 | (high & 0xf) << 2 | low >> 6, 0x80 | low & 0x3f]
}

#[cfg(test)]
mod tests {
    use std::slice::Chunks;

    use futures_util::FutureExt;
    use serde_json::value::RawValue;

    use super::*;

    struct Pieces<'a>(Chunks<'a, u8>);

    impl Source for Pieces<'_> {
        type Error = Infallible;

        async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
            Ok(self.0.next().map(Bytes::copy_from_slice))
        }
    }

    fn in_pieces(json: &[u8], size: usize) -> JsonReader<Pieces<'_>> {
        JsonReader::new(Pieces(json.chunks(size)))
    }

    fn is_json(json: &[u8], size: usize) -> bool {
        let mut reader = in_pieces(json, size);
        let read = async { reader.skip().await.is_ok() && reader.finish().await.is_ok() };
        read.now_or_never().unwrap()
    }

    /// The bytes of a string, and whether they are a text.
    fn decoded(literal: &str, size: usize) -> (Vec<u8>, bool) {
        let mut bytes = b"before".to_vec();
        let mut reader = in_pieces(literal.as_bytes(), size);
        let text = reader.string(Some(&mut bytes)).now_or_never().unwrap().unwrap();
        assert_eq!((text.at, text.written), (6..bytes.len(), literal.len()), "{literal}");
        (bytes.split_off(6), text.is_text)
    }

    #[test]
    fn what_is_json_is_what_serde_json_takes_wherever_it_is_cut() {
        let texts = r#"null true false 0 -0 1 10 -12.50 1e9 1E+9 0.5e-10 "" "a" [] {} [1,[2,{"a":3}],"x"] {"a":{"b":[{}]},"a":0}
            [[],[]] {"":{}} "\"\\\/\b\f\n\r\t\u00e9\uD834\udd1e\ud800" "ä€𝄞" nul nulll True -  01 1. .5 1e 1e+ +1 0x1 00 - --1 1.e5
            "a "\x" "\u12" "\u12g4" "\ud8 [ ] [1 [1,] [,1] [1,,2] [1}{} {"a"} {"a":} {"a":1,} {,} {"a":1,"b"} {a:1} {1:1} {"a":1]
            [}] {"a" 1} ["a":1] ]"#;
        let texts = texts.split_whitespace().map(str::to_owned);
        let others = [
            "",
            " ",
            " 1 ",
            "1 2",
            "{} x",
            "\t[\r\n1 , 2 ]",
            "\"a\nb\"",
            "\"\u{7f}\"",
            "\u{a0}1",
            "\u{feff}1",
        ];
        for text in texts.chain(others.map(str::to_owned)) {
            let expected = serde_json::from_str::<&RawValue>(&text).is_ok();
            for size in 1..=text.len().max(1) {
                assert_eq!(is_json(text.as_bytes(), size), expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_string_is_decoded_as_serde_json_does_it_wherever_it_is_cut() {
        for literal in [
            r#""""#,
            r#""plain ä€𝄞""#,
            r#""\n""#,
            r#""a\\nb\"c\/d\b\f\n\r\t""#,
            r#""\u0000\u00e9\u20AC\ud834\udd1e""#,
            r#""x\ud834\udd1ey\ud83d\ude00""#,
            r#""\\u0041 \\\\""#,
            r#"" edges ""#,
        ] {
            let expected = serde_json::from_str::<String>(literal).unwrap();
            for size in 1..=literal.len() {
                assert_eq!(decoded(literal, size), (expected.clone().into_bytes(), true), "{literal} {size}");
            }
        }
    }

    #[test]
    fn an_unpaired_surrogate_is_no_text_and_differs_from_others() {
        for literal in [
            r#""\ud834""#,
            r#""\udd1e""#,
            r#""\ud834x""#,
            r#""\ud834\n""#,
            r#""\ud834\ud834""#,
            r#""\ud834\u0041""#,
            r#""\udd1e\ud834""#,
            r#""\ud834\ud834\udd1e""#,
        ] {
            assert!(serde_json::from_str::<String>(literal).is_err(), "{literal}");
            for size in 1..=literal.len() {
                let (bytes, is_text) = decoded(literal, size);
                assert!(!is_text && str::from_utf8(&bytes).is_err(), "{literal} {size}");
            }
        }
        assert_eq!(decoded(r#""\ud834x""#, 1).0, b"\xed\xa0\xb4x");
        assert_eq!(decoded(r#""\udfff""#, 1).0, b"\xed\xbf\xbf");
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_found_wherever_they_are_cut() {
        for bytes in [&b"\"\xff\""[..], b"\"\xc3\"", b"\"\xe2\x82\"", b"1 \xc3", b"\"\xed\xa0\x80\""] {
            for size in 1..=bytes.len() {
                let mut reader = in_pieces(bytes, size);
                let read = async {
                    reader.skip().await?;
                    reader.finish().await
                };
                assert!(matches!(read.now_or_never(), Some(Err(JsonError::NotUtf8))), "{bytes:?} {size}");
                assert_eq!(in_pieces(bytes, size).drain().now_or_never().unwrap().ok(), Some(false));
            }
        }
        assert_eq!(in_pieces("\"ä".as_bytes(), 1).drain().now_or_never().unwrap().ok(), Some(true));
    }

    #[test]
    fn values_have_a_limit_that_no_body_of_1_mib_meets() {
        for element in ["1,", "[],", "{},", "\"\","] {
            let body = ["[", &element.repeat(1024 * 1024 / element.len() - 1), "0]"].concat();
            assert!(is_json(body.as_bytes(), 64 * 1024), "{element}");
        }
        let mut reader = JsonReader::new(Whole::new(["[", &"1,".repeat(MAX_VALUES), "0]"].concat()));
        assert!(matches!(reader.skip().now_or_never(), Some(Err(JsonError::TooMany))));
    }

    #[test]
    fn nesting_has_an_end() {
        for (depth, expected) in [(MAX_NESTING, true), (MAX_NESTING + 1, false)] {
            assert_eq!(is_json(["[".repeat(depth), "]".repeat(depth)].concat().as_bytes(), 7), expected);
        }
        let flat = ["[", &"[{}],".repeat(100), "0]"].concat();
        assert!(is_json(flat.as_bytes(), 7));
    }
}
