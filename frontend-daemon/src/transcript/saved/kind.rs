//! Kinds of records.

/// All that holds at this moment, as records.
pub(super) const BLOCK: u8 = b'B';
/// What the keeper of kept programs has to say of it.
pub(super) const KEPT: u8 = b'k';
/// The position of the text that follows.
pub(super) const POSITION: u8 = b'p';
pub(super) const SIZE: u8 = b's';
/// Bytes that were read: of standard output, and of standard error.
pub(super) const READ: [u8; 2] = [b'o', b'e'];
/// So many of them are said now.
pub(super) const SAID: [u8; 2] = [b'O', b'E'];
/// Text that no program has written.
pub(super) const WORDS: [u8; 2] = [b'w', b'W'];
/// The screen at a position.
pub(super) const SCREEN: u8 = b'S';
pub(super) const INPUT: u8 = b'i';
/// So many bytes of the input are the program's now.
pub(super) const WRITTEN: u8 = b'n';
pub(super) const KEY: u8 = b'K';
/// A connection to the user channel: what it listens for, what is left of it, and that it has gone.
pub(super) const LISTEN: u8 = b'l';
pub(super) const UNREAD: u8 = b'r';
pub(super) const UNWRITTEN: u8 = b'u';
pub(super) const GONE: u8 = b'g';
pub(super) const PICTURE: u8 = b'P';
/// Another process has taken all of it up.
pub(super) const TAKEN: u8 = b't';
pub(super) const EXIT: u8 = b'x';
pub(super) const ENDING: u8 = b'a';
pub(super) const ENDED: u8 = b'z';
