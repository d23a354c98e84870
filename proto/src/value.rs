//! Values that cannot be wrong: checked when they are made, and again when they are decoded.
//!
//! Whoever holds a `UserName` or a `PathText` need not check it a second time. The helper relies on this: it is the
//! first thing that stands between a frontend that was taken over and root.

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

/// Why a value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Empty, too long, a number, or with a character that no account name has.
    #[error("not a user name")]
    UserName,
    /// Empty, longer than [`MAX_PATH`], or with a NUL byte.
    #[error("not a path")]
    Path,
    /// More than [`MAX_CODE`] bytes.
    #[error("program text longer than {MAX_CODE} bytes")]
    Code,
}

/// The name of an account. Never a uid: `4294967295` and `0` written as text are refused (the class of CVE-2019-14287).
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

/// A path as the client wrote it: absolute, or relative to the work dir of the user. Opened by nobody but that user.
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

/// How many bytes of program text will come through the pipe of [`crate::Event::Code`].
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
decode_checked!(CodeLength, u32, |n| usize::try_from(n).map_err(|_| ValueError::Code).and_then(Self::new));

#[cfg(test)]
mod tests {
    use super::*;

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
    fn program_text_has_a_limit() {
        assert_eq!(CodeLength::new(0).unwrap().bytes(), 0);
        assert_eq!(CodeLength::new(4 * 1024 * 1024).unwrap().bytes(), MAX_CODE);
        assert_eq!(CodeLength::new(4 * 1024 * 1024 + 1), Err(ValueError::Code));
    }
}
