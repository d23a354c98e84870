//! Reads a journal: what holds at its end, and what was said.

use std::collections::VecDeque;

use further_link_api::OutputStream;
use further_link_proto::WindowSize;

use crate::{
    transcript::journal::{JournalError, Record, for_each},
    transcript::saved::bytes::{exit_of, large, length, numbered, of_json, size_of},
    transcript::saved::kind,
    transcript::saved::now::{Now, consume},
};

/// What a program has said, with what happened to its terminal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Text(OutputStream, String),
    Size(WindowSize),
}

/// Reads a journal, record by record.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) now: Now,
    pub(super) said: Vec<Said>,
    pub(super) unsaid: [Vec<u8>; 2],
    pub(super) blocks: VecDeque<(u64, u64)>,
    /// Position and size at the first block.
    pub(super) first: Option<(u64, Option<WindowSize>)>,
}

impl Reader {
    pub(super) fn read(&mut self, record: &Record<'_>) -> Result<(), JournalError> {
        if record.kind != kind::BLOCK {
            // All begins with a block.
            return if self.first.is_some() { self.record(record) } else { Err(JournalError::Damaged) };
        }
        if self.first.is_none() {
            let whole = for_each(record.content, record.place.start, &mut |record| self.record(record))?;
            if whole != record.content.len() {
                return Err(JournalError::Damaged);
            }
            self.first = Some((self.now.position, self.now.size));
            self.said.clear();
        }
        self.blocks.push_back((self.now.position, record.place.start - 5));
        Ok(())
    }

    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), JournalError> {
        self.understand(record).ok_or(JournalError::Damaged)
    }

    fn understand(&mut self, record: &Record<'_>) -> Option<()> {
        let (content, place) = (record.content, &record.place);
        let now = &mut self.now;
        match record.kind {
            kind::KEPT => now.kept = content.to_vec(),
            kind::POSITION => now.position = u64::from_le_bytes(content.try_into().ok()?),
            kind::SIZE => {
                let size = size_of(content)?;
                now.size = Some(size);
                self.said.push(Said::Size(size));
            }
            kind::SCREEN => now.screen = Some(place.clone()),
            kind::INPUT => {
                let (number, rest) = content.split_first_chunk()?;
                let (is_last, rest) = rest.split_first()?;
                let text = place.end - large(rest.len())..place.end;
                now.input(u64::from_le_bytes(*number), *is_last == 1, text);
            }
            kind::WRITTEN => consume(&mut now.unwritten, length(content)?),
            kind::KEY => now.keys.push(content.to_vec()),
            kind::LISTEN => {
                let (number, key) = numbered(content)?;
                let key = String::from_utf8(key.to_vec()).ok()?;
                now.connections.entry(number).or_default().keys.push(key);
            }
            kind::UNREAD => {
                let (number, unread) = numbered(content)?;
                now.connections.entry(number).or_default().left = Some((unread.to_vec(), Vec::new()));
            }
            kind::UNWRITTEN => {
                let (number, unwritten) = numbered(content)?;
                if let Some((_, left)) = &mut now.connections.entry(number).or_default().left {
                    *left = unwritten.to_vec();
                }
            }
            kind::GONE => drop(now.connections.remove(&numbered(content)?.0)),
            kind::PICTURE => now.picture = Some(content.to_vec()),
            kind::TAKEN => {
                now.picture = None;
                for connection in now.connections.values_mut() {
                    connection.left = None;
                }
            }
            kind::EXIT => now.exit = Some(exit_of(content)?),
            kind::ENDING => now.ending = Some(of_json(content)?),
            kind::ENDED => now.ended = Some(of_json(content)?),
            _ => return self.output(record),
        }
        Some(())
    }

    fn output(&mut self, record: &Record<'_>) -> Option<()> {
        for (index, stream) in [OutputStream::Stdout, OutputStream::Stderr].into_iter().enumerate() {
            let unsaid = self.unsaid.get_mut(index)?;
            let places = self.now.unsaid.get_mut(index)?;
            let is = |kinds: [u8; 2]| kinds.get(index) == Some(&record.kind);
            if is(kind::READ) {
                unsaid.extend_from_slice(record.content);
                if !record.place.is_empty() {
                    places.push_back(record.place.clone());
                }
                return Some(());
            }
            let text = if is(kind::SAID) {
                let (read, text_length) = record.content.split_at_checked(4)?;
                let read = length(read)?;
                consume(places, read);
                let bytes: Vec<u8> = unsaid.drain(..usize::try_from(read).ok()?.min(unsaid.len())).collect();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if large(text.len()) != length(text_length)? {
                    return None;
                }
                text
            } else if is(kind::WORDS) {
                String::from_utf8(record.content.to_vec()).ok()?
            } else {
                continue;
            };
            self.now.position += large(text.len());
            self.said.push(Said::Text(stream, text));
            return Some(());
        }
        None
    }
}
