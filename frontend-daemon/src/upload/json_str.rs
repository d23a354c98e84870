//! A string as it stands in JSON, decoded piece by piece: the text of an uploaded file may have the size of
//! the whole body, and a decoded copy of it beside the body would double what an upload costs.
//!
//! `request` makes them of literals whose syntax `serde_json` has checked; `upload` writes their pieces
//! into files.

/// A string literal of JSON that stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonStr<'a> {
    /// Without the quotes.
    literal: &'a str,
    length: usize,
}

/// An unpaired surrogate: JSON can write it, UTF-8 cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoneSurrogate;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// As it stands in the JSON.
    Run(&'a str),
    /// Written as an escape.
    Char(char),
}

impl<'a> JsonStr<'a> {
    /// Takes a literal with its quotes.
    pub(crate) fn new(literal: &'a str) -> Result<Self, LoneSurrogate> {
        let literal = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
        let mut length = 0;
        for piece in (Pieces { rest: literal }) {
            length += match piece? {
                Piece::Run(run) => run.len(),
                Piece::Char(char) => char.len_utf8(),
            };
        }
        Ok(Self { literal, length })
    }

    /// Bytes of the text as UTF-8.
    pub(crate) fn length(self) -> usize {
        self.length
    }

    /// The text, in order.
    pub(crate) fn pieces(self) -> impl Iterator<Item = Piece<'a>> + Send {
        // Checked when this was made.
        Pieces { rest: self.literal }.filter_map(Result::ok)
    }
}

struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, LoneSurrogate>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.rest.find('\\').unwrap_or(self.rest.len());
        match self.rest.split_at_checked(run)? {
            ("", "") => None,
            ("", escape) => {
                let (char, rest) = unescape(escape).unwrap_or((Err(LoneSurrogate), ""));
                self.rest = rest;
                Some(char.map(Piece::Char))
            }
            (run, rest) => {
                self.rest = rest;
                Some(Ok(Piece::Run(run)))
            }
        }
    }
}

/// The character of the escape at the beginning (RFC 8259, section 7), and what follows. None if there is no
/// escape.
fn unescape(text: &str) -> Option<(Result<char, LoneSurrogate>, &str)> {
    let rest = text.strip_prefix('\\')?;
    if rest.starts_with('u') {
        let (first, rest) = unit(text)?;
        let (second, after) = match unit(rest) {
            Some((second, after)) if is_high(first) && is_low(second) => (Some(second), after),
            _ => (None, rest),
        };
        let char = char::decode_utf16([first].into_iter().chain(second)).next()?;
        return Some((char.map_err(|_| LoneSurrogate), after));
    }
    let mut chars = rest.chars();
    let char = match chars.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        // `"`, `\` and `/`.
        other => other,
    };
    Some((Ok(char), chars.as_str()))
}

/// The UTF-16 unit of a `\uXXXX`.
fn unit(text: &str) -> Option<(u16, &str)> {
    let digits = text.strip_prefix("\\u")?;
    let unit = u16::from_str_radix(digits.get(..4)?, 16).ok()?;
    Some((unit, digits.get(4..)?))
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(literal: &str) -> Result<String, LoneSurrogate> {
        let text = JsonStr::new(literal)?;
        let mut decoded = String::new();
        for piece in text.pieces() {
            match piece {
                Piece::Run(run) => decoded.push_str(run),
                Piece::Char(char) => decoded.push(char),
            }
        }
        assert_eq!(decoded.len(), text.length(), "{literal}");
        Ok(decoded)
    }

    #[test]
    fn a_literal_is_decoded_as_serde_json_decodes_it() {
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
            assert_eq!(decoded(literal), Ok(serde_json::from_str::<String>(literal).unwrap()), "{literal}");
        }
    }

    #[test]
    fn an_unpaired_surrogate_is_no_text() {
        for literal in [
            r#""\ud834""#,
            r#""\udd1e""#,
            r#""\ud834x""#,
            r#""\ud834\n""#,
            r#""\ud834\ud834""#,
            r#""\ud834\u0041""#,
            r#""\udd1e\ud834""#,
        ] {
            assert_eq!(decoded(literal), Err(LoneSurrogate), "{literal}");
            assert!(serde_json::from_str::<String>(literal).is_err(), "{literal}");
        }
    }
}
