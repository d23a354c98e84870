//! What stands in records, as bytes.

use std::io;

use further_link_proto::{Ended, ExitStatus, Limit, Usage, WindowSize};
use serde::{Serialize, de::DeserializeOwned};

/// The screen of a terminal at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SavedScreen {
    pub(crate) position: u64,
    pub(crate) size: WindowSize,
    pub(crate) text: String,
}

pub(super) fn small(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

pub(super) fn large(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(super) fn length(content: &[u8]) -> Option<u64> {
    Some(u32::from_le_bytes(content.try_into().ok()?).into())
}

pub(super) fn numbered(content: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = content.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

pub(super) fn input_bytes(number: u64, is_last: bool) -> Vec<u8> {
    [&number.to_le_bytes()[..], &[is_last.into()]].concat()
}

pub(super) fn size_bytes(size: WindowSize) -> [u8; 4] {
    let ([a, b], [c, d]) = (size.rows.to_le_bytes(), size.cols.to_le_bytes());
    [a, b, c, d]
}

pub(super) fn size_of(content: &[u8]) -> Option<WindowSize> {
    let [a, b, c, d] = *content.first_chunk()?;
    Some(WindowSize { rows: u16::from_le_bytes([a, b]), cols: u16::from_le_bytes([c, d]) })
}

pub(super) fn saved_screen(content: &[u8]) -> Option<SavedScreen> {
    let (position, rest) = numbered(content)?;
    let text = String::from_utf8(rest.get(4..)?.to_vec()).ok()?;
    Some(SavedScreen { position, size: size_of(rest)?, text })
}

pub(super) fn exit_bytes(Ended { status, limit, usage }: Ended) -> Vec<u8> {
    let (kind, number) = match status {
        ExitStatus::Exited(code) => (0, code),
        ExitStatus::Signaled(signal) => (1, signal),
    };
    let limit = match limit {
        None => 0,
        Some(Limit::Memory) => 1,
        Some(Limit::Time) => 2,
        Some(Limit::Processes) => 3,
    };
    [&[kind, number, limit][..], &usage.cpu.to_le_bytes(), &usage.memory.to_le_bytes()].concat()
}

pub(super) fn exit_of(content: &[u8]) -> Option<Ended> {
    let ([kind, number, limit], rest) = content.split_first_chunk()?;
    let status = match kind {
        0 => ExitStatus::Exited(*number),
        1 => ExitStatus::Signaled(*number),
        _ => return None,
    };
    let limit = match limit {
        0 => None,
        1 => Some(Limit::Memory),
        2 => Some(Limit::Time),
        3 => Some(Limit::Processes),
        _ => return None,
    };
    let (cpu, memory) = numbered(rest)?;
    let usage = Usage { cpu, memory: u64::from_le_bytes(memory.try_into().ok()?) };
    Some(Ended { status, limit, usage })
}

/// A small value, as JSON.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    // Numbers and words: there is nothing that could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

pub(super) fn of_json<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    serde_json::from_slice(content).ok()
}
