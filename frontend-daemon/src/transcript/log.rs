//! The output of a kept program as records in one order: text of its streams, and changes of the terminal's
//! size between them. The newest of it is kept, and the position of each byte is known.

use std::collections::VecDeque;

use further_link_api::OutputStream;
use further_link_proto::WindowSize;

/// Small pieces grow together up to this: a viewer that is behind gets fewer messages, and a byte at a time
/// costs no record each.
const MERGED: usize = 16 * 1024;
/// What a record costs beside its text, about: a program that only resizes must not fill the memory.
pub(super) const RECORD_COST: usize = 64;

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Text { stream: OutputStream, text: String },
    Resized(WindowSize),
}

impl Record {
    fn len(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Resized(_) => 0,
        }
    }
}

/// A place in the log: before this byte of this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    record: u64,
    offset: usize,
}

/// What stands at a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// Text, and the position behind it.
    Text {
        stream: OutputStream,
        text: &'a str,
        seq: u64,
    },
    Resized(WindowSize),
    /// The cursor is at the end.
    End,
    /// What stood there was dropped.
    Dropped,
}

/// A part of the log that its reader has to itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Resized(WindowSize),
}

/// The log.
pub(crate) struct Log {
    records: VecDeque<(u64, Record)>,
    /// Number of the first record.
    first: u64,
    /// Bytes of text in all, and in the records that are left.
    end: u64,
    kept: usize,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::starting_at(0)
    }

    /// One whose text before this position is gone.
    pub(crate) fn starting_at(position: u64) -> Self {
        Self { records: VecDeque::new(), first: 0, end: position, kept: 0 }
    }

    /// The position behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The position of the first byte that is left.
    pub(crate) fn start(&self) -> u64 {
        self.records.front().map_or(self.end, |(start, _)| *start)
    }

    /// What the records cost.
    pub(crate) fn cost(&self) -> usize {
        self.kept + self.records.len() * RECORD_COST
    }

    /// Appends text.
    pub(crate) fn push_text(&mut self, stream: OutputStream, text: &str) {
        self.kept += text.len();
        let start = self.end;
        self.end += u64::try_from(text.len()).unwrap_or(u64::MAX);
        if let Some((_, Record::Text { stream: last, text: merged })) = self.records.back_mut()
            && *last == stream
            && merged.len() + text.len() <= MERGED
        {
            merged.push_str(text);
            return;
        }
        if let Some((_, Record::Text { text, .. })) = self.records.back_mut() {
            text.shrink_to_fit();
        }
        self.records.push_back((start, Record::Text { stream, text: text.to_owned() }));
    }

    /// Appends a change of the size.
    pub(crate) fn push_size(&mut self, size: WindowSize) {
        self.records.push_back((self.end, Record::Resized(size)));
    }

    /// Whether the oldest record is too much: what stays without it costs at least so much.
    pub(crate) fn is_above(&self, limit: usize) -> bool {
        let oldest = self.records.front().map(|(_, oldest)| oldest.len() + RECORD_COST);
        oldest.is_some_and(|oldest| self.cost().saturating_sub(oldest) >= limit)
    }

    /// Takes the oldest record out if it is too much.
    pub(crate) fn pop_above(&mut self, limit: usize) -> Option<Record> {
        if !self.is_above(limit) {
            return None;
        }
        let (_, oldest) = self.records.pop_front()?;
        self.first += 1;
        self.kept -= oldest.len();
        Some(oldest)
    }

    /// Whether so much more would push text out behind this position.
    pub(crate) fn would_drop(&self, more: usize, limit: usize, position: u64) -> bool {
        let mut cost = self.cost() + more + RECORD_COST;
        for (start, record) in &self.records {
            let own = record.len() + RECORD_COST;
            if cost <= limit || cost.saturating_sub(own) < limit {
                return false;
            }
            if start + u64::try_from(record.len()).unwrap_or(u64::MAX) > position {
                return true;
            }
            cost -= own;
        }
        false
    }

    /// The place of the oldest byte.
    pub(crate) fn oldest(&self) -> Cursor {
        Cursor { record: self.first, offset: 0 }
    }

    /// The place behind the oldest record.
    pub(crate) fn second(&self) -> Cursor {
        Cursor { record: self.first + 1, offset: 0 }
    }

    /// The place behind everything.
    pub(crate) fn newest(&self) -> Cursor {
        match self.records.back() {
            // What is appended may become a part of the last record.
            Some((_, last @ Record::Text { .. })) => {
                Cursor { record: self.number_of(self.records.len() - 1), offset: last.len() }
            }
            _ => Cursor { record: self.number_of(self.records.len()), offset: 0 },
        }
    }

    /// The place of a position, if it is kept and between two characters.
    pub(crate) fn find(&self, position: u64) -> Option<Cursor> {
        if !(self.start()..=self.end).contains(&position) {
            return None;
        }
        // The last record that begins before it: a change of size at this very position comes after it.
        let index = self.records.partition_point(|(start, _)| *start < position);
        let Some(index) = index.checked_sub(1) else { return Some(self.oldest()) };
        let (start, record) = self.records.get(index)?;
        let offset = usize::try_from(position - start).ok()?;
        match record {
            Record::Text { text, .. } if text.is_char_boundary(offset) => {
                Some(Cursor { record: self.number_of(index), offset })
            }
            _ => None,
        }
    }

    /// How many bytes of text stand behind the cursor.
    pub(crate) fn behind(&self, cursor: Cursor) -> u64 {
        self.end - self.position(cursor)
    }

    /// The position of the next byte at a cursor; of what has gone, that of the oldest byte.
    pub(crate) fn position(&self, cursor: Cursor) -> u64 {
        if cursor.record < self.first {
            return self.start();
        }
        self.records.get(self.index_of(cursor)).map_or(self.end, |(start, record)| {
            start + u64::try_from(cursor.offset.min(record.len())).unwrap_or(u64::MAX)
        })
    }

    /// What stands at the cursor, and the cursor behind it.
    pub(crate) fn entry(&self, cursor: Cursor) -> (Entry<'_>, Cursor) {
        if cursor.record < self.first {
            return (Entry::Dropped, cursor);
        }
        let next = Cursor { record: cursor.record + 1, offset: 0 };
        match self.records.get(self.index_of(cursor)) {
            None => (Entry::End, cursor),
            Some((_, Record::Resized(size))) => (Entry::Resized(*size), next),
            Some((start, Record::Text { stream, text })) => match text.get(cursor.offset..) {
                None | Some("") => {
                    // The last record may still grow.
                    let is_last = self.index_of(cursor) + 1 == self.records.len();
                    if is_last { (Entry::End, cursor) } else { self.entry(next) }
                }
                Some(rest) => {
                    let seq = start + u64::try_from(text.len()).unwrap_or(u64::MAX);
                    let behind = Cursor { record: cursor.record, offset: text.len() };
                    (Entry::Text { stream: *stream, text: rest, seq }, behind)
                }
            },
        }
    }

    /// What stands at the cursor, at most so much of it, and the cursor behind it. `None` at the end.
    pub(crate) fn piece(&self, cursor: Cursor, most: usize) -> Option<(Piece, Cursor)> {
        match self.entry(cursor) {
            (Entry::Text { text, .. }, behind) => {
                let piece = text.get(..text.floor_char_boundary(most))?;
                let left = text.len() - piece.len();
                Some((Piece::Text(piece.to_owned()), Cursor { offset: behind.offset - left, ..behind }))
            }
            (Entry::Resized(size), behind) => Some((Piece::Resized(size), behind)),
            (Entry::End | Entry::Dropped, _) => None,
        }
    }

    fn number_of(&self, index: usize) -> u64 {
        self.first + u64::try_from(index).unwrap_or(u64::MAX)
    }

    fn index_of(&self, cursor: Cursor) -> usize {
        usize::try_from(cursor.record - self.first).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: WindowSize = WindowSize { rows: 5, cols: 9 };

    fn read(log: &Log, mut cursor: Cursor) -> (String, u64) {
        let (mut all, mut last) = (String::new(), log.position(cursor));
        loop {
            let (entry, next) = log.entry(cursor);
            match entry {
                Entry::Text { text, seq, .. } => {
                    all.push_str(text);
                    last = seq;
                }
                Entry::Resized(size) => {
                    assert_eq!(size, SIZE);
                    all.push('|');
                }
                Entry::End => return (all, last),
                Entry::Dropped => panic!("gone"),
            }
            cursor = next;
        }
    }

    #[test]
    fn whatever_the_pieces_each_position_gives_the_rest_and_the_end_of_each_text_is_its_seq() {
        for split in 1..12 {
            let whole = "aäb€c𝄞d".repeat(3);
            let chars: Vec<char> = whole.chars().collect();
            let mut log = Log::new();
            for (index, piece) in chars.chunks(split).enumerate() {
                let stream = if index % 3 == 0 { OutputStream::Stderr } else { OutputStream::Stdout };
                log.push_text(stream, &piece.iter().collect::<String>());
            }
            for position in 0..=whole.len() {
                let cursor = log.find(u64::try_from(position).unwrap());
                let expected = whole.get(position..).map(|rest| (rest.to_owned(), log.end()));
                assert_eq!(cursor.map(|cursor| read(&log, cursor)), expected, "{position}");
            }
            assert_eq!(log.find(log.end() + 1), None);
        }
    }

    #[test]
    fn what_follows_the_newest_place_is_all_that_comes_after_it_and_nothing_else() {
        let mut log = Log::new();
        for text in ["", "a", "b"] {
            log.push_text(OutputStream::Stdout, text);
            let cursor = log.newest();
            assert_eq!(log.entry(cursor).0, Entry::End);
            assert_eq!(log.behind(cursor), 0);
            log.push_size(SIZE);
            log.push_text(OutputStream::Stdout, "x");
            log.push_text(OutputStream::Stdout, "y");
            assert_eq!(read(&log, cursor), ("|xy".to_owned(), log.end()));
        }
    }

    #[test]
    fn the_oldest_goes_first_and_a_place_in_it_is_gone() {
        let mut log = Log::new();
        let first = log.newest();
        for _ in 0..10 {
            log.push_text(OutputStream::Stdout, &"x".repeat(MERGED));
        }
        let limit = 4 * (MERGED + RECORD_COST);
        let mut gone = 0;
        while let Some(Record::Text { text, .. }) = log.pop_above(limit) {
            gone += text.len();
        }
        assert_eq!(gone, 6 * MERGED);
        assert_eq!(log.start(), u64::try_from(gone).unwrap());
        assert_eq!(log.entry(first).0, Entry::Dropped);
        assert_eq!(log.find(log.start() - 1), None);
        assert_eq!(read(&log, log.oldest()).0.len(), 4 * MERGED);
    }

    #[test]
    fn sizes_alone_cost_room_as_well() {
        let mut log = Log::new();
        for _ in 0..1000 {
            log.push_size(SIZE);
            while log.pop_above(6400).is_some() {}
        }
        assert!(log.cost() <= 6400 + RECORD_COST, "{}", log.cost());
    }
}
