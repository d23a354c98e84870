//! Limits of the messages of clients.

/// Largest message that a client may send, then the connection ends with 1009 (B3.2).
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Most values in one message. Each costs up to a hundred bytes once it is read, and 4 MiB of text can have
/// two millions of them; the largest upload has some thousands.
pub const MAX_VALUES: usize = 32 * 1024;
/// Longest id of a process, in bytes: each message about the process carries it.
pub const MAX_ID: usize = 16 * 1024;
