//! Values that cannot be wrong: checked when they are made, and again when they are decoded.
//!
//! A `UserName` or a `PathText` need not be checked a second time. The helper relies on this check: it
//! stands first between a frontend that was taken over and root.

use std::io::{self, Read};

use bincode::{
    BorrowDecode, Decode, Encode,
    de::{BorrowDecoder, Decoder},
    error::DecodeError,
};

/// Longest user name in bytes: useradd(8) refuses longer ones.
pub const MAX_USER_NAME: usize = 32;
/// Longest path in bytes: `PATH_MAX` of linux/limits.h less its closing NUL.
pub const MAX_PATH: usize = 4095;
/// Longest program text in bytes: the largest WebSocket message is 4 MiB (B3.2), and the text comes in one.
pub const MAX_CODE: u32 = 4 * 1024 * 1024;

/// Longest id of a runner in bytes, without the tilde of a user's own.
pub const MAX_RUNNER_ID: usize = 32;
/// What an id begins with that means a file of the user.
const OWN: char = '~';
/// Most bytes of a client's choices: 64 KiB of arguments, as many of variables, and what their lengths take.
pub const MAX_DETAILS: usize = 256 * 1024;
/// Deepest nesting of a path within an upload: far more than any project has.
pub const MAX_DEPTH: usize = 32;
/// Longest name of one file or directory in bytes: `NAME_MAX` of linux/limits.h.
pub const MAX_NAME: usize = 255;
/// The least and most bytes of the id of a resumable upload: 64 random bits or more, and a name of a file.
const UPLOAD_ID: std::ops::RangeInclusive<usize> = 16..=64;
/// Longest token in bytes: the ones that we make have 43.
pub const MAX_TOKEN: usize = 128;
/// Most bytes that are read of a token's file: it is one line, and what is longer is another file.
const MAX_TOKEN_FILE: u64 = 1024;

/// First names of paths below the work dir that are the helper's own: the cache of downloads, what is being
/// staged, and parts of files.
const HELPERS_OWN: [&str; 3] = [".flcache", ".flupload-", ".flparts"];

/// Whether a name at the top of the work dir is the helper's own.
pub fn is_helpers_own(name: &str) -> bool {
    HELPERS_OWN.iter().any(|own| name.starts_with(own))
}

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Empty, too long, a number, or with a character that no account name has.
    #[error("not a user name")]
    UserName,
    /// Empty, longer than [`MAX_PATH`], or with a NUL byte.
    #[error("not a path")]
    Path,
    /// Not the name of a file of the folders of runners.
    #[error("not the id of a runner")]
    RunnerId,
    /// More than [`MAX_DETAILS`] bytes.
    #[error("arguments and variables longer than {MAX_DETAILS} bytes")]
    Details,
    /// More than [`MAX_CODE`] bytes.
    #[error("program text longer than {MAX_CODE} bytes")]
    Code,
    /// Absolute, empty, going up, too deep, or with a name that no file can have.
    #[error("not a path below a directory")]
    RelativePath,
    /// Too short, too long, or with another character than letters, digits, `-` and `_`.
    #[error("not the id of an upload")]
    UploadId,
    /// Empty, longer than [`MAX_TOKEN`], or with a character that no header can carry.
    #[error("not a token")]
    Token,
}

/// The name of an account. Never a uid: `4294967295` and `0` written as text are refused (the class of
/// CVE-2019-14287).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode)]
pub struct UserName(String);

impl UserName {
    /// Checks the text against what account names can be.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        let fits = (1..=MAX_USER_NAME).contains(&text.len());
        let plain =
            text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | ':' | ','));
        let a_number = text.bytes().all(|b| b.is_ascii_digit());
        if fits && plain && !a_number && !text.starts_with(['-', '+', '~', '.']) {
            Ok(Self(text))
        } else {
            Err(ValueError::UserName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path as the client wrote it: absolute, or relative to the work dir of the user. Only that user's
/// processes open it.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct PathText(String);

impl PathText {
    /// Checks the length and the absence of NUL.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        if (1..=MAX_PATH).contains(&text.len()) && !text.contains('\0') {
            Ok(Self(text))
        } else {
            Err(ValueError::Path)
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a runner: of a file that root wrote, or, after a tilde, of one that the user wrote. A part of
/// a file's name, and never a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode)]
pub struct RunnerId(String);

impl RunnerId {
    /// Checks length and characters.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        let id = text.strip_prefix(OWN).unwrap_or(&text);
        if Self::is_id(id) { Ok(Self(text)) } else { Err(ValueError::RunnerId) }
    }

    /// Whether this can be an id, without a tilde.
    pub fn is_id(text: &str) -> bool {
        let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let other = |byte: u8| first(byte) || matches!(byte, b'+' | b'-' | b'_' | b'.');
        text.len() <= MAX_RUNNER_ID && text.bytes().next().is_some_and(first) && text.bytes().all(other)
    }

    /// The id as it was asked for.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the user's own file, if it is one.
    pub fn own(&self) -> Option<&str> {
        self.0.strip_prefix(OWN)
    }
}

impl std::fmt::Display for RunnerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many bytes of a client's choices ([`crate::Details`]) will come through the pipe of
/// [`crate::Event::Data`], before the program text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct DetailsLength(u32);

impl DetailsLength {
    /// Checks the length against [`MAX_DETAILS`].
    pub fn new(bytes: usize) -> Result<Self, ValueError> {
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_DETAILS);
        length.map(Self).ok_or(ValueError::Details)
    }

    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

/// How many bytes of program text will come through the pipe of [`crate::Event::Data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct CodeLength(u32);

impl CodeLength {
    /// Checks the length against [`MAX_CODE`].
    pub fn new(bytes: usize) -> Result<Self, ValueError> {
        u32::try_from(bytes).ok().filter(|n| *n <= MAX_CODE).map(Self).ok_or(ValueError::Code)
    }

    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

/// A path that stays below the directory it is taken from, whatever that is: plain names joined by single
/// slashes. Never empty, so it cannot mean that directory itself (D11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode)]
pub struct RelativePath(String);

impl RelativePath {
    /// Checks each name: none is empty, `.`, `..`, too long, or has a NUL.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        let plain = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME;
        let fits = text.len() <= MAX_PATH && !text.contains('\0');
        if fits && text.split('/').all(plain) && text.split('/').count() <= MAX_DEPTH {
            Ok(Self(text))
        } else {
            Err(ValueError::RelativePath)
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its names, from the top down. There is at least one.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

/// What a client calls a resumable upload. A file of the user has this name, too: it is plain, and begins
/// with no dot.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct UploadId(String);

impl UploadId {
    /// Checks length and characters.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if UPLOAD_ID.contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(ValueError::UploadId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret that proves that a client may run programs as a user that the helper guards. Printed by
/// nothing.
#[derive(Clone, PartialEq, Eq, Encode)]
pub struct Token(String);

impl Token {
    /// Checks the length, and that all is printable ASCII without spaces (RFC 6750, section 2.1, allows
    /// less).
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = text.into();
        if (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(ValueError::Token)
        }
    }

    /// Reads the first line of a token's file. Its owner and mode are the caller's to check.
    pub fn read_first_line(file: impl Read) -> io::Result<Self> {
        let mut text = String::new();
        file.take(MAX_TOKEN_FILE).read_to_string(&mut text)?;
        let line = text.lines().next().unwrap_or_default().trim();
        Self::new(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The secret itself, for what is made of it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Whether it is this secret, in a time that depends on the lengths alone.
    pub fn is(&self, secret: &Self) -> bool {
        are_same(self.0.as_bytes(), secret.0.as_bytes())
    }
}

/// Whether two secrets are the same, in a time that depends on the lengths alone.
pub fn are_same(own: &[u8], other: &[u8]) -> bool {
    let differing = own.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
    own.len() == other.len() && std::hint::black_box(differing) == 0
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Decoding goes through the same check as making: there is no second way in.
macro_rules! decode_checked {
    ($type:ident, $inner:ty, $check:expr) => {
        impl<C> Decode<C> for $type {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                let inner = <$inner as Decode<C>>::decode(decoder)?;
                $check(inner).map_err(|error| DecodeError::OtherString(error.to_string()))
            }
        }
        impl<'de, C> BorrowDecode<'de, C> for $type {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Decode::decode(decoder)
            }
        }
    };
}

decode_checked!(UserName, String, Self::new);
decode_checked!(PathText, String, Self::new);
decode_checked!(RelativePath, String, Self::new);
decode_checked!(Token, String, Self::new);
decode_checked!(RunnerId, String, Self::new);
decode_checked!(UploadId, String, Self::new);
decode_checked!(DetailsLength, u32, |n| {
    usize::try_from(n).map_err(|_| ValueError::Details).and_then(Self::new)
});
decode_checked!(CodeLength, u32, |n| usize::try_from(n).map_err(|_| ValueError::Code).and_then(Self::new));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_runner_is_one_plain_name() {
        for id in ["c", "c++", "python3", "lua5.4", "my_basic-2", "7", "~zig", &"x".repeat(32)] {
            assert_eq!(RunnerId::new(id).unwrap().own().is_some(), id.starts_with('~'), "{id}");
        }
        for text in
            ["", "~", "~~c", ".c", "-c", "C", "a/b", "..", "~/c", "a b", "ü", "a\0", "a:b", &"x".repeat(33)]
        {
            assert!(RunnerId::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn user_names_are_names_and_never_numbers_options_or_paths() {
        for good in ["pi", "root", "_apt", "john.doe", "systemd-network", "user$", "Ünal", &"u".repeat(32)] {
            assert!(UserName::new(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "0",
            "1000",
            "4294967295",
            "-x",
            "+pi",
            "~pi",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\0b",
            "a\nb",
            &"u".repeat(33),
        ] {
            assert_eq!(UserName::new(bad), Err(ValueError::UserName), "{bad:?}");
        }
    }

    #[test]
    fn paths_have_no_nul_and_fit_the_kernel() {
        for good in ["a", "/", "../x", " ", "ä/b c", &"p".repeat(MAX_PATH)] {
            assert!(PathText::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\0b", &"p".repeat(MAX_PATH + 1)] {
            assert_eq!(PathText::new(bad), Err(ValueError::Path));
        }
    }

    #[test]
    fn paths_of_an_upload_stay_below_their_directory() {
        for good in
            ["a", "a/b/c.py", "...", "..a/ b", "-", "ä/€", &"n".repeat(MAX_NAME), &["d"; 32].join("/")]
        {
            assert!(RelativePath::new(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "/",
            "/a",
            "a/",
            "a//b",
            "./a",
            "a/.",
            "../a",
            "a/../b",
            "a/..",
            "a\0b",
            &"n".repeat(MAX_NAME + 1),
            &["d"; 33].join("/"),
        ] {
            assert_eq!(RelativePath::new(bad), Err(ValueError::RelativePath), "{bad:?}");
        }
        let path = RelativePath::new("a/b/c").unwrap();
        assert_eq!(path.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn the_id_of_an_upload_is_a_plain_name_of_a_file() {
        for good in ["0123456789abcdef", "-_-_-_-_-_-_-_-_", &"Z".repeat(64)] {
            assert!(UploadId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "0123456789abcde",
            "0123456789abcde/",
            ".............../",
            ".0123456789abcdef",
            "ü23456789abcdefg",
        ] {
            assert_eq!(UploadId::new(bad), Err(ValueError::UploadId), "{bad}");
        }
        assert!(UploadId::new("Z".repeat(65)).is_err());
    }

    #[test]
    fn a_token_is_compared_whole_and_never_printed() {
        let token = Token::new("s3cret").unwrap();
        assert!(token.is(&Token::new("s3cret").unwrap()));
        for other in ["s3creT", "s3cre", "s3crets", "x"] {
            assert!(!token.is(&Token::new(other).unwrap()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for bad in ["", "a b", "a\n", "ä", &"t".repeat(MAX_TOKEN + 1)] {
            assert_eq!(Token::new(bad), Err(ValueError::Token), "{bad:?}");
        }
    }

    #[test]
    fn program_text_has_a_limit() {
        assert_eq!(CodeLength::new(0).unwrap().bytes(), 0);
        assert_eq!(CodeLength::new(4 * 1024 * 1024).unwrap().bytes(), MAX_CODE);
        assert_eq!(CodeLength::new(4 * 1024 * 1024 + 1), Err(ValueError::Code));
    }
}
